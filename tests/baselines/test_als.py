from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from baseline_world import asking, planted_world, random_world
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isthmus.baselines import als
from isthmus.baselines.als import ALS, ALSConfig, solve_side
from isthmus.data.dataset import Dataset, Events
from isthmus.scoring import Requests

Double = NDArray[np.float64]


def problem(seed: int) -> tuple[sp.csr_array, Double, Double]:
    rng = np.random.default_rng(seed)
    taken = sp.random_array((25, 14), density=0.2, rng=rng, format="csr")
    taken.data[:] = rng.uniform(1, 20, taken.nnz)
    return taken, rng.normal(size=(25, 5)), rng.normal(size=(14, 5))


def loss(extra: sp.csr_array, users: Double, items: Double, l2: float) -> float:
    wanted = (extra.toarray() > 0).astype(float)
    errors = (1 + extra.toarray()) * (wanted - users @ items.T) ** 2
    return float(errors.sum() + l2 * ((users**2).sum() + (items**2).sum()))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_a_solved_side_satisfies_its_normal_equations(seed: int) -> None:
    extra, users, items = problem(seed)
    solved = solve_side(extra, items, users, 0.7)
    for row, weights in enumerate(extra.toarray()):
        confidence = np.diag(1 + weights)
        left = items.T @ confidence @ items + 0.7 * np.eye(5)
        right = items.T @ confidence @ (weights > 0)
        np.testing.assert_allclose(solved[row], np.linalg.solve(left, right), atol=1e-6)


@given(seed=st.integers(0, 10_000), steps=st.sampled_from([1, 3, None]))
@settings(max_examples=15, deadline=None)
def test_the_loss_falls_with_every_half_sweep(seed: int, steps: int | None) -> None:
    extra, users, items = problem(seed)
    last = loss(extra, users, items, 0.7)
    for _ in range(4):
        items = solve_side(extra.T.tocsr(), users, items, 0.7, steps=steps)
        now = loss(extra, users, items, 0.7)
        assert now <= last * (1 + 1e-9)
        users = solve_side(extra, items, users, 0.7, steps=steps)
        last = loss(extra, users, items, 0.7)
        assert last <= now * (1 + 1e-9)


def test_blocks_of_rows_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    extra, users, items = problem(1)
    whole = solve_side(extra, items, users, 0.7)
    monkeypatch.setattr(als, "ENTRIES_AT_ONCE", 7)
    np.testing.assert_allclose(solve_side(extra, items, users, 0.7), whole, atol=1e-6)


def test_one_item_taken_by_one_of_two_by_hand() -> None:
    # One factor y: user with the item solves (y² (1 + α) + λ) x = (1 + α) y.
    extra = sp.csr_array(np.array([[3.0], [0.0]]))
    solved = solve_side(extra, np.array([[2.0]]), np.zeros((2, 1)), 1.0)
    np.testing.assert_allclose(solved, [[4 * 2 / (4 * 4 + 1)], [0]])


def test_row_order_of_the_people_does_not_matter() -> None:
    dataset = random_world(5)
    config = ALSConfig(dim=4, sweeps=3)
    order = np.random.default_rng(0).permutation(dataset.n_users)
    events = dataset.events
    pieces = [np.arange(events.offsets[u], events.offsets[u + 1]) for u in order]
    index = np.concatenate(pieces)
    moved = Events.from_columns(
        dataset.n_users,
        np.repeat(np.arange(dataset.n_users), [len(p) for p in pieces]),
        events.domain[index],
        events.item[index],
        events.time[index],
    )
    other = Dataset(dataset.domains, dataset.user_ids[order.tolist()], moved)
    requests = asking([(0, 1), (0, 4)])
    np.testing.assert_allclose(
        ALS.fit(other, moved, config).score(requests, 0).total,
        ALS.fit(dataset, events, config).score(requests, 0).total,
        atol=1e-4,
    )


@pytest.fixture(scope="module")
def reference() -> tuple[Any, sp.csr_matrix]:
    """A model of `implicit` on the planted tastes; its alpha is the whole confidence, 1 + ours."""
    module = pytest.importorskip("implicit.als", reason="implicit is not installed")
    dataset, _, _ = planted_world()
    events = dataset.events.only(0)
    taken = sp.csr_matrix((np.ones(len(events)), events.item, events.offsets), shape=(80, 20))
    taken.sum_duplicates()
    taken.data[:] = 1.0
    model = module.AlternatingLeastSquares(
        factors=2, regularization=1.0, alpha=10.0, iterations=60, random_state=0, use_cg=False
    )
    model.fit(taken, show_progress=False)
    return model, taken


def test_people_are_folded_in_as_the_reference_does(
    reference: tuple[Any, sp.csr_matrix],
) -> None:
    model, taken = reference
    items = model.item_factors.astype(np.float64)
    ours = solve_side(sp.csr_array(taken) * 9.0, items, np.zeros((80, 2)), 1.0)
    np.testing.assert_allclose(ours, model.recalculate_user(np.arange(80), taken), atol=1e-4)


def test_it_finds_the_scores_that_the_reference_finds(
    reference: tuple[Any, sp.csr_matrix],
) -> None:
    model, taken = reference
    dataset, _, _ = planted_world()
    config = ALSConfig(dim=2, l2=1.0, alpha=9.0, sweeps=60, recency=1.0)
    scorer = ALS.fit(dataset, dataset.events, config)
    ours = scorer.score(Requests.of_users(dataset, np.arange(80)), 0).total
    theirs = model.recalculate_user(np.arange(80), taken) @ model.item_factors.T
    np.testing.assert_allclose(ours, theirs, atol=0.01)
