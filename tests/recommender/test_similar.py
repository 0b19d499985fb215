"""Items like an item, within a domain and across."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from recommender_world import fitted, quick_config, small_world

from isthmus.data.dataset import Dataset, Domain
from isthmus.errors import RequestError
from isthmus.recommender import Recommender
from word_encoder import WordEncoder


def _departments(frame: pl.DataFrame) -> list[str]:
    return frame["category"].str.split(" > ").list.get(1).to_list()


def test_similar_items_leave_out_the_item_and_fall_in_score() -> None:
    found = fitted().similar("gear", "g00010", k=1000)
    assert found.columns == ["item_id", "title", "category", "score", "parts"]
    assert set(found["item_id"]) == set(fitted().dataset.domains[1].items["item_id"]) - {"g00010"}
    assert found["score"].is_sorted(descending=True)
    sums = found["parts"].struct.unnest().to_numpy().sum(1)
    assert np.allclose(sums, found["score"], atol=1e-5)


def test_similar_items_share_the_theme_far_more_often_than_chance() -> None:
    items = fitted().dataset.domains[1].items.filter(pl.col("text").is_not_null())
    hits, chance = [], []
    for row in items.iter_rows(named=True):
        theme = row["category"].split(" > ")[1]
        near = fitted().similar("gear", row["item_id"], k=3)
        hits += [t == theme for t in _departments(near.drop_nulls("category"))]
        chance += [t == theme for t in _departments(items)]
    assert np.mean(hits) > 2 * np.mean(chance)


def test_similar_items_in_another_domain() -> None:
    found = fitted().similar("books", "b00001", to="gear", k=5)
    assert len(found) == 5
    assert set(found["item_id"]) <= set(fitted().dataset.domains[1].items["item_id"])


def test_an_item_of_which_nothing_is_known_has_no_similar_ones() -> None:
    dataset = small_world(60)
    gear = dataset.domains[1]
    blank = pl.DataFrame({"item_id": ["blank"]})
    grown = Domain("gear", pl.concat([gear.items, blank], how="diagonal"))
    dataset = Dataset((dataset.domains[0], grown), dataset.user_ids, dataset.events)
    config = quick_config(training={"epochs": 1})
    recommender = Recommender.fit(dataset, config, encoder=WordEncoder())
    with pytest.raises(RequestError, match="neither a text nor any behaviour"):
        recommender.similar("gear", "blank")
    assert "blank" in set(recommender.similar("gear", "g00001", k=1000)["item_id"])
    # Without a text it is offered still, at the request's average.
    assert "blank" in set(recommender.recommend("gear", users=["nobody"], k=1000)["item_id"])


def test_unknown_items_and_domains_are_named_with_near_ones() -> None:
    with pytest.raises(RequestError, match="Did you mean 'g00010'"):
        fitted().similar("gear", "g0010")
    with pytest.raises(RequestError, match="Did you mean 'books'"):
        fitted().similar("gear", "g00010", to="bocks")
    with pytest.raises(RequestError, match="k is -1"):
        fitted().similar("gear", "g00010", k=-1)
