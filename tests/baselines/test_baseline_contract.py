"""What every baseline owes to whoever asks it, whatever it has learned."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from baseline_world import (
    asking,
    moved_requests,
    planted_world,
    random_features,
    random_world,
    renumbered,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.baselines.als import ALS, ALSConfig
from isthmus.baselines.bitgcf import BiTGCF, BiTGCFConfig
from isthmus.baselines.cmf import CMF, CMFConfig
from isthmus.baselines.content import ContentKNN, ContentKNNConfig
from isthmus.baselines.cooccurrence import CoOccurrence, CoOccurrenceConfig
from isthmus.baselines.ease import EASE, EASEConfig
from isthmus.baselines.emcdr import EMCDR, EMCDRConfig
from isthmus.baselines.popular import Popular, RecentPopular
from isthmus.baselines.unisrec import UniSRec, UniSRecConfig
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import leave_one_out
from isthmus.errors import ConfigError
from isthmus.scoring import Requests, Scorer
from isthmus.training.checkpoint import State

Features = list[ItemFeatures]
SMALL = {"dim": 4, "sweeps": 8, "alpha": 5.0, "l2": 0.5}
SHORT = Config.model_validate(
    {
        "model": {"dim": 4, "layers": 1, "heads": 1, "max_length": 8},
        "training": {"epochs": 2, "full_softmax": True, "device": "cpu", "evaluate_every": 1},
    }
)
# The noise of a gate between several is drawn item by item.
ONE_EXPERT = UniSRecConfig(experts=1, ids=False)
GRAPH = BiTGCFConfig(dim=4, epochs=2, learning_rate=0.01)

FITS: dict[str, Callable[[Dataset, Features], Scorer]] = {
    "popular": lambda d, f: Popular.fit(d, d.events),
    "recent-popular": lambda d, f: RecentPopular.fit(d, d.events),
    "co-occurrence": lambda d, f: CoOccurrence.fit(
        d, d.events, CoOccurrenceConfig(backward=0.3, order_decay=0.7, fades_to=(0.2,))
    ),
    "co-occurrence-target": lambda d, f: CoOccurrence.fit(
        d, d.events, CoOccurrenceConfig(merged=False)
    ),
    "ease": lambda d, f: EASE.fit(d, d.events, EASEConfig(l2=2.0, prune=0.0, merged=False)),
    "ease-merged": lambda d, f: EASE.fit(d, d.events, EASEConfig(l2=2.0, prune=0.0, merged=True)),
    "als": lambda d, f: ALS.fit(d, d.events, ALSConfig(merged=False, **SMALL)),
    "als-merged": lambda d, f: ALS.fit(d, d.events, ALSConfig(merged=True, **SMALL)),
    "text": lambda d, f: ContentKNN.fit(d, d.events, f, ContentKNNConfig(merged=False)),
    "text-merged": lambda d, f: ContentKNN.fit(d, d.events, f, ContentKNNConfig(merged=True)),
    "emcdr": lambda d, f: EMCDR.fit(d, d.events, EMCDRConfig(**SMALL)),
    "cmf": lambda d, f: CMF.fit(d, d.events, 0, CMFConfig(**SMALL)),
    "bitgcf": lambda d, f: BiTGCF.fit(d, leave_one_out(d), SHORT, GRAPH),
    "unisrec": lambda d, f: UniSRec.fit(d, leave_one_out(d), f, 0, SHORT, ONE_EXPERT),
}
# Inverting, factorising or training rounds in another order when items stand in another order.
ROUNDS = ("ease", "als", "emcdr", "cmf", "bitgcf", "unisrec")
TEXTS = ("text", "text-merged", "unisrec")
LINKED = ("emcdr", "cmf", "bitgcf")


@pytest.fixture(scope="module")
def world() -> tuple[Dataset, Features]:
    dataset = random_world(3)
    return dataset, random_features(dataset, 4)


def everybody(dataset: Dataset) -> Requests:
    return Requests.of_users(dataset, np.arange(dataset.n_users))


@pytest.mark.parametrize("name", FITS)
def test_scores_have_the_shape_of_the_question(name: str, world: tuple[Dataset, Features]) -> None:
    dataset, features = world
    scorer = FITS[name](dataset, features)
    assert isinstance(scorer, Scorer)
    requests = everybody(dataset)
    rng = np.random.default_rng(0)
    for domain, catalogue in enumerate(dataset.domains):
        full = scorer.score(requests, domain).total
        assert full.dtype == np.float32
        assert full.shape == (len(requests), catalogue.n_items)
        assert np.isfinite(full).all()
        shared = np.array([5, 0, 7])
        own = rng.integers(0, catalogue.n_items, (len(requests), 4))
        np.testing.assert_array_equal(scorer.score(requests, domain, shared).total, full[:, shared])
        np.testing.assert_array_equal(
            scorer.score(requests, domain, own).total, np.take_along_axis(full, own, 1)
        )


@pytest.mark.parametrize("name", FITS)
def test_a_saved_state_scores_the_same_to_the_last_bit(
    name: str, world: tuple[Dataset, Features]
) -> None:
    dataset, features = world
    scorer = FITS[name](dataset, features)
    state = scorer.state()  # type: ignore[attr-defined]
    copied = State({k: np.array(v) for k, v in state.arrays.items()}, dict(state.meta))
    apart = [features] if name == "unisrec" else []
    again = type(scorer).from_state(copied, *apart)  # type: ignore[attr-defined]
    assert again.name == scorer.name
    requests = everybody(dataset)
    for domain in range(2):
        np.testing.assert_array_equal(
            again.score(requests, domain).total, scorer.score(requests, domain).total
        )


@pytest.mark.parametrize("name", FITS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_renumbered_items_take_their_scores_with_them(name: str, seed: int) -> None:
    dataset = random_world(seed)
    features = random_features(dataset, seed + 1)
    rng = np.random.default_rng(seed + 2)
    places = [rng.permutation(domain.n_items) for domain in dataset.domains]
    other, orders = renumbered(dataset, places)
    moved = [
        ItemFeatures(f.vectors[order], f.present[order])
        for f, order in zip(features, orders, strict=True)
    ]
    first, second = FITS[name](dataset, features), FITS[name](other, moved)
    requests = everybody(dataset)
    for domain in range(2):
        before = first.score(requests, domain).total
        after = second.score(moved_requests(requests, places), domain).total[:, places[domain]]
        if name.startswith(ROUNDS):
            np.testing.assert_allclose(after, before, atol=2e-4)
        else:
            np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("name", FITS)
def test_a_history_of_unknown_items_counts_as_none(
    name: str, world: tuple[Dataset, Features]
) -> None:
    dataset, features = world
    scorer = FITS[name](dataset, features)
    empty = scorer.score(asking([]), 0).total
    added_later = scorer.score(asking([(0, 40), (1, 9), (2, 0)]), 0).total
    np.testing.assert_array_equal(added_later, empty)
    if "popular" not in name:
        assert len(np.unique(empty)) == 1


@pytest.mark.parametrize("name", FITS)
def test_items_that_nobody_took_are_tied(name: str, world: tuple[Dataset, Features]) -> None:
    if name in TEXTS:
        return
    dataset, features = world
    scores = FITS[name](dataset, features).score(everybody(dataset), 0).total
    np.testing.assert_array_equal(scores[:, 10], scores[:, 11])


@pytest.mark.parametrize("name", FITS)
def test_a_batch_without_requests_is_answered(name: str, world: tuple[Dataset, Features]) -> None:
    dataset, features = world
    nobody = Requests.of([])
    assert FITS[name](dataset, features).score(nobody, 1).total.shape == (0, 9)


@pytest.mark.parametrize("name", FITS)
def test_a_domain_without_events_is_answered_or_refused(name: str) -> None:
    dataset = random_world(1)
    events = dataset.events.only(0)
    dataset = Dataset(dataset.domains, dataset.user_ids, events)
    features = random_features(dataset, 1)
    if name in LINKED:
        with pytest.raises(ConfigError, match=f"{name}: it carries over by people"):
            FITS[name](dataset, features)
        return
    scores = FITS[name](dataset, features).score(everybody(dataset), 1).total
    assert scores.shape == (30, 9)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    "name",
    [
        *("co-occurrence", "co-occurrence-target", "ease", "ease-merged"),
        *("als", "als-merged", "emcdr", "cmf"),
    ],
)
def test_two_planted_tastes_are_told_apart(name: str) -> None:
    dataset, requests, parity = planted_world()
    scorer = FITS[name](dataset, [])
    across = ["co-occurrence", "ease-merged", "als-merged", "emcdr", "cmf"]
    for domain in (0, 1) if name in across else (0,):
        best = scorer.score(requests, domain).total.argmax(1)
        np.testing.assert_array_equal(best % 2, parity)
