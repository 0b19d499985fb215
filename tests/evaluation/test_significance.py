from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from isthmus.evaluation.significance import (
    contrast,
    holm,
    mean_ci,
    paired,
    percentiles,
    resampled_means,
)


def test_one_question_a_user_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=800)
    found = mean_ci(values, np.arange(800), n_resamples=4000)
    known = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(known.low, abs=0.01)
    assert found.high == pytest.approx(known.high, abs=0.01)


def test_a_users_questions_are_drawn_together() -> None:
    values = np.random.default_rng(0).normal(size=300)
    once = mean_ci(values, np.arange(300))
    often = mean_ci(np.repeat(values, 10), np.repeat(np.arange(300), 10))
    assert often == pytest.approx(once)
    as_if_independent = mean_ci(np.repeat(values, 10), np.arange(3000))
    assert as_if_independent.high - as_if_independent.low < 0.5 * (once.high - once.low)


def test_every_user_is_drawn_as_often_as_any_other() -> None:
    draws = resampled_means(np.eye(20), np.arange(20), n_resamples=4000)[1][:, 0]
    np.testing.assert_allclose(draws.sum(axis=1), 1)
    np.testing.assert_allclose(draws.mean(axis=0), 1 / 20, rtol=0.1)
    # Counts of a draw with replacement: variance (1 − 1/n), up to chance.
    np.testing.assert_allclose((draws * 20).var(axis=0), 1 - 1 / 20, rtol=0.15)


def test_the_order_of_rows_is_of_no_account() -> None:
    rng = np.random.default_rng(0)
    values, users = rng.normal(size=200), rng.integers(0, 40, 200)
    shuffled = rng.permutation(200)
    assert mean_ci(values[shuffled], users[shuffled]) == pytest.approx(mean_ci(values, users))


def test_slices_are_means_of_their_own_questions() -> None:
    rng = np.random.default_rng(0)
    values, users = rng.normal(size=(500, 3)), rng.integers(0, 100, 500)
    masks = np.column_stack([np.ones(500, bool), rng.random(500) < 0.3, np.zeros(500, bool)])
    means, draws = resampled_means(values, users, masks, n_resamples=200)
    assert means.shape == (3, 3)
    assert draws.shape == (200, 3, 3)
    np.testing.assert_allclose(means[1], values[masks[:, 1]].mean(axis=0))
    # The whole population is drawn, so a slice is as uncertain as it is alone, up to chance.
    alone = resampled_means(values[masks[:, 1]], users[masks[:, 1]], n_resamples=2000)[1]
    np.testing.assert_allclose(draws[:, 1].std(axis=0), alone[:, 0].std(axis=0), rtol=0.2)
    assert np.isnan(means[2]).all()
    assert percentiles(draws[:, 2, 0]) == pytest.approx((np.nan, np.nan), nan_ok=True)


def test_chunks_of_resamples_do_not_depend_on_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    values, users = np.random.default_rng(0).normal(size=(50, 2)), np.arange(50)
    whole = resampled_means(values, users, n_resamples=130)[1]
    monkeypatch.setattr("isthmus.evaluation.significance._BLOCK", 50 * 7)
    np.testing.assert_allclose(resampled_means(values, users, n_resamples=130)[1], whole)


def test_the_same_seed_gives_the_same_interval() -> None:
    values, users = np.random.default_rng(0).normal(size=100), np.arange(100)
    assert mean_ci(values, users, seed=1) == mean_ci(values, users, seed=1)
    assert mean_ci(values, users, seed=1) != mean_ci(values, users, seed=2)


def test_equal_systems_differ_by_nothing() -> None:
    values = np.random.default_rng(0).random(100)
    found = paired(values, values, np.arange(100))
    assert found == (0, 0, 0, 0, 0, 0, 1)


def test_a_small_but_constant_gain_is_certain() -> None:
    values = np.random.default_rng(0).random(100)
    found = paired(values * 1.1, values, np.arange(100), n_resamples=999)
    assert found.relative == pytest.approx(0.1)
    assert (found.rel_low, found.rel_high) == pytest.approx((0.1, 0.1))
    assert found.difference == pytest.approx(0.1 * values.mean())
    assert found.ci_low > 0
    assert found.p == pytest.approx(2 / 1000)


def test_sides_change_the_sign_alone() -> None:
    a, b = np.random.default_rng(0).random((2, 100))
    one, other = paired(a, b, np.arange(100)), paired(b, a, np.arange(100))
    assert one.difference == pytest.approx(-other.difference)
    assert one.ci_low == pytest.approx(-other.ci_high)
    assert one.p == other.p


def test_pairing_removes_what_both_share() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(size=500)
    a, b = hard + rng.normal(0.05, 0.1, 500), hard + rng.normal(0, 0.1, 500)
    found = paired(a, b, np.arange(500))
    assert found.ci_low > 0
    assert found.ci_high - found.ci_low < 0.2 * np.subtract(*mean_ci(a, np.arange(500))[:0:-1])


def test_a_null_difference_is_found_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(0)
    ps = [
        paired(*rng.normal(size=(2, 80)), np.arange(80), n_resamples=200, seed=i).p
        for i in range(400)
    ]
    assert 0.02 < np.mean(np.array(ps) < 0.05) < 0.09


def test_seeds_are_averaged_per_question_first() -> None:
    rng = np.random.default_rng(0)
    a, b, users = rng.random((3, 100)), rng.random((3, 100)), rng.integers(0, 30, 100)
    assert paired(a, b, users) == paired(a.mean(axis=0), b.mean(axis=0), users)
    assert mean_ci(a, users) == mean_ci(a.mean(axis=0), users)


def test_an_uplift_over_nothing_is_undefined() -> None:
    found = contrast(np.array([0.2, 0.0]), np.array([[0.2, 0.0], [0.3, 0.0]]))
    assert np.isnan([found.relative, found.rel_low, found.rel_high]).all()
    assert found.difference == pytest.approx(0.2)


def test_holm_agrees_with_the_published_steps() -> None:
    # R: p.adjust(c(.01, .04, .03, .005), "holm")
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).tolist() == [1, 1]
    assert holm(np.array([0.2])).tolist() == [0.2]
