"""Labelled pairs: where they come from, what they are for, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from tasks_world import once

from isthmus.data.build import DomainFrames, PeopleFrames, dataset_from_frames
from isthmus.data.dataset import Dataset
from isthmus.data.splits import make_split
from isthmus.errors import DataError
from isthmus.tasks.examples import (
    Examples,
    Role,
    against_drawn,
    as_classes,
    clicks,
    labelled_pairs,
    rated_events,
    trained_until,
)
from isthmus.tasks.reader import Reader


def had(dataset: Dataset, examples: Examples) -> np.ndarray:
    """Whether each pair's person has the item anywhere among their events."""
    events = dataset.events
    width = dataset.n_items
    known = np.unique(events.user * width + dataset.flat(events.domain, events.item))
    flat = dataset.item_offsets[examples.domain] + examples.item
    return np.isin(examples.user * width + flat, known)


def table(dataset: Dataset, n: int = 60) -> pl.DataFrame:
    """Labelled pairs of the first people with items of the last domain."""
    items = dataset.domains[1].items["item_id"]
    return pl.DataFrame(
        {
            "user_id": [dataset.user_ids[i % dataset.n_users] for i in range(n)],
            "domain": [dataset.names[1]] * n,
            "item_id": [items[i % len(items)] for i in range(n)],
            "label": [("left", "saved", "bought")[i % 3] for i in range(n)],
        }
    )


def test_ratings_are_those_of_the_split() -> None:
    usual = once()
    found = rated_events(usual.dataset, usual.split)
    rating = usual.dataset.events.rating
    assert np.array_equal(found.label, rating[found.end])
    assert not np.isnan(found.label).any()
    assert np.array_equal(found.of(Role.TEST).end, usual.split.test.position)
    assert usual.split.in_train[found.of(Role.TRAIN).end].all()
    assert len(np.unique(found.end)) == len(found)


def test_without_ratings_there_is_nothing_to_learn() -> None:
    usual = once()
    events = replace(usual.dataset.events, rating=np.full_like(usual.dataset.events.rating, np.nan))
    with pytest.raises(DataError, match="no event has a rating") as caught:
        rated_events(replace(usual.dataset, events=events), usual.split)
    assert "events.rating" in str(caught.value)


def test_drawn_items_are_new_to_their_person_and_as_popular_as_the_answers() -> None:
    usual = once()
    found = against_drawn(usual.dataset, usual.split, negatives=3, seed=0)
    true, false = found.take(found.label == 1), found.take(found.label == 0)
    assert had(usual.dataset, true).all()
    assert not had(usual.dataset, false).any()
    for d in (0, 1):
        answers = true.take((true.role == Role.TEST) & (true.domain == d)).item
        drawn = false.take((false.role == Role.TEST) & (false.domain == d)).item
        assert set(drawn.tolist()) <= set(answers.tolist())
        popular = np.bincount(usual.dataset.events.item[usual.dataset.events.domain == d])
        assert popular[drawn].mean() == pytest.approx(popular[answers].mean(), rel=0.1)


def test_heads_learn_from_other_people_than_they_stop_by() -> None:
    usual = once()
    found = against_drawn(usual.dataset, usual.split, negatives=1, seed=0)
    people = [set(found.of(role).user.tolist()) for role in (Role.TRAIN, Role.VALIDATION)]
    assert not people[0] & people[1]
    # What the model has learnt by heart teaches a head nothing.
    true = found.take((found.label == 1) & (found.role != Role.TEST))
    assert not usual.split.in_train[true.end].any()


def test_what_was_shown_is_preferred_to_what_is_drawn() -> None:
    usual = once()
    assert usual.dataset.impressions is not None
    found = clicks(usual.dataset, usual.split, None, negatives=1, seed=0)
    learnt = len(found.of(Role.TRAIN))
    assert learnt == pytest.approx(0.7 * usual.dataset.impressions.height, rel=0.05)
    clicked = usual.dataset.impressions["clicked"].mean()
    assert found.label.mean() == pytest.approx(clicked, abs=0.02)


def test_what_was_shown_is_of_the_same_people_whether_they_are_linked_or_not() -> None:
    rng = np.random.default_rng(0)
    drawn = {
        "user_id": [f"u{i}" for i in rng.integers(0, 40, 900)],
        "item_id": [f"i{i}" for i in rng.integers(0, 30, 900)],
        "time": 1.6e9 + np.arange(900) * 1000.0,
    }
    shown = pl.DataFrame(
        {
            "user_id": [f"u{i % 40}" for i in range(800)],
            "domain": ["a"] * 800,
            "item_id": [f"i{i % 30}" for i in range(800)],
            "time": [1.6e9 + 890_000 + i * 10 for i in range(800)],
            "clicked": [i % 3 == 2 for i in range(800)],
        }
    )
    users = pl.DataFrame({"user_id": [f"u{i}" for i in range(40)], "age": range(40)})
    read = []
    for linked in (True, False):
        people = PeopleFrames(linked=linked, impressions=shown, users=users)
        frames = {"a": DomainFrames(pl.DataFrame(drawn))}
        dataset, _ = dataset_from_frames(frames, people=people)
        found = clicks(dataset, make_split(dataset, "auto"), None, negatives=1, seed=0)
        learnt = found.of(Role.TRAIN)
        assert (learnt.end > dataset.events.offsets[learnt.user]).all()
        read.append((dataset.n_users, len(found) + found.left_out))
    assert read[0] == read[1] == (40, 800)


def test_a_history_ends_before_the_moment_of_its_pair() -> None:
    usual = once()
    found = clicks(usual.dataset, usual.split, None, negatives=1, seed=0)
    events = usual.dataset.events
    start, stop = events.offsets[found.user], events.offsets[found.user + 1]
    before, after = found.end > start, found.end < stop
    assert (events.time[found.end[before] - 1] < found.time[before]).all()
    assert (events.time[found.end[after]] >= found.time[after]).all()


def test_what_the_model_was_trained_on_judges_nothing() -> None:
    usual = once()
    dataset, split = usual.dataset, usual.split
    found = clicks(dataset, split, None, negatives=1, seed=0)
    learnt = np.bincount(dataset.events.user[split.in_train], minlength=dataset.n_users)
    within = found.end < (dataset.events.offsets[:-1] + learnt)[found.user]
    judging = found.role != Role.TRAIN
    assert within[~judging].any()
    assert judging.any()
    assert not within[judging].any()
    assert found.left_out == len(dataset.impressions) - len(found) > 0
    trained = [dataset.user_ids[row] for row in np.flatnonzero(learnt).tolist()]
    early = dataset.impressions.filter(pl.col("user_id").is_in(trained)).with_columns(
        time=pl.lit(1e8)
    )
    with pytest.raises(DataError, match="pairs to judge by lie before the end of training"):
        clicks(replace(dataset, impressions=early), split, None, negatives=1, seed=0)


def test_events_without_a_time_cut_no_history_short() -> None:
    usual = once()
    events = usual.dataset.events
    person = int(np.argmax(np.diff(events.offsets)))
    start, stop = events.offsets[person], events.offsets[person + 1]
    time = events.time.copy()
    time[start:stop] = np.arange(stop - start)
    time[start + 1 : stop : 2] = np.nan
    clockless = replace(usual.dataset, events=replace(events, time=time))
    asked = table(usual.dataset, 18).with_columns(
        user_id=pl.lit(usual.dataset.user_ids[person]),
        time=pl.Series([4.0, 1e9] * 9),
        split=pl.Series(["train"] * 6 + ["validation"] * 6 + ["test"] * 6),
    )
    found = labelled_pairs(clockless, usual.split, asked, where="pairs")
    assert found.end.tolist() == [start + 4, stop] * 9


@pytest.mark.parametrize("timed", [0, 1])
def test_a_pair_with_a_time_is_not_in_a_history_without_one(timed: int) -> None:
    """Whether no event of a person has a time, or the first alone."""
    usual = once()
    events, split = usual.dataset.events, usual.split
    time = np.full_like(events.time, np.nan)
    time[events.offsets[:-1][: timed * usual.dataset.n_users]] = 0.0
    dataset = replace(usual.dataset, events=replace(events, time=time))
    answers = split.test.position
    asked = pl.DataFrame(
        {
            "user_id": [dataset.user_ids[u] for u in events.user[answers].tolist()],
            "domain": [dataset.names[d] for d in events.domain[answers].tolist()],
            "item_id": [
                dataset.domains[d].items["item_id"][i]
                for d, i in zip(events.domain[answers], events.item[answers].tolist(), strict=True)
            ],
            "label": [i % 2 for i in range(len(answers))],
            "time": [1e9] * len(answers),
        }
    )
    found = labelled_pairs(dataset, split, asked, where="pairs")
    if not timed:
        assert np.isnan(found.time).all()
        assert (found.end == trained_until(dataset, split)[found.user]).all()
    read = Reader("click", dataset, split, usual.system, usual.config)._requests(found)
    own = (read.domain == found.domain[read.rows]) & (read.item == found.item[read.rows])
    assert len(read.item)
    assert not own.any()


def test_a_table_of_three_classes(tmp_path) -> None:
    usual = once()
    frame = table(usual.dataset)
    frame.write_csv(tmp_path / "pairs.csv")
    found = clicks(usual.dataset, usual.split, tmp_path / "pairs.csv", negatives=1, seed=0)
    assert found.classes == ("bought", "left", "saved")
    assert [found.classes[int(c)] for c in found.label] == frame["label"].to_list()
    people = [set(found.of(role).user.tolist()) for role in Role]
    assert not people[0] & people[1]
    assert not people[0] & people[2]


def test_a_table_may_say_what_its_rows_are_for() -> None:
    usual = once()
    splits = ["train", "validation", "test"]
    frame = table(usual.dataset).with_columns(
        pl.Series("split", [splits[(i // 3) % 3] for i in range(60)])
    )
    found = labelled_pairs(usual.dataset, usual.split, frame, where="pairs")
    assert [splits[role] for role in found.role] == frame["split"].to_list()


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("user_id", "nobody", "1 of 60 rows name something unknown, for example 'nobody'"),
        ("domain", "gears", "something unknown, for example 'gears'"),
        ("item_id", "g?", "column 'item_id' of gear: 1 of 60"),
        ("label", None, "1 rows have no label, the first is row 5"),
    ],
)
def test_rows_that_cannot_be_meant(column: str, value: str | None, said: str) -> None:
    usual = once()
    frame = table(usual.dataset)
    values = frame[column].to_list()
    values[4] = value
    with pytest.raises(DataError, match=said.replace("?", r"\?")):
        labelled_pairs(
            usual.dataset, usual.split, frame.with_columns(pl.Series(column, values)), where="pairs"
        )


def test_a_time_that_cannot_be_read_is_no_missing_time() -> None:
    usual = once()
    frame = table(usual.dataset).with_columns(split=pl.Series(["train", "validation"] * 30))
    times = ["2020-09-13 12:26", None, " ", "nan"] + ["13.09.2020 12:26"] * 56
    with pytest.raises(DataError, match=r"column 'time': 56 of 60 .* row 5, '13\.09\.2020 12:26'"):
        labelled_pairs(
            usual.dataset, usual.split, frame.with_columns(time=pl.Series(times)), where="pairs"
        )
    some = frame.with_columns(time=pl.Series([*times[:4], *times[:1] * 56]))
    found = labelled_pairs(usual.dataset, usual.split, some, where="pairs")
    assert np.flatnonzero(np.isnan(found.time)).tolist() == [1, 2, 3]
    numbers = frame.with_columns(time=pl.Series([1.6e9, None, float("nan")] * 20))
    found = labelled_pairs(usual.dataset, usual.split, numbers, where="pairs")
    assert np.isnan(found.time).sum() == 40


def test_a_missing_column_is_named() -> None:
    usual = once()
    frame = table(usual.dataset).rename({"label": "lable"})
    with pytest.raises(DataError, match=r"'label' is missing\. Did you mean 'lable'"):
        labelled_pairs(usual.dataset, usual.split, frame, where="pairs")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0.5, 1.0, 2.0], "labels are not classes: found 0.5"),
        ([1, 1, 1], "every label is '1': with one class there is nothing to tell apart"),
        (list(range(51)), "labels are not classes: 51 different ones"),
        (["yes", None], "the first is row 2"),
    ],
)
def test_labels_that_are_no_classes(labels: list[object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        as_classes(pl.Series("label", labels), where="pairs")


def test_classes_written_as_numbers_are_in_the_order_of_numbers() -> None:
    index, names = as_classes(pl.Series("label", ["10", "2", "2", "1"]), where="pairs")
    assert names == ("1", "2", "10")
    assert index.tolist() == [2, 1, 1, 0]


def test_one_class_among_the_pairs_to_learn_from() -> None:
    usual = once()
    frame = table(usual.dataset, 9).with_columns(
        label=pl.Series(["a"] * 6 + ["b"] * 3), split=pl.Series(["train"] * 6 + ["test"] * 3)
    )
    with pytest.raises(DataError, match="there is only 'a' among the pairs for train"):
        labelled_pairs(usual.dataset, usual.split, frame, where="pairs")
