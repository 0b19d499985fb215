"""People are forgotten without a trace, and nobody is renumbered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from isthmus.data.build import dataset_from_frames
from isthmus.data.dataset import Dataset
from isthmus.data.forgetting import forget
from isthmus.data.frames import DomainFrames
from isthmus.data.splits import leave_one_out


def shop() -> Dataset:
    rows = [(who, f"b{i}", 10 * i) for who in ("ann", "eve", "jo") for i in range(1, 6)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row")
    dataset = dataset_from_frames({"books": DomainFrames(events)})[0]
    people = pl.DataFrame({"user_id": ["ann", "eve", "jo"]})
    return replace(
        dataset,
        user_attributes=people.with_columns(age=pl.lit(3)),
        links=pl.DataFrame({"user_id": ["ann", "jo"], "other_id": ["jo", "eve"]}),
        groups=people.with_columns(group_id=pl.lit("g")),
        impressions=people.with_columns(domain=pl.lit("books"), item_id=pl.lit("b1")),
    )


def test_nothing_of_the_forgotten_is_left_and_the_others_keep_their_rows() -> None:
    dataset = shop()
    forgotten = forget(dataset, ["eve", "nobody"])
    after = forgotten.dataset
    row = dataset.user_index["eve"]
    assert after.n_users == dataset.n_users
    assert after.events.offsets[row] == after.events.offsets[row + 1]
    assert {who: r for who, r in after.user_index.items() if r != row} == {
        who: r for who, r in dataset.user_index.items() if r != row
    }
    others = dataset.events.user != row
    assert forgotten.kept.tolist() == others.tolist()
    for name in ("domain", "item", "time", "kind", "weight"):
        assert np.array_equal(getattr(after.events, name), getattr(dataset.events, name)[others])
    for table in (after.user_attributes, after.groups, after.impressions):
        assert table is not None
        assert table["user_id"].to_list() == ["ann", "jo"]
    assert after.links is not None
    assert after.links.rows() == [("ann", "jo")]
    assert "eve" not in after.user_ids.to_list()
    assert after.domains == dataset.domains


def test_questions_about_the_forgotten_go_and_the_others_stay() -> None:
    dataset = shop()
    split = leave_one_out(dataset)
    forgotten = forget(dataset, ["ann"])
    after = forgotten.split(split)
    for name in ("stopping", "tuning", "test"):
        asked = getattr(split, name).position
        kept = asked[forgotten.kept[asked]]
        place = getattr(after, name).position
        assert len(place) == len(kept)
        for before, now in zip(kept, place, strict=True):
            assert dataset.events.user[before] == forgotten.dataset.events.user[now]
            assert dataset.events.time[before] == forgotten.dataset.events.time[now]
    assert len(after.test.position) == len(split.test.position) - 1
    assert np.array_equal(after.in_train, split.in_train[forgotten.kept])


def test_forgetting_nobody_changes_nothing() -> None:
    dataset = shop()
    forgotten = forget(dataset, [])
    assert forgotten.kept.all()
    assert forgotten.dataset.user_ids.equals(dataset.user_ids)
