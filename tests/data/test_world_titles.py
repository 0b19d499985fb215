"""The generated catalogues read like catalogues."""

import re
from itertools import islice

import numpy as np
import polars as pl
import pytest

from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.data.world.themes import choose_themes
from isthmus.data.world.titles import deal

DOMAINS = ("books", "films", "gear", "courses")


@pytest.fixture(scope="module")
def catalogues():
    config = WorldConfig(
        n_users=20, domains=tuple(DomainSpec(name=name, n_items=600) for name in DOMAINS)
    )
    return generate_world(config).catalogues


@pytest.mark.parametrize("domain", DOMAINS)
def test_titles_are_whole_and_mostly_unique(catalogues, domain):
    table = catalogues[domain].table
    titles = table["title"].drop_nulls()
    assert titles.n_unique() / len(titles) > 0.97
    for title in titles:
        assert title == title.strip()
        assert 3 <= len(title) <= 100
        assert not re.search(r"[{}]|  |\bNone\b|\b(\w+) \1\b", title), title
        assert not re.search(r"\b[Aa] [AEIOaeio]\w", title), title
    for path in table["category"].drop_nulls():
        parts = path.split(" > ")
        assert 2 <= len(parts) <= 3
        assert len(set(parts)) == len(parts), path


@pytest.mark.parametrize("domain", DOMAINS)
def test_few_texts_are_missing_or_misleading(catalogues, domain):
    catalogue = catalogues[domain]
    table = catalogue.table
    missing = table["title"].is_null()
    assert (missing == table["category"].is_null()).all()
    assert 0 < missing.mean() < 0.06
    assert 0 < catalogue.misled.mean() < 0.06


def test_every_theme_speaks_in_every_domain_in_its_own_words(catalogues):
    themes = choose_themes(28)
    words = {
        "Coffee": "coffee|espresso|latte|barista|crema|roast",
        "Trail running": "runn|trail|ultra|miles?",
        "Astronomy": "star|planet|astro|moon|telescope|orion|saturn|constellation|sky|observatory",
        "Gardening": "garden|vegetable|rose|plant|allotment|seed|compost|tomatoes",
    }
    for name, pattern in words.items():
        at = [theme.name for theme in themes].index(name)
        for domain, catalogue in catalogues.items():
            told = (catalogue.topic // 3 == at) & ~catalogue.misled
            text = catalogue.table.filter(pl.Series(told)).drop_nulls("title")
            said = text["title"] + " " + text["category"]
            share = said.str.to_lowercase().str.contains(pattern).mean()
            assert share > 0.7, (name, domain, said.to_list())
    for a, b in (("books", "gear"), ("films", "courses"), ("books", "films")):
        both = set(catalogues[a].table["title"]) & set(catalogues[b].table["title"]) - {None}
        assert len(both) < 6


def test_an_item_tells_its_own_topic_unless_it_misleads(catalogues):
    topics = [topic for theme in choose_themes(28) for topic in theme.topics]
    gear = catalogues["gear"]
    nouns = [[product.noun for product in topic.products] for topic in topics]
    own = np.array(
        [
            title is None or any(noun in title for noun in nouns[topic])
            for title, topic in zip(gear.table["title"], gear.topic, strict=True)
        ]
    )
    np.testing.assert_array_equal(own | gear.misled, True)
    assert not own[gear.misled & gear.table["title"].is_not_null().to_numpy()].any()


def test_makers_prices_and_risks_are_plausible(catalogues):
    for domain, maker in zip(DOMAINS, ("author", "director", "brand", "teacher"), strict=True):
        table = catalogues[domain].table
        assert table[maker].null_count() == 0
        assert 1.5 < table.group_by(maker).len()["len"].mean() < 40
        assert (table["price"] > 1).all()
        assert table["risk"].is_between(1, 5).all()
    gear = catalogues["gear"].table.drop_nulls("title")
    assert all(t.startswith(b) for t, b in zip(gear["title"], gear["brand"], strict=True))
    machine, tea = (
        gear.filter(pl.col("title").str.contains(noun))["price"].mean()
        for noun in ("espresso machine|kiln|camera|guitar amplifier", "seed|reeds|yarn|tray")
    )
    assert machine > 3 * tea


def test_a_deck_never_ends_and_never_repeats():
    theme = choose_themes(28)[0]
    for domain in DOMAINS:
        cards = islice(deal(domain, theme, theme.topics[0], np.random.default_rng(0)), 3000)
        titles = [card.title for card in cards]
        assert len(set(titles)) == len(titles)
