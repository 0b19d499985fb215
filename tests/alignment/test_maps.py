"""Each map recovers a known change of place, and brings down the distance it is meant for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from isthmus.alignment.coral import Coral
from isthmus.alignment.distance import DomainDistance
from isthmus.alignment.features import DomainWhitening
from isthmus.alignment.procrustes import Procrustes
from isthmus.alignment.transport import Sinkhorn, sinkhorn
from isthmus.errors import DataError

DIM = 8


def cloud(seed: int, n: int = 400, dim: int = DIM) -> NDArray[np.float32]:
    """Correlated, skewed vectors off the origin."""
    rng = np.random.default_rng(seed)
    return (rng.gamma(1.5, size=(n, dim)) @ rng.normal(size=(dim, dim)) + 2).astype(np.float32)


def rotation(seed: int, dim: int = DIM) -> NDArray[np.float32]:
    turned, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))
    return turned.astype(np.float32)


def test_coral_gives_the_mean_and_covariance_of_the_other():
    a, b = cloud(0), cloud(1, n=300) * 3
    moved = Coral.fit(a, b).transform(a).astype(np.float64)
    np.testing.assert_allclose(
        np.cov(moved.T, bias=True), np.cov(b.T, bias=True), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(moved.mean(0), b.mean(0), atol=1e-4)


def test_coral_gives_nothing_to_directions_that_hold_nothing():
    a, b = cloud(0), cloud(1)
    a[:, 3] = 5.0
    moved = Coral.fit(a, b).transform(a)
    assert np.isfinite(moved).all()
    assert np.linalg.matrix_rank(np.cov(moved.T), tol=1e-3) == DIM - 1


def test_procrustes_recovers_a_rotation_reflection_and_shift_exactly():
    a = cloud(0)
    turn = rotation(3)
    turn[:, 0] *= -np.sign(np.linalg.det(turn))  # a reflection as well
    b = a @ turn + np.arange(DIM, dtype=np.float32)
    order = np.random.default_rng(0).permutation(len(b))
    pairs = np.column_stack([order, np.arange(len(b))])[:40]
    fitted = Procrustes.fit(a, b[order], pairs)
    np.testing.assert_allclose(fitted.rotation, turn, atol=1e-5)
    np.testing.assert_allclose(fitted.transform(a), b, atol=1e-4)


def test_procrustes_leaves_alone_what_no_pair_speaks_of():
    a = np.zeros((5, DIM), np.float32)
    a[:, :2] = np.random.default_rng(0).normal(size=(5, 2))
    b = a.copy()
    b[:, :2] = a[:, :2] @ rotation(1, 2)
    turned = Procrustes.fit(a, b, np.repeat(np.arange(5)[:, None], 2, 1)).rotation
    np.testing.assert_allclose(turned[2:, 2:], np.eye(DIM - 2), atol=1e-6)
    np.testing.assert_allclose(turned[:2, :2], rotation(1, 2), atol=1e-5)


def test_procrustes_finds_pairs_by_itself_where_texts_are_the_same_in_both():
    a = cloud(0, n=300)
    b = a + 0.01 * np.random.default_rng(1).normal(size=a.shape).astype(np.float32)
    fitted = Procrustes.fit(a, b[::-1])
    np.testing.assert_allclose(fitted.rotation, np.eye(DIM), atol=0.01)


def test_procrustes_without_any_pair_says_so():
    with pytest.raises(DataError, match="no pair joins"):
        Procrustes.fit(cloud(0), cloud(1), np.zeros((0, 2), np.int64))


@pytest.mark.parametrize("share", [0.3, 0.02])
def test_sinkhorn_has_uniform_marginals(share):
    a, b = (torch.from_numpy(cloud(seed, n)).double() for seed, n in ((0, 80), (1, 120)))
    cost = torch.cdist(a, b).square()
    plan = sinkhorn(cost, share * float(cost.mean()), tolerance=1e-4)
    mass = torch.exp((plan.f[:, None] + plan.g[None, :] - cost) / plan.epsilon) / cost.numel()
    assert plan.gap < 1e-4
    np.testing.assert_allclose(mass.sum(1).numpy() * 80, 1, atol=5e-3)
    np.testing.assert_allclose(mass.sum(0).numpy() * 120, 1, atol=5e-3)


def test_sinkhorn_costs_what_the_best_assignment_costs():
    a, b = (torch.from_numpy(cloud(seed, 60)).double() for seed in (0, 1))
    cost = torch.cdist(a, b).square()
    plan = sinkhorn(cost, 0.002 * float(cost.mean()), tolerance=1e-3, iterations=20_000)
    mass = torch.exp((plan.f[:, None] + plan.g[None, :] - cost) / plan.epsilon) / cost.numel()
    rows, columns = linear_sum_assignment(cost.numpy())
    assert float((mass * cost).sum()) == pytest.approx(cost.numpy()[rows, columns].mean(), rel=0.02)


def test_sinkhorn_recovers_a_known_transport_of_what_it_has_not_seen():
    rng = np.random.default_rng(0)
    a = rng.uniform(size=(800, 2)).astype(np.float32)
    shift = np.array([3.0, -1.0], np.float32)
    stretch = np.array([1.0, 2.0], np.float32)
    b = rng.uniform(size=(800, 2)).astype(np.float32) * stretch + shift
    fitted = Sinkhorn.fit(a, b, epsilon=0.001, points=400)
    fresh = rng.uniform(0.1, 0.9, size=(200, 2)).astype(np.float32)
    error = np.abs(fitted.transform(fresh) - (fresh * stretch + shift)).mean(0)
    assert (error < [0.1, 0.2]).all()
    assert len(fitted.support) == 400


def test_sinkhorn_does_not_depend_on_the_order_of_items():
    a, b = cloud(0, 300), cloud(1, 300)
    order = np.random.default_rng(0).permutation(300)
    one = Sinkhorn.fit(a, b, points=100).transform(a)
    other = Sinkhorn.fit(a[order], b[order], points=100).transform(a)
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_whitening_within_shared_axes_makes_both_domains_round_and_comparable():
    a, b = cloud(0), cloud(1, n=300)
    one = DomainWhitening.fit(a, b, dim=DIM).whitening
    other = DomainWhitening.fit(b, a, dim=DIM).whitening
    for fitted, rows in ((one, a), (other, b)):
        white = (rows.astype(np.float64) - fitted.mean) @ fitted.matrix
        np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(DIM), atol=1e-3)
    # Both maps are symmetric in the shared axes: neither domain is turned against the other.
    cross = one.matrix.T @ other.matrix
    assert np.linalg.eigvals(cross).real.min() > 0


@pytest.mark.parametrize(
    ("kind", "measure"),
    [(DomainWhitening, "coral"), (Coral, "coral"), (Procrustes, "pairs"), (Sinkhorn, "mmd")],
)
def test_each_map_brings_its_own_distance_down(kind, measure):
    a = cloud(0)
    shift = np.linspace(-2, 2, DIM).astype(np.float32)
    b = a @ rotation(5) * 1.5 + shift
    pairs = np.repeat(np.arange(len(a))[:, None], 2, 1)
    moved = kind.fit(a, b, pairs).transform(a)
    still = kind.fit(b, a, pairs).transform(b) if kind is DomainWhitening else b
    before = getattr(DomainDistance.measure(a, b, pairs), measure)
    after = getattr(DomainDistance.measure(moved, still, pairs), measure)
    assert after < 0.3 * before
