from __future__ import annotations

import numpy as np
from baseline_world import asking, dataset_of

from isthmus.baselines import cooccurrence
from isthmus.baselines.cooccurrence import CoOccurrence, CoOccurrenceConfig

COUNTS = CoOccurrenceConfig(
    from_power=0.0, to_power=0.0, shrinkage=0.0, recency=0.5, order_decay=1.0
)
HISTORIES = [[(0, 0), (1, 0), (0, 1)], [(0, 0), (0, 1)], [(0, 2), (0, 2)]]


def fit(**changes: object) -> CoOccurrence:
    dataset = dataset_of(HISTORIES, (4, 2))
    return CoOccurrence.fit(dataset, dataset.events, COUNTS.model_copy(update=changes))


def test_pairs_count_in_the_direction_of_time() -> None:
    scorer = fit()
    total = scorer.score(asking([(0, 0)], [(0, 1)], [(1, 0)], [(0, 2)]), 0).total
    np.testing.assert_array_equal(total, [[0, 2, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(scorer.score(asking([(0, 0)]), 1).total, [[1, 0]])


def test_pairs_against_time_count_as_told() -> None:
    total = fit(backward=0.25).score(asking([(0, 1)]), 0).total
    np.testing.assert_array_equal(total, [[0.5, 0, 0, 0]])


def test_distance_fades_and_the_window_ends() -> None:
    history = asking([(0, 0)])
    np.testing.assert_array_equal(fit(order_decay=0.5).score(history, 0).total, [[0, 1.5, 0, 0]])
    np.testing.assert_array_equal(fit(window=1).score(history, 0).total, [[0, 1, 0, 0]])


def test_older_history_weighs_less() -> None:
    total = fit().score(asking([(1, 0), (0, 0), (0, 3)]), 0).total
    np.testing.assert_array_equal(total, [[0, 0.25 * 1 + 0.5 * 2, 0, 0]])


def test_powers_and_shrinkage_discount_frequent_items() -> None:
    cosine = fit(from_power=0.5, to_power=0.5).score(asking([(0, 0)]), 0).total
    np.testing.assert_allclose(cosine, [[0, 2 / np.sqrt(2 * 2), 0, 0]])
    conditional = fit(from_power=1.0, shrinkage=2.0).score(asking([(1, 0)]), 0).total
    np.testing.assert_allclose(conditional, [[0, 1 / (1 + 2), 0, 0]], rtol=1e-6)


def test_target_only_neither_counts_nor_reads_the_other_domain() -> None:
    scorer = fit(merged=False, order_decay=0.5)
    # Without the event of the other domain between them, the items are one apart.
    total = scorer.score(asking([(0, 0)], [(1, 0)], [(0, 0), (1, 1)]), 0).total
    np.testing.assert_array_equal(total, [[0, 2, 0, 0], [0, 0, 0, 0], [0, 2, 0, 0]])
    np.testing.assert_array_equal(scorer.score(asking([(0, 0)]), 1).total, [[0, 0]])


def test_counting_in_several_goes_gives_the_same(monkeypatch: object) -> None:
    whole = fit(backward=0.5, order_decay=0.9).score(asking([(0, 0), (0, 1)]), 0).total
    monkeypatch.setattr(cooccurrence, "PAIRS_AT_ONCE", 1)  # type: ignore[attr-defined]
    pieces = fit(backward=0.5, order_decay=0.9).score(asking([(0, 0), (0, 1)]), 0).total
    np.testing.assert_array_equal(pieces, whole)


def test_added_scores_are_those_of_the_product_to_the_last_digit() -> None:
    rng = np.random.default_rng(0)
    drawn = [[(d, int(rng.integers(9))) for d in rng.integers(2, size=30)] for _ in range(50)]
    dataset = dataset_of(drawn, (9, 9))
    for merged in (True, False):
        config = CoOccurrenceConfig(merged=merged)
        scorer = CoOccurrence.fit(dataset, dataset.events, config)
        requests = asking([], *(history[:n] for n, history in enumerate(drawn)))
        # Items that arrived after fitting have a column, and no score.
        scores = np.zeros((len(requests), 11), np.float32)
        scorer.add_followers(requests, 1, scores)
        np.testing.assert_array_equal(scores[:, :9], scorer.score(requests, 1).total)
        assert scores[:, :9].any()
        assert not scores[:, 9:].any()


def test_what_sold_in_those_days_is_discounted() -> None:
    days = [[0.0, 30.0], [10.0, 31.0], [31.5, 40.0]]
    histories = [[(0, 0), (0, 1)], [(0, 0), (0, 1)], [(0, 2), (0, 1)]]
    dataset = dataset_of(histories, (3,), [[86_400 * day for day in row] for row in days])
    config = COUNTS.model_copy(update={"trend_power": 1.0, "trend_days": 8.0})
    scorer = CoOccurrence.fit(dataset, dataset.events, config)
    first, second = 1.0, 1.0  # sold on days 30 and 31
    by_day_31 = 1 / (1 + first)
    by_day_40 = 1 / (1 + first * 0.5 ** (9 / 8) + second * 0.5**1)
    total = scorer.score(asking([(0, 0)], [(0, 2)]), 0).total
    np.testing.assert_allclose(total[:, 1], [1 + by_day_31, by_day_40], rtol=1e-5)
    # Who takes the earlier item is not discounted, and without a clock nobody is.
    np.testing.assert_array_equal(total[:, [0, 2]], 0)
    timeless = dataset_of(histories, (3,))
    plain = CoOccurrence.fit(timeless, timeless.events, config)
    np.testing.assert_array_equal(plain.score(asking([(0, 0)]), 0).total, [[0, 2, 0]])


def test_against_time_the_earlier_item_is_the_candidate() -> None:
    days = [[0.0], [1.0, 2.0]]
    dataset = dataset_of(
        [[(0, 0)], [(0, 0), (0, 1)]], (2,), [[86_400 * day for day in row] for row in days]
    )
    config = COUNTS.model_copy(update={"trend_power": 1.0, "backward": 1.0})
    total = CoOccurrence.fit(dataset, dataset.events, config).score(asking([(0, 1)]), 0).total
    np.testing.assert_allclose(total, [[0.5, 0]], rtol=1e-5)
