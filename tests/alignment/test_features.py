from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.alignment.features import Whitening
from isthmus.scoring import Float
from isthmus.training.checkpoint import State


def cone(n: int = 400, dim: int = 12, seed: int = 0) -> Float:
    """Correlated vectors far from the origin, as language models give."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, dim)) @ (rng.normal(size=(dim, dim)) * np.arange(1, dim + 1))
    return (mixed + 30).astype(np.float32)


@given(seed=st.integers(0, 1000), kind=st.sampled_from(["pca", "zca"]))
@settings(max_examples=15, deadline=None)
def test_whitened_vectors_have_mean_zero_and_covariance_one(seed: int, kind: str) -> None:
    vectors = cone(seed=seed)
    white = Whitening.fit(vectors, kind=kind, dim=12, floor=0, unit=False).transform(vectors)  # type: ignore[arg-type]
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-2)
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(12), atol=2e-2)


def test_both_kinds_have_the_same_cosines() -> None:
    vectors = cone()
    pca = Whitening.fit(vectors, kind="pca", dim=5).transform(vectors)
    zca = Whitening.fit(vectors, kind="zca", dim=5).transform(vectors)
    assert pca.shape == (400, 5)
    assert zca.shape == (400, 12)
    np.testing.assert_allclose(pca @ pca.T, zca @ zca.T, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(pca, axis=1), 1, atol=1e-5)


def test_zca_keeps_the_axes() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(5000, 3)) * [1, 2, 4] + 7).astype(np.float32)
    matrix = Whitening.fit(vectors, kind="zca", dim=3).matrix
    np.testing.assert_allclose(matrix, np.diag([1, 1 / 2, 1 / 4]), atol=0.05)


def test_rows_without_content_are_neither_read_nor_written() -> None:
    vectors = cone()
    present = np.ones(400, bool)
    present[::3] = False
    spoilt = np.where(present[:, None], vectors, np.nan).astype(np.float32)
    whitening = Whitening.fit(spoilt, present, dim=6)
    np.testing.assert_array_equal(whitening.matrix, Whitening.fit(vectors[present], dim=6).matrix)
    white = whitening.transform(spoilt, present)
    assert (white[~present] == 0).all()
    np.testing.assert_allclose(white[present], whitening.transform(vectors[present]), atol=1e-6)


def test_shrinkage_moves_towards_the_raw_axes() -> None:
    vectors = cone()
    plain = Whitening.fit(vectors, dim=12, shrinkage=0.0, unit=False).transform(vectors)
    mixed = Whitening.fit(vectors, dim=12, shrinkage=0.5, unit=False).transform(vectors)
    full = Whitening.fit(vectors, dim=12, shrinkage=1.0, unit=False).transform(vectors)
    ratio = [white.std(0).max() / white.std(0).min() for white in (plain, mixed, full)]
    assert ratio[0] < 1.1 < ratio[1] < ratio[2]


@pytest.mark.parametrize("n", [0, 1, 4])
@pytest.mark.parametrize("kind", ["pca", "zca"])
def test_fewer_items_than_directions_stay_finite(n: int, kind: str) -> None:
    vectors = cone(max(n, 1))[:n]
    whitening = Whitening.fit(vectors, dim=8, kind=kind)  # type: ignore[arg-type]
    white = whitening.transform(cone(5))
    assert white.shape == (5, 8 if kind == "pca" else 12)
    assert np.isfinite(white).all()


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_the_order_of_the_rows_does_not_matter(seed: int) -> None:
    vectors = cone(seed=seed)
    order = np.random.default_rng(seed).permutation(len(vectors))
    plain = Whitening.fit(vectors, dim=6).transform(vectors)
    other = Whitening.fit(vectors[order], dim=6).transform(vectors)
    np.testing.assert_allclose(other, plain, atol=1e-3)


def test_a_saved_state_maps_the_same_to_the_last_bit() -> None:
    vectors = cone()
    whitening = Whitening.fit(vectors, dim=6, unit=False)
    state = whitening.state()
    again = Whitening.from_state(State(dict(state.arrays), dict(state.meta)))
    np.testing.assert_array_equal(again.transform(vectors), whitening.transform(vectors))
