from __future__ import annotations

import numpy as np
import pytest

from isthmus.alignment.domains import align_features
from isthmus.config import Config
from isthmus.data.features import ItemFeatures


def _config(*overrides: str) -> Config:
    return Config().override("language.whiten_dim=8", *overrides)


def _catalogue(seed: int, n: int = 300, dim: int = 12) -> ItemFeatures:
    """Correlated vectors off the origin; every seventh item has no text."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).normal(size=(dim, dim))
    stretch = rng.uniform(0.5, 2, dim)
    vectors = (rng.normal(size=(n, dim)) * stretch @ mixing * 5 + 3 + seed).astype(np.float32)
    present = np.arange(n) % 7 != 0
    vectors[~present] = 0
    return ItemFeatures(vectors, present)


@pytest.mark.parametrize("basis", ["own", "shared"])
def test_vectors_have_entries_of_unit_size_and_gaps_stay_gaps(basis):
    nothing = ItemFeatures(np.zeros((4, 12), np.float32), np.zeros(4, bool))
    config = _config(f"alignment.basis={basis}")
    full, empty = align_features([_catalogue(0), nothing], config)
    assert full.vectors.shape[1] == empty.vectors.shape[1] == 8
    assert np.sqrt((full.vectors[full.present] ** 2).mean()) == pytest.approx(1.0, rel=0.1)
    assert not full.vectors[~full.present].any()
    assert np.array_equal(full.present, _catalogue(0).present)
    assert not empty.present.any()


def test_a_shared_basis_shows_what_reads_alike_across_domains():
    # Equal deviations from the catalogue's mean, as two catalogues with like items have them.
    probe = np.random.default_rng(5).normal(size=(50, 12)).astype(np.float32)
    views = []
    for feature in (_catalogue(0), _catalogue(1)):
        rows = feature.vectors[feature.present]
        vectors = np.concatenate([rows, rows.mean(0) + probe])
        views.append(ItemFeatures(vectors, np.ones(len(vectors), bool)))
    cosine = {}
    for basis in ("own", "shared"):
        aligned = align_features(views, _config(f"alignment.basis={basis}"))
        one, other = (f.vectors[-50:] for f in aligned)
        # Entries are of unit size: the mean product is the cosine.
        cosine[basis] = float((one * other).mean())
    assert cosine["shared"] > 0.8
    assert cosine["own"] < 0.5


def test_a_shared_basis_does_not_depend_on_order_of_domains_or_items():
    sets = [_catalogue(0), _catalogue(1, n=120), _catalogue(2, n=60)]
    config = _config("alignment.basis=shared")
    straight = align_features(sets, config)
    turned = align_features(sets[::-1], config)[::-1]
    order = np.random.default_rng(0).permutation(300)
    mixed = align_features(
        [ItemFeatures(sets[0].vectors[order], sets[0].present[order]), *sets[1:]], config
    )
    for one, two in zip(straight, turned, strict=True):
        np.testing.assert_allclose(one.vectors, two.vectors, atol=1e-3)
    np.testing.assert_allclose(mixed[0].vectors, straight[0].vectors[order], atol=1e-3)
