from __future__ import annotations

import numpy as np
import pytest

from isthmus.alignment.coral import Coral
from isthmus.alignment.distance import DomainDistance
from isthmus.alignment.domains import MAPS, FeatureAlignment, align_features, features_apart
from isthmus.alignment.representations import LOSSES
from isthmus.config import FEATURE_MAPS, REPRESENTATION_LOSSES, Config
from isthmus.data.features import ItemFeatures
from isthmus.errors import ConfigError, DataError


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


def _three() -> list[ItemFeatures]:
    """Three views of the same 200 texts, each of its own place and form; gaps in all of them."""
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12))
    sets = []
    for d, size in enumerate((200, 170, 150)):
        form = np.eye(12) + 0.15 * np.random.default_rng(d + 1).normal(size=(12, 12))
        vectors = (texts[:size] @ form * (1 + d) + 5 * d).astype(np.float32)
        present = np.arange(size) % (9 + d) != 0
        vectors[~present] = 0
        sets.append(ItemFeatures(vectors, present))
    return sets


def _apart(features: list[ItemFeatures], a: int, b: int, measure: str) -> float:
    """A distance of two domains; the same row is the same text."""
    rows = [f.vectors[f.present] for f in (features[a], features[b])]
    place = [np.cumsum(f.present) - 1 for f in (features[a], features[b])]
    both = np.flatnonzero(features[a].present[:150] & features[b].present[:150])
    pairs = np.column_stack([p[both] for p in place])
    return float(getattr(DomainDistance.measure(*rows, pairs), measure))


@pytest.mark.parametrize(
    ("maps", "measure"),
    [
        (["whiten"], "mmd"),
        (["coral"], "coral"),
        (["procrustes"], "pairs"),
        (["whiten", "procrustes"], "pairs"),
        (["sinkhorn"], "mmd"),
    ],
)
def test_three_domains_come_together_and_missing_texts_stay_masked(maps, measure):
    raw = _three()
    config = _config(f"alignment.features={maps}", "language.whiten_dim=12")
    aligned = FeatureAlignment.fit(raw, config)
    assert aligned.anchor == 0
    for before, after in zip(raw, aligned.features, strict=True):
        assert np.array_equal(after.present, before.present)
        assert not after.vectors[~after.present].any()
        length = np.linalg.norm(after.vectors[after.present], axis=1)
        np.testing.assert_allclose(length, 12**0.5, rtol=1e-4)
    plain = align_features(raw, _config("alignment.features=[]"))
    for pair in ((0, 1), (0, 2), (1, 2)):
        assert _apart(aligned.features, *pair, measure) < 0.7 * _apart(plain, *pair, measure)


def test_the_anchor_stands_still_and_is_named_or_has_the_most_texts():
    raw = _three()
    raw[0] = ItemFeatures(raw[0].vectors[:60], raw[0].present[:60])
    aligned = FeatureAlignment.fit(raw, _config("alignment.features=['coral']"))
    assert aligned.anchor == 1
    kept = aligned.features[1].vectors / 12**0.5
    unit = raw[1].vectors / np.maximum(np.linalg.norm(raw[1].vectors, axis=1), 1e-9)[:, None]
    np.testing.assert_allclose(kept, unit, atol=1e-5)
    named = FeatureAlignment.fit(raw, _config("alignment.anchor='2'"))
    assert named.anchor == 2
    with pytest.raises(ConfigError, match=r"alignment\.anchor.*'films' is no domain"):
        FeatureAlignment.fit(raw, _config("alignment.anchor=films"))


def test_an_anchor_without_a_text_is_in_the_way_of_maps_that_need_one():
    raw = _three()
    raw[1] = ItemFeatures(np.zeros_like(raw[1].vectors), np.zeros_like(raw[1].present))
    found = FeatureAlignment.fit(raw, _config("alignment.anchor='1'", "language.whiten_dim=12"))
    assert {feature.dim for feature in found.features} == {12}
    with pytest.raises(DataError, match="1"):
        FeatureAlignment.fit(raw, _config("alignment.anchor='1'", "alignment.features=['coral']"))


@pytest.mark.parametrize("maps", ["whiten", "coral", "procrustes", "sinkhorn"])
def test_another_domain_joins_as_if_it_had_been_there(maps):
    raw = _three()
    config = _config(
        f"alignment.features=['{maps}']", "alignment.pair_cosine=0.2", "alignment.basis=own"
    )
    before = FeatureAlignment.fit(raw[:2], config)
    joined = before.join(raw[2])
    together = align_features(raw, config)[2]
    np.testing.assert_allclose(joined.vectors, together.vectors, atol=1e-4)
    nothing = before.join(ItemFeatures(np.zeros((3, 12), np.float32), np.zeros(3, bool)))
    assert nothing.vectors.shape == (3, together.dim)


def test_what_a_target_reads_alone_owes_nothing_to_other_domains():
    raw = _three()
    config = _config("alignment.features=['whiten', 'coral']", "alignment.basis=shared")
    other = [ItemFeatures(raw[0].vectors[::-1] * 3, raw[0].present[::-1]), *raw[1:]]
    one, two = (features_apart(sets, config) for sets in (raw, other))
    np.testing.assert_array_equal(one[1].vectors, two[1].vectors)
    assert not np.array_equal(*(align_features(sets, config)[1].vectors for sets in (raw, other)))


class Doubled(Coral):
    """A map of one's own: it asks for a setting by name."""

    @classmethod
    def fit(cls, a, b, pairs=None, *, epsilon=0.0):  # type: ignore[no-untyped-def]
        assert epsilon == 0.25
        return super().fit(a, b)


class NoMap:
    def fit(self, a, b, pairs=None):  # type: ignore[no-untyped-def]
        return self


def test_a_map_of_ones_own_is_named_by_its_path():
    config = _config(f"alignment.features=['{__name__}:Doubled']", "alignment.epsilon=0.25")
    plain = _config("alignment.features=['coral']")
    found, wanted = (align_features(_three(), how) for how in (config, plain))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.vectors, other.vectors)


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("no_such_package:Map", "cannot be imported: No module named 'no_such_package'"),
        (f"{__name__}:Missing", "cannot be imported: module .* has no attribute 'Missing'"),
        (f"{__name__}:NoMap", "has no class method 'fit' or no 'transform'"),
    ],
)
def test_a_path_that_leads_nowhere_is_said(path, complaint):
    with pytest.raises(ConfigError, match=f"alignment.features: .*{complaint}"):
        align_features(_three(), _config(f"alignment.features=['{path}']"))


@pytest.mark.parametrize("key", ["features=['whitten']", "representations={whitten=1.0}"])
def test_a_name_that_is_near_one_is_met_with_it(key):
    with pytest.raises(ConfigError, match=r"alignment.*'whitten'.*mypkg\.module:Class"):
        _config(f"alignment.{key}")


def test_a_map_without_what_it_needs_says_so():
    raw = _three()
    empty = ItemFeatures(np.zeros((5, 12), np.float32), np.zeros(5, bool))
    with pytest.raises(DataError, match="no item of '1' has a text, and coral needs texts"):
        align_features([raw[0], empty], _config("alignment.features=['coral']"))
    with pytest.raises(ConfigError, match="'sinkhorn' brings one domain to another"):
        align_features(raw[:1], _config("alignment.features=['sinkhorn']"))
    strict = _config("alignment.features=['procrustes']", "alignment.pair_cosine=1")
    with pytest.raises(DataError, match=r"alignment\.pair_cosine: no text .* nearest"):
        align_features(raw, strict)


def test_without_any_text_nothing_is_aligned_and_nothing_fails():
    empty = ItemFeatures(np.zeros((5, 12), np.float32), np.zeros(5, bool))
    for maps in ("['whiten']", "['coral']"):
        for feature in align_features([empty, empty], _config(f"alignment.features={maps}")):
            assert feature.vectors.shape == (5, 8)


def test_the_names_in_the_configuration_are_those_there_are():
    assert tuple(MAPS) == FEATURE_MAPS
    assert tuple(LOSSES) == REPRESENTATION_LOSSES
