from __future__ import annotations

import numpy as np
import pytest
from evaluation_world import small_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.data.dataset import Dataset
from isthmus.evaluation.slices import (
    ALL,
    NEW,
    RARE,
    SEEN,
    WITH_SOURCE,
    WITHOUT_SOURCE,
    cold_users,
    slice_masks,
)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return small_dataset(n_users=60)


def questions(dataset: Dataset) -> np.ndarray:
    return np.flatnonzero(dataset.events.domain == 0)


def test_every_slice_holds_what_its_name_says(dataset: Dataset) -> None:
    position = questions(dataset)
    popularity = np.arange(30) % 6
    masks = slice_masks(dataset, position, 0, popularity, min_slice=1).masks
    events = dataset.events
    lengths = {
        "target history 0": (0, 0),
        "target history 1–2": (1, 2),
        "target history 3–5": (3, 5),
        "target history 6–10": (6, 10),
        "target history > 10": (11, 10**9),
    }
    assert set(masks) == {ALL, NEW, RARE, SEEN, WITH_SOURCE, WITHOUT_SOURCE, *lengths}
    for i, p in enumerate(position):
        before = events.domain[events.offsets[events.user[p]] : p]
        own, other = int((before == 0).sum()), int((before != 0).sum())
        count = popularity[events.item[p]]
        assert masks[ALL][i]
        assert masks[NEW][i] == (count == 0)
        assert masks[RARE][i] == (count <= 3)
        assert masks[SEEN][i] == (count > 0)
        assert masks[WITH_SOURCE][i] == (other > 0)
        assert masks[WITHOUT_SOURCE][i] == (other == 0)
        for name, (low, high) in lengths.items():
            assert masks[name][i] == (low <= own <= high)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), min_slice=st.integers(1, 400))
def test_no_slice_is_too_small_and_lengths_still_divide_everybody(
    seed: int, min_slice: int
) -> None:
    dataset = small_dataset(seed, n_users=40)
    popularity = np.random.default_rng(seed).integers(0, 8, 30)
    position = questions(dataset)
    slices = slice_masks(dataset, position, 0, popularity, min_slice=min_slice)
    assert all(mask.sum() >= min_slice for name, mask in slices.masks.items() if name != ALL)
    by_length = [mask for name, mask in slices.masks.items() if name.startswith("target")]
    assert len(by_length) != 1
    if by_length:
        assert (np.sum(by_length, axis=0) == 1).all()


def test_what_is_merged_is_said(dataset: Dataset) -> None:
    position = questions(dataset)
    popularity = np.full(30, 9)
    popularity[0] = 0
    few = int((dataset.events.item[position] == 0).sum())
    slices = slice_masks(dataset, position, 0, popularity, min_slice=few + 1)
    assert NEW not in slices.masks
    assert RARE not in slices.masks
    assert f"{NEW}: {few} questions, reported within '{RARE}'" in slices.notes
    assert f"{RARE}: {few} questions, reported within 'all'" in slices.notes


def test_merged_lengths_name_where_they_went(dataset: Dataset) -> None:
    position, popularity = questions(dataset), np.ones(30, np.int64)
    declared = slice_masks(dataset, position, 0, popularity, min_slice=1).masks
    slices = slice_masks(dataset, position, 0, popularity, min_slice=120)
    told = [note for note in slices.notes if note.startswith("target history")]
    assert told
    for note in told:
        gone, home = note.split(":")[0], note.split("'")[1]
        assert gone not in slices.masks
        assert (declared[gone] <= slices.masks[home]).all()


def test_a_slice_of_just_the_least_size_stands_alone(dataset: Dataset) -> None:
    position, popularity = questions(dataset), np.arange(30) % 6
    declared = slice_masks(dataset, position, 0, popularity, min_slice=1).masks
    least = min(int(mask.sum()) for mask in declared.values())
    found = slice_masks(dataset, position, 0, popularity, min_slice=least)
    assert found.masks.keys() == declared.keys()
    assert found.notes == ()
    assert slice_masks(dataset, position, 0, popularity, min_slice=least + 1).notes


def test_everybody_having_a_source_history_is_no_slice(dataset: Dataset) -> None:
    first = dataset.events.offsets[dataset.events.user[questions(dataset)]]
    position = questions(dataset)[questions(dataset) - first > 8]
    slices = slice_masks(dataset, position, 0, np.ones(30, np.int64), min_slice=5)
    assert WITH_SOURCE not in slices.masks
    assert WITHOUT_SOURCE not in slices.masks


def test_cold_users_are_a_fixed_share_by_id() -> None:
    dataset = small_dataset(n_users=2000, length=1)
    cold = cold_users(dataset, 0.2)
    assert cold.mean() == pytest.approx(0.2, abs=0.03)
    assert not cold_users(dataset, 0.0).any()
    assert cold_users(dataset, 1.0).all()
    assert (cold <= cold_users(dataset, 0.3)).all()
    backwards = Dataset(dataset.domains, dataset.user_ids.reverse(), dataset.events)
    assert cold_users(backwards, 0.2).tolist() == cold[::-1].tolist()
