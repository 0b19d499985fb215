from __future__ import annotations

import numpy as np
import pytest

from isthmus.blend.shrinkage import DEPTH_SPREAD, Ratios, Uplifts

NONE = np.empty((0, 2))


def _uplifts(value: list[float], sd: list[float], share: list[float], seed: int = 0) -> Uplifts:
    """Normal resamples about `value`, of which all questions are the first."""
    draws = np.array(value) + np.random.default_rng(seed).normal(size=(4000, len(sd))) * sd
    ratios = Ratios(draws, np.array(value))
    return Uplifts(ratios, ratios, np.full(len(sd), 1e3), np.array(share))


def test_no_more_spread_than_noise_gives_one_figure_to_all():
    uplifts = _uplifts([0.1, 0.14, 0.07, 0.1], [0.03, 0.1, 0.1, 0.1], [0.3, 0.3, 0.4])
    value, draws = uplifts.shrunk(np.arange(3))
    assert value == pytest.approx(0.1)
    for each in draws:
        np.testing.assert_allclose(each, uplifts.told.draws[:, 0])


def test_a_resample_without_anybody_of_a_group_says_nothing_of_it():
    rng = np.random.default_rng(0)
    gains = np.clip(rng.normal([0.3, 0.2], 0.1, (600, 2)), 0, 1)
    few = np.arange(600) < 4  # some of a thousand resamples have none of them
    groups = np.column_stack([few, ~few])
    found = Uplifts.measure(gains, NONE, np.arange(600), np.ones(600, bool), groups)
    assert np.isfinite(found.top.draws).all()
    value, draws = found.shrunk(np.arange(2))
    assert np.isfinite(value).all()
    assert np.isfinite(draws).all()


def test_the_formula_worked_by_hand():
    # Two groups of a third each; noise of a contrast is that of the group and of all together.
    all_sd, sd = 0.02, 0.05
    uplifts = _uplifts([0.0, 0.3, -0.3], [all_sd, sd, sd], [1 / 3, 1 / 3])
    noise = all_sd**2 + sd**2
    signal = 1 - 2 / 3 + 2 / 9
    tau2 = (2 * 0.09 / noise - 2) / (2 * signal / noise)
    kept = tau2 * signal / (noise + tau2 * signal)
    value, draws = uplifts.shrunk(np.arange(2))
    assert value == pytest.approx([kept * 0.3, -kept * 0.3], rel=0.02)
    assert draws.std(1) == pytest.approx(np.sqrt(sd**2 * kept), rel=0.1)


def test_what_is_known_beforehand_keeps_a_group_from_following_all():
    # Nearer to all than noise explains, so that the moments alone would draw it there wholly.
    all_sd, sd, least = 0.02, 0.15, 0.2
    uplifts = _uplifts([-0.05, 0.05, 0.3], [all_sd, sd, sd], [0.0, 0.0])
    followed, _ = uplifts.shrunk(np.array([0]))
    assert followed == pytest.approx(-0.05)
    noise = all_sd**2 + sd**2
    kept = least**2 / (noise + least**2)
    value, draws = uplifts.shrunk(np.array([0]), least_spread=least)
    assert value == pytest.approx(-0.05 + kept * 0.1, abs=0.003)
    doubt = np.sqrt((1 - kept) ** 2 * all_sd**2 + kept * sd**2)
    assert draws[0].std() == pytest.approx(doubt, rel=0.05)
    # Where the moments see more spread than that, they decide.
    further = uplifts.shrunk(np.array([1]))[0]
    assert uplifts.shrunk(np.array([1]), least_spread=0.05)[0] == pytest.approx(further)


def test_a_noisier_group_is_drawn_further_towards_all():
    uplifts = _uplifts([0.0, 0.3, 0.3, -0.3], [0.02, 0.05, 0.2, 0.05], [0.4, 0.1, 0.5])
    value, draws = uplifts.shrunk(np.arange(3))
    assert 0 < value[1] < value[0] < 0.3
    assert draws[0].std() < draws[1].std() < 0.2


def test_drawn_figures_are_nearer_the_truth_than_measured_ones():
    rng = np.random.default_rng(1)
    gain = []
    for seed in range(200):
        truth = rng.normal(0, 0.1, 6)
        sd = np.full(6, 0.12)
        measured = truth + rng.normal(size=6) * sd
        share = np.full(6, 1 / 6)
        uplifts = _uplifts(
            [measured.mean(), *measured], [0.12 / np.sqrt(6), *sd], share.tolist(), seed
        )
        value, _ = uplifts.shrunk(np.arange(6))
        gain.append(((measured - truth) ** 2).sum() - ((value - truth) ** 2).sum())
    assert np.mean(gain) > 4 * np.std(gain) / np.sqrt(len(gain))


def test_a_group_without_successes_follows_all():
    rng = np.random.default_rng(0)
    n = 1000
    silent = np.arange(n) < 300
    gains = np.where(silent[:, None], 0.0, (rng.random((n, 2)) < [0.3, 0.2]) * 0.6)
    everybody = np.ones(n, bool)
    uplifts = Uplifts.measure(
        gains, NONE, np.arange(n), everybody, np.column_stack([silent, ~silent])
    )
    assert uplifts.top.value[1] == 0
    assert uplifts.top.value[0] == pytest.approx(
        np.log(gains[:, 0].sum() / gains[:, 1].sum()), abs=0.01
    )
    for family in (np.array([0]), np.array([0, 1])):
        value, draws = uplifts.shrunk(family)
        assert value[0] == pytest.approx(uplifts.top.value[0], rel=0.25)
        assert (draws[0] > 0).mean() > 0.95


def test_questions_beyond_everybodys_count_for_their_group_alone():
    rng = np.random.default_rng(0)
    gains = (rng.random((900, 2)) < 0.3) * 0.6
    gains[600:, 0] = 0.6
    everybody = np.arange(900) < 600
    user = np.arange(900) % 600
    uplifts = Uplifts.measure(gains, NONE, user, everybody, ~everybody[:, None])
    assert abs(uplifts.top.value[0]) < 0.3
    assert uplifts.top.value[1] > 1
    assert uplifts.share.tolist() == [0.0]


def test_no_difference_at_all_is_no_division_by_nought():
    gains = np.full((60, 2), 0.5)
    groups = np.arange(60)[:, None] % 2 == [0, 1]
    uplifts = Uplifts.measure(gains, NONE, np.arange(60), np.ones(60, bool), groups)
    value, draws = uplifts.shrunk(np.arange(2))
    assert not value.any()
    assert not draws.any()


def _ratios(value: float, sd: float, seed: int) -> Ratios:
    draws = value + sd * np.random.default_rng(seed).normal(size=(4000, 1))
    return Ratios(draws, np.array([value]))


def test_deeper_ranks_tell_as_much_as_they_are_surer():
    told = _ratios(0.5, 0.3, 0).drawn_towards(_ratios(0.1, 0.05, 1))
    other = 0.05**2 + DEPTH_SPREAD**2
    share = other / (0.3**2 + other)
    assert told.value[0] == pytest.approx(share * 0.5 + (1 - share) * 0.1, rel=0.05)
    assert told.draws.std() == pytest.approx(np.sqrt(share * 0.3**2), rel=0.05)


def test_with_many_questions_the_first_ranks_decide():
    told = _ratios(-0.05, 0.01, 0).drawn_towards(_ratios(0.2, 0.005, 1))
    assert told.value[0] < -0.04
    assert (told.draws > 0).mean() < 0.05


def test_deeper_ranks_that_say_the_same_word_for_word_add_nothing():
    top = _ratios(0.1, 0.2, 0)
    assert (top.drawn_towards(top).draws.std()) >= 0.19


def test_both_depths_are_measured_on_the_same_people():
    rng = np.random.default_rng(0)
    deeper = (rng.random((400, 2)) < [0.5, 0.4]) * 0.3
    gains = np.where(rng.random(400)[:, None] < 0.1, deeper, 0.0)
    everybody, user = np.ones(400, bool), np.arange(400)
    groups = np.ones((400, 1), bool)
    alone = Uplifts.measure(gains, NONE, user, everybody, groups)
    both = Uplifts.measure(gains, deeper, user, everybody, groups)
    assert np.array_equal(both.top.draws, alone.top.draws)
    assert both.told.draws[:, 0].std() < 0.8 * alone.told.draws[:, 0].std()
    np.testing.assert_allclose(both.told.draws[:, 0], both.told.draws[:, 1])
