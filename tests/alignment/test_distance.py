from __future__ import annotations

import numpy as np
import pytest
import torch

from isthmus.alignment.distance import DomainDistance, proxy_a_distance
from isthmus.alignment.losses import mmd


def _cloud(seed: int, n: int = 400, shift: float = 0.0, dim: int = 10) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, dim)) + shift).astype(np.float32)


def test_mmd_is_what_its_definition_says_pair_by_pair():
    a, b = torch.randn(7, 3).double(), torch.randn(5, 3).double() + 1
    both = [*a, *b]
    gaps = [float((x - y) @ (x - y)) for i, x in enumerate(both) for y in both[i + 1 :]]
    median = sorted(gaps * 2)[len(gaps) - 1]

    def kernel(x: torch.Tensor, y: torch.Tensor) -> float:
        squared = float((x - y) @ (x - y))
        return sum(np.exp(-squared / (w * median)) for w in (0.5, 1.0, 3.0)) / 3

    one = np.mean([kernel(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
    two = np.mean([kernel(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])
    across = np.mean([kernel(x, y) for x in a for y in b])
    assert float(mmd(a, b, (0.5, 1.0, 3.0))) == pytest.approx(one + two - 2 * across, rel=1e-6)


def test_mmd_is_unbiased_about_zero_for_one_population():
    found = [
        float(mmd(*(torch.from_numpy(_cloud(100 * s + k, 60)) for k in (0, 1)))) for s in range(60)
    ]
    assert abs(np.mean(found)) < 2.5 * np.std(found) / 60**0.5
    assert min(found) < 0


def test_all_distances_see_a_shift_and_none_sees_two_draws_of_one_population():
    same = DomainDistance.measure(_cloud(0), _cloud(1))
    apart = DomainDistance.measure(_cloud(0), _cloud(1, shift=1.0))
    assert abs(same.mmd) < 0.005 < apart.mmd
    assert same.proxy_a < 0.35 < 1.5 < apart.proxy_a <= 2
    assert same.pairs is None
    assert abs(same.between) < 0.02 < 0.1 < apart.within


def test_the_classifier_is_judged_on_what_it_has_not_seen():
    # More directions than items: anything can be told apart on what is learnt from.
    assert proxy_a_distance(_cloud(0, 60, dim=300), _cloud(1, 60, dim=300)) < 0.8


def test_distances_do_not_depend_on_the_order_of_items():
    a, b = _cloud(0, 300), _cloud(1, 300, shift=0.3)
    order = np.random.default_rng(0).permutation(300)
    one = DomainDistance.measure(a, b, points=100)
    other = DomainDistance.measure(a[order], b[order], points=100)
    for name in ("mmd", "proxy_a", "coral", "between", "within"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-6)


def test_paired_items_at_random_are_as_far_as_any_two():
    a, b = _cloud(0, 2000), _cloud(1, 2000, shift=0.5)
    pairs = np.repeat(np.arange(2000)[:, None], 2, 1)
    assert DomainDistance.measure(a, b, pairs, points=100).pairs == pytest.approx(1.0, abs=0.05)
    near = b - 0.5 + 0.01
    assert DomainDistance.measure(near, b - 0.5, pairs, points=100).pairs == pytest.approx(
        0.0, abs=0.01
    )


def test_mean_cosines_are_those_of_all_pairs():
    a, b = _cloud(0, 20, shift=0.4), _cloud(1, 30, shift=0.1)
    found = DomainDistance.measure(a, b)
    one, two = (x / np.linalg.norm(x, axis=1)[:, None] for x in (a, b))
    assert found.between == pytest.approx(float((one @ two.T).mean()), abs=1e-5)
    within = [(x @ x.T)[~np.eye(len(x), dtype=bool)].mean() for x in (one, two)]
    assert found.within == pytest.approx(float(np.mean(within)), abs=1e-5)


def test_too_few_items_give_no_classifier_and_no_error():
    found = DomainDistance.measure(_cloud(0, 3), _cloud(1, 5))
    assert np.isnan(found.proxy_a)
    assert np.isfinite(found.mmd)
