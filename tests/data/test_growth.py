"""A snapshot grows by a domain or by events, and nothing that was there is renumbered."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.config import CleaningConfig
from isthmus.data.build import dataset_from_frames
from isthmus.data.cleaning import CleaningReport
from isthmus.data.dataset import Dataset
from isthmus.data.frames import DomainFrames, PeopleFrames
from isthmus.data.growth import Growth, add_domain, add_events
from isthmus.data.splits import leave_one_out
from isthmus.errors import DataError, RequestError

Row = tuple[str, str, int]


def table(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row")


def catalogue(*ids: str) -> pl.DataFrame:
    return pl.DataFrame({"item_id": ids, "title": [f"title of {i}" for i in ids]})


def shop(rows: list[Row]) -> Dataset:
    frames = {"books": DomainFrames(table(rows), catalogue("b1", "b2", "b3"))}
    return dataset_from_frames(frames)[0]


SHOP = shop([("ann", "b1", 10), ("ann", "b2", 20), ("ann", "b3", 30), ("eve", "b1", 10)])
TEAS = catalogue("t1", "t2")


def history(dataset: Dataset, user: str) -> list[str]:
    """What a person did, as item ids in order."""
    events, row = dataset.events, dataset.user_index[user]
    places = range(events.offsets[row], events.offsets[row + 1])
    return [dataset.domains[events.domain[p]].items["item_id"][int(events.item[p])] for p in places]


def facts(dataset: Dataset, places: np.ndarray) -> list[tuple[str, str, str, float | None]]:
    """Person, domain, item and time of events, None for no time."""
    events = dataset.events
    return [
        (
            dataset.user_ids[int(events.user[p])],
            dataset.names[events.domain[p]],
            dataset.domains[events.domain[p]].items["item_id"][int(events.item[p])],
            None if np.isnan(events.time[p]) else float(events.time[p]),
        )
        for p in places
    ]


def test_a_catalogue_alone_joins_behind_what_is_there():
    grown = add_domain(SHOP, "teas", DomainFrames(items=TEAS))
    assert grown.dataset.names == ("books", "teas")
    assert grown.dataset.domains[0] is SHOP.domains[0]
    assert grown.dataset.domains[1].items["text"].to_list() == ["title of t1", "title of t2"]
    assert grown.dataset.user_ids.to_list() == SHOP.user_ids.to_list()
    assert grown.position.tolist() == [0, 1, 2, 3]
    assert not len(grown.fresh)
    assert history(grown.dataset, "ann") == ["b1", "b2", "b3"]


def test_new_events_find_their_place_by_time_and_new_people_go_behind():
    events = table([("ann", "t2", 25), ("adam", "t1", 5), ("ann", "t1", 40)])
    grown = add_domain(SHOP, "teas", DomainFrames(events, TEAS))
    assert history(grown.dataset, "ann") == ["b1", "b2", "t2", "b3", "t1"]
    # Alphabet would put adam first; numbers that were given stay.
    assert grown.dataset.user_ids.to_list() == ["ann", "eve", "adam"]
    assert facts(grown.dataset, grown.position) == facts(SHOP, np.arange(4))
    assert {fact[1] for fact in facts(grown.dataset, grown.fresh)} == {"teas"}


def test_questions_stay_the_same_questions_and_new_events_may_be_learnt_from():
    split = leave_one_out(SHOP)
    grown = add_domain(SHOP, "teas", DomainFrames(table([("ann", "t2", 25)]), TEAS))
    moved = grown.split(split)
    for name in ("stopping", "tuning", "test"):
        before, after = getattr(split, name).position, getattr(moved, name).position
        assert facts(grown.dataset, after) == facts(SHOP, before)
    assert moved.in_train[grown.fresh].all()
    assert np.array_equal(moved.in_train[grown.position], split.in_train)
    assert (moved.name, moved.cut_times) == (split.name, split.cut_times)


def test_events_at_one_moment_keep_the_old_order_and_the_new_go_to_either_side():
    people = [f"user{n}" for n in range(200)]
    one = shop([(person, book, 10) for person in people for book in ("b1", "b2")])
    new = table([(person, "t1", 10) for person in people])
    grown = add_domain(one, "teas", DomainFrames(new, TEAS)).dataset
    before = 0
    for person in people:
        found = history(grown, person)
        assert [item for item in found if item != "t1"] == history(one, person)
        assert found.index("t1") in (0, 2)
        before += found.index("t1") == 0
    assert 60 < before < 140


def test_without_a_shared_clock_first_events_are_interleaved_and_later_ones_go_last():
    orders = pl.DataFrame({"user_id": ["ann"] * 2, "item_id": ["t2", "t1"], "order": [1, 2]})
    first = add_domain(SHOP, "teas", DomainFrames(orders, TEAS))
    assert history(first.dataset, "ann") == ["b1", "t2", "b2", "t1", "b3"]
    assert any("no clock" in note for note in first.dataset.notes)
    more = orders.with_columns(pl.lit("t1").alias("item_id"))
    later = add_events(first.dataset, 1, DomainFrames(more))
    # One t1 was there already, as an event of the same person without a time.
    assert history(later.dataset, "ann") == ["b1", "t2", "b2", "t1", "b3", "t1"]


EVENT = st.tuples(st.sampled_from("abcd"), st.sampled_from(["1", "2", "3"]), st.integers(0, 5))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(EVENT, min_size=1, max_size=14),
    st.lists(EVENT, max_size=10),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_any_growth_keeps_what_was_there_and_depends_on_no_row(old, new, timed, random):
    one = shop([(u, f"b{i}", t) for u, i, t in old])
    rows = [(u, f"t{i}", t) for u, i, t in new]
    teas = catalogue("t1", "t2", "t3")

    def grow(rows: list[Row]) -> Growth:
        events = table(rows) if rows else None
        if events is not None and not timed:
            # Each event an order of its own, so that rows say nothing.
            order = pl.struct("user_id", "item_id", "time").rank("dense").alias("order")
            events = events.unique().with_columns(order).drop("time")
        return add_domain(one, "teas", DomainFrames(events, teas))

    grown = grow(rows)
    assert facts(grown.dataset, grown.position) == facts(one, np.arange(len(one.events)))
    assert (np.diff(grown.position) > 0).all()
    places = np.sort(np.concatenate([grown.position, grown.fresh]))
    assert np.array_equal(places, np.arange(len(grown.dataset.events)))
    if timed:
        late = np.diff(grown.dataset.events.user) > 0
        assert ((np.diff(grown.dataset.events.time) >= 0) | late).all()
    shuffled = grow(random.sample(rows, len(rows)))
    everything = np.arange(len(grown.dataset.events))
    assert facts(shuffled.dataset, everything) == facts(grown.dataset, everything)


def test_the_first_events_are_taken_and_a_longer_export_adds_only_what_is_new():
    domain = add_domain(SHOP, "teas", DomainFrames(items=TEAS)).dataset
    log = table([("ann", "t1", 50), ("eve", "t2", 5), ("ann", "t2", 30), ("ann", "t2", 30)])
    report = CleaningReport()
    first = add_events(domain, 1, DomainFrames(log), limit=2, report=report)
    assert sorted(fact[3] for fact in facts(first.dataset, first.fresh)) == [5, 30]
    assert "2 rows dropped, after the first 2" in " ".join(report.lines())
    report = CleaningReport()
    second = add_events(first.dataset, 1, DomainFrames(log), report=report)
    # The repeated event counts as often as it is there.
    assert sorted(fact[3] for fact in facts(second.dataset, second.fresh)) == [30, 50]
    assert "2 rows dropped, known to the model already" in " ".join(report.lines())
    assert history(second.dataset, "ann") == [
        "b1",
        "b2",
        *history(second.dataset, "ann")[2:5],
        "t1",
    ]


@pytest.mark.parametrize("policy", ["keep", "drop"])
def test_unknown_items_and_people_are_kept_or_dropped_and_counted(policy):
    domain = add_domain(SHOP, "teas", DomainFrames(items=TEAS)).dataset
    log = table([("ann", "t1", 40), ("ann", "t9", 50), ("zoe", "t2", 60)])
    cleaning = CleaningConfig(unknown_items=policy, unknown_users=policy)
    report = CleaningReport()
    grown = add_events(domain, 1, DomainFrames(log), cleaning=cleaning, report=report)
    said = " ".join(report.lines())
    if policy == "drop":
        assert len(grown.fresh) == 1
        assert grown.dataset.domains[1].n_items == 2
        assert grown.dataset.n_users == 2
        assert report.total("dropped") == 2
    else:
        assert len(grown.fresh) == 3
        assert grown.dataset.domains[1].items["item_id"].to_list() == ["t1", "t2", "t9"]
        assert grown.dataset.domains[1].items["text"].to_list()[2] is None
        assert grown.dataset.user_ids.to_list() == ["ann", "eve", "zoe"]
        assert report.total("noted") == 2
    assert "1 items that the catalogue does not have" in said
    assert "1 people whom the model does not know" in said


def test_vectors_of_an_item_that_joins_are_missing():
    frames = DomainFrames(items=TEAS, vectors={"image": np.ones((2, 3), np.float32)})
    domain = add_domain(SHOP, "teas", frames).dataset
    log = table([("ann", "t1", 40), ("ann", "t9", 50)])
    image = add_events(domain, 1, DomainFrames(log)).dataset.domains[1].vectors["image"]
    assert np.isnan(image).tolist() == [[False] * 3, [False] * 3, [True] * 3]


def test_people_are_linked_as_the_model_links_them():
    people = PeopleFrames(linked=False)
    grown = add_domain(
        SHOP, "teas", DomainFrames(table([("ann", "t1", 40)]), TEAS), people=people
    ).dataset
    assert grown.user_ids.to_list() == ["ann", "eve", "teas:ann"]
    mapping = pl.DataFrame({"domain": ["teas"], "user_id": ["7"], "person_id": ["ann"]})
    people = PeopleFrames(mapping=mapping)
    grown = add_domain(
        SHOP, "teas", DomainFrames(table([("7", "t1", 40)]), TEAS), people=people
    ).dataset
    assert history(grown, "ann") == ["b1", "b2", "b3", "t1"]


def test_kinds_keep_their_numbers():
    views = table([("ann", "b1", 10)]).with_columns(pl.lit("view").alias("kind"))
    one = dataset_from_frames({"books": DomainFrames(views, catalogue("b1"))})[0]
    buys = table([("ann", "t1", 20)]).with_columns(pl.lit("buy").alias("kind"))
    grown = add_domain(one, "teas", DomainFrames(buys, TEAS)).dataset
    assert grown.kinds == ("view", "buy")
    assert [grown.kinds[k] for k in grown.events.kind] == ["view", "buy"]


@pytest.mark.parametrize("name", ["books", "", " teas", "a:b", "a,b", "a/b", "a\\b"])
def test_a_name_that_is_taken_or_could_not_be_typed_is_refused(name):
    with pytest.raises(RequestError, match="domain"):
        add_domain(SHOP, name, DomainFrames(items=TEAS))


def test_an_empty_catalogue_and_events_on_another_one_are_refused():
    with pytest.raises(DataError, match="no item"):
        add_domain(SHOP, "teas", DomainFrames(items=TEAS.clear()))
    domain = add_domain(SHOP, "teas", DomainFrames(items=TEAS)).dataset
    with pytest.raises(DataError, match="no item of the events is in the catalogue of 'teas'"):
        add_events(domain, 1, DomainFrames(table([("ann", "b1", 40)])))
