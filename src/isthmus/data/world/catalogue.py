"""A domain's items: what they are in truth, and what their pages say of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.world.spec import DomainSpec, WorldConfig
from isthmus.data.world.streams import stream
from isthmus.data.world.tastes import N_STYLES
from isthmus.data.world.themes import TOPICS_PER_THEME, Theme
from isthmus.data.world.titles import Card, deal, names_of_people

MAKER = {"books": "author", "films": "director", "gear": "brand", "courses": "teacher"}
# How far prices spread around what is usual, in log units.
_PRICE_SPREAD = 0.35


@dataclass(frozen=True)
class Catalogue:
    """Items of one domain, in index order.

    Attributes:
        table: columns `item_id`, `title`, `category` (both null where the text is missing), the
            maker (`author`, `director`, `brand` or `teacher`), `price`, `risk` (1 to 5) and
            `released` (Unix seconds).
        topic: int64 [n_items]; the true topic, whatever the text says.
        style: float32 [n_items, N_STYLES]; what no text tells.
        quality: float32 [n_items]; standard normal, liked by everybody.
        popularity: float64 [n_items]; how often an item takes a place that is filled by
            popularity, sums to 1.
        cost: float32 [n_items]; standardised log price.
        risk: float32 [n_items]; 1 to 5.
        released: float64 [n_items]; Unix seconds, minus infinity where always there.
        misled: bool [n_items]; the text speaks of another topic.
    """

    table: pl.DataFrame
    topic: NDArray[np.int64]
    style: NDArray[np.float32]
    quality: NDArray[np.float32]
    popularity: NDArray[np.float64]
    cost: NDArray[np.float32]
    risk: NDArray[np.float32]
    released: NDArray[np.float64]
    misled: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.topic)


def stock(config: WorldConfig, spec: DomainSpec, themes: tuple[Theme, ...]) -> Catalogue:
    """Draw the items of one domain and write their pages."""
    rng = stream(config.seed, spec.name, "catalogue")
    n, n_topics = spec.n_items, config.n_topics
    topic = rng.permutation(np.arange(n) % n_topics)
    quality = rng.standard_normal(n, np.float32)
    # The better an item, the more popular, but far from always.
    rank = np.argsort(np.argsort(-(quality + 1.5 * rng.standard_normal(n))))
    popularity = (rank + 3.0) ** -config.popularity_bias
    theme_risk = np.array([theme.risk for theme in themes])
    risk = np.clip(theme_risk[topic // TOPICS_PER_THEME] + rng.integers(-1, 2, n), 1, 5)
    new = rng.random(n) < config.new_items
    half = config.days * 43_200.0
    released = np.where(new, config.start + half * (1 + 0.9 * rng.random(n)), -np.inf)
    style = rng.standard_normal((n, N_STYLES), np.float32)
    misled = rng.random(n) < config.misleading_text
    told = np.where(misled, (topic + rng.integers(1, n_topics, n)) % n_topics, topic)
    cards = _cards(config, spec, themes, told)
    price = np.array([card.price for card in cards])
    price *= np.exp(_PRICE_SPREAD * rng.standard_normal(n))
    silent = rng.random(n) < config.missing_text
    table = pl.DataFrame(
        {
            "item_id": [f"{spec.name[0]}{i:05d}" for i in range(n)],
            "title": [None if s else c.title for c, s in zip(cards, silent, strict=True)],
            "category": [None if s else c.category for c, s in zip(cards, silent, strict=True)],
            MAKER[spec.name]: [card.maker for card in cards],
            "price": np.maximum(np.round(price), 2) - 0.01,
            "risk": risk.astype(np.int8),
            "released": np.where(new, released, config.start).astype(np.int64),
        },
        schema_overrides={"title": pl.String, "category": pl.String},
    )
    log_price = np.log(price)
    return Catalogue(
        table=table,
        topic=topic,
        style=style,
        quality=quality,
        popularity=popularity / popularity.sum(),
        cost=((log_price - log_price.mean()) / (log_price.std() + 1e-9)).astype(np.float32),
        risk=risk.astype(np.float32),
        released=released,
        misled=misled,
    )


def _cards(
    config: WorldConfig, spec: DomainSpec, themes: tuple[Theme, ...], told: NDArray[np.int64]
) -> list[Card]:
    """One card per item, dealt by the topic its text tells of, each with a maker."""
    decks, makers = [], []
    for i in range(config.n_topics):
        theme = themes[i // TOPICS_PER_THEME]
        topic = theme.topics[i % TOPICS_PER_THEME]
        rng = stream(config.seed, spec.name, "titles", topic.name)
        decks.append(deal(spec.name, theme, topic, rng))
        # About six items by each author, who keeps to one topic.
        makers.append(names_of_people(1 + spec.n_items // (6 * config.n_topics), rng))
    choice = stream(config.seed, spec.name, "makers").random(len(told))
    cards = []
    for topic_told, share in zip(told.tolist(), choice.tolist(), strict=True):
        card = next(decks[topic_told])
        names = makers[topic_told]
        maker = card.maker or names[int(share * len(names))]
        cards.append(Card(card.title, card.category, card.price, maker))
    return cards
