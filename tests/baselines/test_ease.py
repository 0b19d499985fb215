from __future__ import annotations

import numpy as np
import pytest
from baseline_world import asking, dataset_of, random_world

from isthmus.baselines import ease
from isthmus.baselines.ease import EASE, EASEConfig
from isthmus.errors import TrainingError

PLAIN = EASEConfig(l2=1.0, recency=1.0, merged=False, prune=0.0)


def by_the_paper(seen: np.ndarray, l2: float) -> np.ndarray:
    inverse = np.linalg.inv(seen.T @ seen + l2 * np.eye(seen.shape[1]))
    return np.eye(seen.shape[1]) - inverse / np.diag(inverse)


def test_two_items_by_hand() -> None:
    # XᵀX = [[2, 1], [1, 1]], so P = [[2, −1], [−1, 3]] / 5 with l2 = 1.
    dataset = dataset_of([[(0, 0), (0, 1)], [(0, 0), (0, 0)]], (3,))
    scorer = EASE.fit(dataset, dataset.events, PLAIN)
    total = scorer.score(asking([(0, 0)], [(0, 1)], [(0, 0), (0, 0)]), 0).total
    np.testing.assert_allclose(total, [[0, 1 / 3, 0], [1 / 2, 0, 0], [0, 1 / 3, 0]], rtol=1e-6)


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("n_people", [6, 30])
def test_weights_are_those_of_the_paper(
    merged: bool, n_people: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ease, "ROWS", 5)
    dataset = random_world(7)
    events = dataset.events.keep(dataset.events.user < n_people)
    scorer = EASE.fit(dataset, events, PLAIN.model_copy(update={"merged": merged}))
    seen = np.zeros((dataset.n_users, dataset.n_items))
    seen[events.user, dataset.flat(events.domain, events.item)] = 1
    expected = np.zeros((21, 21))
    for own in [slice(0, 21)] if merged else [slice(0, 12), slice(12, 21)]:
        expected[own, own] = by_the_paper(seen[:, own], 1.0)
    singles = asking(*[[(0, i)] for i in range(12)], *[[(1, i)] for i in range(9)])
    total = np.concatenate([scorer.score(singles, d).total for d in range(2)], axis=1)
    np.testing.assert_allclose(total, expected, atol=1e-5)


def test_small_weights_are_dropped_and_the_others_stay() -> None:
    dataset = random_world(7)
    singles = asking(*[[(0, i)] for i in range(12)])
    whole = EASE.fit(dataset, dataset.events, PLAIN).score(singles, 0).total
    config = PLAIN.model_copy(update={"prune": 0.1})
    pruned = EASE.fit(dataset, dataset.events, config).score(singles, 0).total
    assert 0 < (pruned != 0).sum() < (whole != 0).sum()
    np.testing.assert_array_equal(pruned, np.where(np.abs(whole) < 0.1, 0, whole))


def test_older_history_weighs_less() -> None:
    dataset = random_world(7)
    scorer = EASE.fit(dataset, dataset.events, PLAIN.model_copy(update={"recency": 0.5}))
    first, second, both = scorer.score(asking([(0, 1)], [(0, 2)], [(0, 1), (0, 2)]), 0).total
    np.testing.assert_allclose(both, 0.5 * first + second, atol=1e-6)


def test_a_matrix_too_large_is_refused_before_the_work() -> None:
    dataset = random_world(7)
    with pytest.raises(TrainingError, match=r"^d0-: .*max_side = 5.*leave EASE out"):
        EASE.fit(dataset, dataset.events, PLAIN.model_copy(update={"max_side": 5}))
