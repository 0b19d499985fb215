"""What a blend gains over another in each group of questions, from all that its ranks tell.

The first ten ranks are what counts and what says least: few answers stand there. So the gain in
NDCG@10 is drawn towards the gain in NDCG@100 of the same lists, as far as it is the noisier one:

    x, y     ln of the ratio of mean NDCG@10, of mean NDCG@100;  y = x + N(0, s^2) but for noise
    u        (var y + s^2 - cov) / (var x + var y + s^2 - 2 cov), over resampled users
    l        u x + (1 - u) y, the best linear unbiased estimate; with many questions u is near 1

A group of people is small and its own figure noisy, so it is believed as far as the groups
differ by more than their noise. Parametric empirical Bayes (Morris, JASA 1983), normal-normal, on
the logarithm of the ratio of mean NDCG@10 (the log response ratio of Hedges, Gurevitch and Curtis,
Ecology 1999), which a change by the same percentage moves equally for people who are served well
and for people who are served badly:

    l_s      ln of the ratio in group s;  l_0 in all questions;  d_s = l_s - l_0
    v_s      variance of d_s over resampled users
    d_s      = delta_s + noise,  noise ~ N(0, v_s),  delta_s ~ N(0, tau^2 c_s)
    c_s      = 1 - 2 f_s + sum f^2, for group s is itself the share f_s of what it is held against
    tau^2    = max(0, sum(d_s^2 / v_s - 1) / sum(c_s / v_s)), by moments as in DerSimonian and
             Laird (Controlled Clinical Trials 1986), but about what all gain; where something is
             known beforehand, tau^2 c_s is no smaller, for of one group the moments tell little
    B_s      = v_s / (v_s + tau^2 c_s)
    delta_s  given d_s ~ N((1 - B_s) d_s, (1 - B_s) v_s)

With no more spread than noise gives, and nothing known beforehand, tau is 0, every B is 1, and all
groups share one figure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from isthmus.evaluation.significance import resampled_means

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

DEPTH_SPREAD = 0.1
"""Standard deviation of how much more, or less, a blend gains at rank 10 than at 100, relative."""

_LEAST = 1e-9


@dataclass(frozen=True)
class Ratios:
    """Ratios of mean gain, two blends, as natural logarithms.

    Attributes:
        draws: float64 [resamples, 1 + groups]; all questions stand first.
        value: float64 [1 + groups], as measured.
    """

    draws: Values
    value: Values

    @classmethod
    def of(cls, means: Values, draws: Values, count: NDArray[np.int64]) -> Ratios:
        """From means [1 + groups, 2] of `count` questions, and from resamples of them.

        One question at everybody's mean is added to both sides, so that a group without a single
        success has no say instead of no figure. A resample without a single question of a group
        says nothing of it and stands where it was measured.
        """
        one = max(means[0, 1], _LEAST) / count
        value = np.log((means[:, 0] + one) / (means[:, 1] + one))
        drawn = np.log((draws[..., 0] + one) / (draws[..., 1] + one))
        return cls(draws=np.where(np.isnan(drawn), value, drawn), value=value)

    def drawn_towards(self, deeper: Ratios) -> Ratios:
        """The same with what deeper ranks tell of it; see the module."""
        own, other = (r.draws - r.draws.mean(0) for r in (self, deeper))
        both = (own * other).mean(0)
        beside = (other**2).mean(0) + DEPTH_SPREAD**2 - both
        share = np.clip(beside / np.maximum((own**2).mean(0) - both + beside, _LEAST), 0, 1)
        n = len(self.draws)
        apart = np.random.default_rng(0).permutation(norm.ppf((np.arange(n) + 0.5) / n))
        doubt = DEPTH_SPREAD * apart[:, None]
        return Ratios(
            draws=share * self.draws + (1 - share) * (deeper.draws + doubt),
            value=share * self.value + (1 - share) * deeper.value,
        )


@dataclass(frozen=True)
class Uplifts:
    """What a blend gains in all questions and in each group.

    Attributes:
        top: at NDCG@10, as measured.
        told: the same with what the deeper ranks tell.
        successes: float64 [1 + groups] gain of both blends together, summed over questions.
        share: float64 [groups] part of all questions that a group makes up.
    """

    top: Ratios
    told: Ratios
    successes: Values
    share: Values

    @classmethod
    def measure(
        cls, gains: Values, deeper: Values, user: NDArray[np.int64], everybody: Mask, groups: Mask
    ) -> Uplifts:
        """Measure on the questions and on resamples of their users.

        Args:
            gains: float64 [n, 2] NDCG@10, the blend in question first.
            deeper: float64 [n, 2] NDCG@100 likewise; [0, 2] where it was not kept.
            user: int64 [n].
            everybody: bool [n] questions that count as "all".
            groups: bool [n, groups], none of them empty.
        """
        masks = np.column_stack([everybody, groups])
        count = masks.sum(0)
        # In one call, so that both depths are seen on the same resamples of users.
        columns = np.hstack([gains, deeper]) if len(deeper) else gains
        means, draws = resampled_means(columns, user, masks)
        top = Ratios.of(means[:, :2], draws[..., :2], count)
        told = top
        if len(deeper):
            told = top.drawn_towards(Ratios.of(means[:, 2:], draws[..., 2:], count))
        return cls(
            top=top,
            told=told,
            successes=means[:, :2].sum(1) * count,
            share=(groups & everybody[:, None]).sum(0) / count[0],
        )

    def shrunk(
        self, family: NDArray[np.int64], *, least_spread: float = 0.0
    ) -> tuple[Values, Values]:
        """What each group in `family` [k] gains, given its family.

        Groups of one family are taken to differ from all by one spread, `tau`.

        Args:
            family: the groups.
            least_spread: smallest standard deviation that a group is taken to differ from all by,
                in logarithms.

        Returns:
            Logarithms [k], and draws of them [k, resamples], which carry the doubt about all (they
            are its resamples) and about the group.
        """
        all_, own = self.told.draws[:, :1], self.told.draws[:, 1 + family]
        value = self.told.value
        apart, drawn = value[1 + family] - value[0], own - all_
        # With few successes resamples are too alike; a share of all can be no surer than this.
        times = self.successes[0] / np.maximum(self.successes[1 + family], _LEAST)
        least = all_.var() * np.maximum(times - 1, 0)
        noise = np.maximum(np.maximum(drawn.var(0), least), _LEAST)
        share = self.share[family]
        signal = np.maximum(1 - 2 * share + (share**2).sum(), _LEAST)
        tau2 = (apart**2 / noise - 1).sum() / (signal / noise).sum()
        spread = np.maximum(tau2 * signal, least_spread**2)
        kept = 1 - noise / (noise + spread)
        unit = (drawn - drawn.mean(0)) / np.maximum(drawn.std(0), _LEAST)
        draws = all_ + kept * apart + np.sqrt(kept * noise) * unit
        return value[0] + kept * apart, draws.T
