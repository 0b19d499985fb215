"""Events appended as they came: in pieces or at once, the snapshot is the same."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.config import CleaningConfig
from isthmus.data.appending import COLUMNS, append_events
from isthmus.data.build import dataset_from_frames
from isthmus.data.dataset import Dataset
from isthmus.data.frames import DomainFrames
from isthmus.data.splits import leave_one_out
from isthmus.errors import RequestError

Row = tuple[str, str, str, float]


def table(rows: list[Row]) -> pl.DataFrame:
    full = [(*row, "buy" if i % 3 == 0 else "event", None, 1.0) for i, row in enumerate(rows)]
    return pl.DataFrame(full, schema=COLUMNS, orient="row")


def snapshot(clock: bool = True) -> Dataset:
    """Books by a clock; films by a clock or by an order alone."""
    books = pl.DataFrame(
        [("ann", "b1", 10), ("ann", "b2", 20), ("eve", "b1", 20), ("ann", "b3", 30)],
        schema=["user_id", "item_id", "time"],
        orient="row",
    )
    films = pl.DataFrame(
        [("ann", "f1", 15), ("ann", "f2", 25), ("jo", "f1", 5)],
        schema=["user_id", "item_id", "time" if clock else "order"],
        orient="row",
    )
    vectors = {"image": np.ones((3, 2), np.float32)}
    catalogue = pl.DataFrame({"item_id": ["b1", "b2", "b3"], "title": ["one", "two", "three"]})
    frames = {
        "books": DomainFrames(books, catalogue, vectors=vectors),
        "films": DomainFrames(films),
    }
    return dataset_from_frames(frames, cleaning=CleaningConfig())[0]


def history(dataset: Dataset, person: str) -> list[str]:
    events, row = dataset.events, dataset.user_index[person]
    places = range(events.offsets[row], events.offsets[row + 1])
    return [dataset.domains[events.domain[p]].items["item_id"][int(events.item[p])] for p in places]


def same(one: Dataset, other: Dataset) -> bool:
    arrays = ("offsets", "domain", "item", "time", "kind", "rating", "weight")
    return (
        one.user_ids.equals(other.user_ids)
        and one.kinds == other.kinds
        and all(
            a.items.equals(b.items)
            and all(np.array_equal(a.vectors[k], b.vectors[k], True) for k in a.vectors)
            for a, b in zip(one.domains, other.domains, strict=True)
        )
        and all(
            np.array_equal(getattr(one.events, n), getattr(other.events, n), equal_nan=True)
            for n in arrays
        )
    )


def test_an_event_finds_its_place_by_time_and_behind_its_equals() -> None:
    grown = append_events(
        snapshot(),
        table(
            [
                ("ann", "books", "b9", 20.0),
                ("ann", "films", "f9", 12.0),
                ("ann", "books", "b1", 20.0),
            ]
        ),
    ).dataset
    assert history(grown, "ann") == ["b1", "f9", "f1", "b2", "b9", "b1", "f2", "b3"]
    assert history(grown, "eve") == ["b1"]


def test_without_a_clock_in_one_domain_new_events_go_behind_all_of_it() -> None:
    grown = append_events(
        snapshot(clock=False),
        table(
            [("ann", "books", "b9", 99.0), ("ann", "books", "b8", 1.0), ("jo", "books", "b1", 1.0)]
        ),
    ).dataset
    before = history(snapshot(clock=False), "ann")
    last = max(before.index("f1"), before.index("f2"))
    assert history(grown, "ann") == [*before[: last + 1], "b8", *before[last + 1 :], "b9"]
    assert history(grown, "jo") == ["f1", "b1"]


def test_newcomers_items_and_kinds_are_numbered_by_first_appearance() -> None:
    grown = append_events(
        snapshot(),
        table(
            [("zoe", "books", "b9", 1.0), ("adam", "books", "b8", 2.0), ("zoe", "films", "f9", 3.0)]
        ),
    )
    after = grown.dataset
    assert after.user_ids.to_list()[-2:] == ["zoe", "adam"]
    assert after.domains[0].items["item_id"].to_list() == ["b1", "b2", "b3", "b9", "b8"]
    assert after.domains[0].items["title"].to_list()[3:] == [None, None]
    assert np.isnan(after.domains[0].vectors["image"][3:]).all()
    assert after.kinds == ("event", "buy")
    assert [after.kinds[code] for code in after.events.kind[grown.fresh]] == [
        "buy",
        "event",
        "event",
    ]


def test_positions_lead_from_before_to_after_and_questions_are_the_same() -> None:
    before = snapshot()
    growth = append_events(
        before, table([("ann", "books", "b9", 11.0), ("eve", "books", "b1", 0.0)])
    )
    after = growth.dataset
    assert np.array_equal(after.events.time[growth.position], before.events.time)
    assert np.array_equal(after.events.item[growth.position], before.events.item)
    assert sorted(after.events.time[growth.fresh].tolist()) == [0.0, 11.0]
    split = leave_one_out(before)
    carried = growth.split(split)
    assert np.array_equal(
        after.events.time[carried.test.position], before.events.time[split.test.position]
    )


def test_an_unknown_domain_is_an_error_that_names_the_near_one() -> None:
    with pytest.raises(RequestError, match="books"):
        append_events(snapshot(), table([("ann", "boks", "b1", 1.0)]))


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["ann", "eve", "new", "other"]),
            st.sampled_from(["books", "films"]),
            st.sampled_from(["b1", "f1", "x", "y"]),
            st.sampled_from([0.0, 10.0, 15.0, 20.0, 40.0]),
        ),
        max_size=12,
    ),
    cuts=st.lists(st.integers(0, 12), max_size=3),
    clock=st.booleans(),
)
def test_in_pieces_or_at_once_is_the_same(rows: list[Row], cuts: list[int], clock: bool) -> None:
    whole = table(rows)
    pieces, start = [], 0
    for cut in [*sorted(cuts), len(rows)]:
        pieces.append(whole.slice(start, max(cut - start, 0)))
        start = max(cut, start)
    dataset = base = snapshot(clock)
    for piece in pieces:
        dataset = append_events(dataset, piece).dataset
    assert same(dataset, append_events(base, whole).dataset)
