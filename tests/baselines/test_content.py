from __future__ import annotations

import numpy as np
from baseline_world import asking, dataset_of

from isthmus.baselines.content import ContentKNN, ContentKNNConfig
from isthmus.data.features import ItemFeatures
from isthmus.scoring import Float

OWN = ContentKNNConfig(merged=False, recency=0.5, last=2)
BOTH = OWN.model_copy(update={"merged": True, "elsewhere": 0.25})


def cross() -> Float:
    """Four directions that whitening leaves as they are."""
    return np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)


def fit(config: ContentKNNConfig = OWN) -> ContentKNN:
    """Items 0 to 3 on a cross, 4 without text, 5 as 0; the other domain is the cross alone."""
    dataset = dataset_of([[]], (6, 4))
    first = np.concatenate([cross(), [[0, 0]], [[1, 0]]]).astype(np.float32)
    features = [
        ItemFeatures(first, np.array([True] * 4 + [False, True])),
        ItemFeatures(cross(), np.ones(4, bool)),
    ]
    return ContentKNN.fit(dataset, dataset.events, features, config)


def test_scores_are_decayed_cosines_and_texts_that_are_equal_tie() -> None:
    total = fit().score(asking([(0, 0)], [(0, 0), (0, 2)]), 0).total
    # The item without a text scores the mean of the five others.
    np.testing.assert_allclose(total[0], [1, -1, 0, 0, 0.2, 1], atol=1e-6)
    np.testing.assert_allclose(total[1], [0.5, -0.5, 1, -1, 0.1, 0.5], atol=1e-6)
    assert (total[:, 0] == total[:, 5]).all()


def test_vectors_that_were_learnt_in_whitened_coordinates_are_only_centred() -> None:
    """Taste lies in the long direction: whitening would make the short one count as much."""
    dataset = dataset_of([[]], (4,))
    rows = np.array([[5, 1], [5, -1], [-5, 1], [-5, -1]], np.float32)
    for whitened, expected in ((False, [1, 0, 0, -1]), (True, [1, 24 / 26, -24 / 26, -1])):
        features = [ItemFeatures(rows + 7, np.ones(4, bool), whitened)]
        config = OWN.model_copy(update={"shrinkage": 0.0})
        scorer = ContentKNN.fit(dataset, dataset.events, features, config)
        found = scorer.score(asking([(0, 0)]), 0).total[0]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_only_the_latest_texts_count_and_gaps_do_not_age_them() -> None:
    with_gap = asking([(0, 2), (0, 1), (0, 4), (0, 0), (0, 4)])
    total = fit().score(with_gap, 0).total
    np.testing.assert_allclose(total[0, :4], [1 - 0.5, -1 + 0.5, 0, 0], atol=1e-6)


def test_the_other_domain_counts_only_when_merged() -> None:
    history = asking([(1, 2)])
    np.testing.assert_array_equal(fit().score(history, 0).total, np.zeros((1, 6)))
    merged = fit(BOTH).score(history, 0).total
    np.testing.assert_allclose(merged[0, :4], [0, 0, 0.25, -0.25], atol=1e-6)


def test_events_elsewhere_neither_age_nor_crowd_out_the_own() -> None:
    history = asking([(0, 0), (1, 2), (1, 2), (1, 0)])
    total = fit(BOTH).score(history, 0).total
    np.testing.assert_allclose(total[0, :4], [1.25, -1.25, 0.125, -0.125], atol=1e-6)


def test_a_history_without_text_scores_all_alike() -> None:
    np.testing.assert_array_equal(fit().score(asking([(0, 4)]), 0).total, np.zeros((1, 6)))


def test_a_domain_without_any_text_scores_all_alike() -> None:
    dataset = dataset_of([[]], (3, 4))
    nothing = ItemFeatures(np.zeros((3, 2), np.float32), np.zeros(3, bool))
    features = [nothing, ItemFeatures(cross(), np.ones(4, bool))]
    scorer = ContentKNN.fit(dataset, dataset.events, features, OWN)
    np.testing.assert_array_equal(scorer.score(asking([(0, 1)]), 0).total, np.zeros((1, 3)))


def test_planted_themes_are_found_again() -> None:
    rng = np.random.default_rng(0)
    themes = rng.normal(size=(5, 16))
    of_item = np.arange(60) % 5
    # A common offset makes every raw cosine large, as language models do.
    vectors = (10 + themes[of_item] + 0.3 * rng.normal(size=(60, 16))).astype(np.float32)
    dataset = dataset_of([[]], (60,))
    features = [ItemFeatures(vectors, np.ones(60, bool))]
    scorer = ContentKNN.fit(dataset, dataset.events, features, ContentKNNConfig(whiten_dim=4))
    asked = [[(0, theme), (0, theme + 5)] for theme in range(5)]
    total = scorer.score(asking(*asked), 0).total
    best = np.argsort(-total, axis=1)[:, :12]
    assert (of_item[best] == np.arange(5)[:, None]).all()
