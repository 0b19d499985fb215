"""Profiles say what a history holds, with the evidence, and what it suggests elsewhere."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from recommender_world import by_group, fitted, set_by_hand

from isthmus.data.dataset import Domain
from isthmus.errors import RequestError
from isthmus.recommender.profile import HALF_LIFE_DAYS, recency
from isthmus.recommender.themes import Themes
from isthmus.scoring import Request, Requests


def _active(n_domains: int = 2) -> str:
    events = fitted().dataset.events
    for user, name in enumerate(fitted().dataset.user_ids):
        span = slice(events.offsets[user], events.offsets[user + 1])
        if len(set(events.domain[span].tolist())) == n_domains and span.stop - span.start > 9:
            return str(name)
    raise AssertionError("the world has no such user")


def test_shares_and_counts_are_those_of_the_history() -> None:
    recommender, user = fitted(), _active()
    profile = recommender.profile(user)
    dataset = recommender.dataset
    requests = Requests.of_users(dataset, np.array([dataset.user_index[user]]), max_history=10_000)
    weight = recency(requests)
    assert profile.n_events == len(weight) == sum(d.n_events for d in profile.domains)
    for found in profile.domains:
        d = dataset.domain_index(found.domain)
        here = requests.domain == d
        assert found.n_events == here.sum()
        assert np.isclose(found.share, weight[here].sum() / weight.sum())
        paths = dataset.domains[d].items["category"].gather(requests.item[here]).to_list()
        for interest in found.interests:
            mine = [path is not None and path.startswith(interest.name) for path in paths]
            if interest.name in {p.rsplit(" > ", 1)[0] for p in paths if p}:
                assert interest.n_events == sum(mine)
                expected = weight[here][mine].sum() / weight[here].sum()
                assert np.isclose(interest.share, expected)
        shares = [interest.share for interest in found.interests]
        assert shares == sorted(shares, reverse=True)


def test_events_fade_by_half_in_the_half_life_and_without_a_clock_by_order() -> None:
    day = 86_400.0
    history = [(0, 1), (0, 2)]
    timed = Requests.of([Request(history, times=[0.0, HALF_LIFE_DAYS * day])])
    assert np.allclose(recency(timed), [0.5, 1.0])
    untimed = recency(Requests.of([Request(history)]))
    assert untimed[0] < untimed[1] == 1.0


def test_what_the_other_domain_suggests_stands_out_against_the_catalogue() -> None:
    profile = set_by_hand(gate=1.0).profile(_active())
    assert {s.domain: s.sources for s in profile.suggestions} == {
        "books": ("gear",),
        "gear": ("books",),
    }
    for suggestion in profile.suggestions:
        assert suggestion.themes or suggestion.note
        for theme in suggestion.themes:
            assert theme.share > theme.of_catalogue > 0
            assert theme.items


def test_a_shut_gate_suggests_nothing_and_says_so() -> None:
    for suggestion in set_by_hand(gate=0.0).profile(_active()).suggestions:
        assert not suggestion.themes
        assert suggestion.note is not None
        assert "nothing is carried over" in suggestion.note


def test_what_is_carried_over_follows_the_persons_own_group() -> None:
    open_to_them = set_by_hand(gate=by_group(newcomers=0.0, others=1.0)).profile(_active())
    assert open_to_them.suggestions == set_by_hand(gate=1.0).profile(_active()).suggestions
    shut_to_them = set_by_hand(gate=by_group(newcomers=1.0, others=0.0)).profile(_active())
    assert shut_to_them.suggestions == set_by_hand(gate=0.0).profile(_active()).suggestions


def test_a_profile_is_plain_values_and_readable_lines() -> None:
    profile = set_by_hand(gate=1.0).profile(history=[("books", "b00001"), ("books", "b00002")])
    plain = json.loads(json.dumps(profile.to_dict()))
    assert plain["n_events"] == 2
    assert plain["domains"][0]["latest"] is None
    lines = profile.lines()
    assert lines[0] == "given history: 2 events in 1 domain"
    title = fitted().dataset.domains[0].items["title"][2]
    assert any(title in line for line in lines)


def test_strangers_and_unclear_questions() -> None:
    stranger = fitted().profile("nobody")
    assert not stranger.known
    assert stranger.lines() == ["nobody (unknown to the dataset): no history, so nothing is known"]
    with pytest.raises(RequestError, match="one person"):
        fitted().profile()
    with pytest.raises(RequestError, match="one person"):
        fitted().profile("u00001", history=[])


def test_without_categories_words_shared_by_titles_name_the_themes() -> None:
    titles = [
        "Dark roast coffee beans",
        "Coffee grinder, small",
        "Green tea sampler",
        "Tea pot of glass",
        "Garden spade",
        None,
        *(f"Common thing {i}" for i in range(9)),
    ]
    items = pl.DataFrame(
        {"item_id": [f"i{i}" for i in range(len(titles))], "title": titles},
        schema_overrides={"title": pl.String},
    ).with_columns(text=pl.col("title"), category=pl.lit(None, pl.String))
    themes = Themes(Domain("food", items))
    found = themes.of([0, 1, 2, 3, 4, 5], [3.0, 3.0, 1.0, 1.0, 0.5, 0.1])
    assert [(t.name, t.members) for t in found] == [
        ("coffee", (0, 1)),
        ("tea", (2, 3)),
        ("Garden spade", (4,)),
        ("i5", (5,)),
    ]
    assert themes.shares(["coffee", "tea"]) == [2 / 15, 2 / 15]


def test_how_things_are_packed_is_no_theme() -> None:
    titles = ["Walnuts, pack of 3", "Salsa, pack of 12", "Matcha, 2 pack", "Oats"]
    items = pl.DataFrame({"item_id": list("abcd"), "title": titles}).with_columns(
        text=pl.col("title"), category=pl.lit(None, pl.String)
    )
    found = Themes(Domain("food", items)).of([0, 1, 2], [1.0, 1.0, 1.0])
    assert [t.name for t in found] == ["Matcha, 2 pack", "Salsa, pack of 12", "Walnuts, pack of 3"]
