"""How well labels are told: ratings by RMSE and MAE, classes by a report, AUC, loss, calibration.

Every function takes arrays alone; what they are labels of is the caller's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Values = NDArray[np.float64]
Classes = NDArray[np.int64]


def rmse(truth: Values, told: Values) -> float:
    """Root of the mean squared error of `told` [n], in the unit of the ratings."""
    return float(np.sqrt(np.mean((np.asarray(told, np.float64) - truth) ** 2)))


def mae(truth: Values, told: Values) -> float:
    """Mean absolute error of `told` [n], in the unit of the ratings."""
    return float(np.mean(np.abs(np.asarray(told, np.float64) - truth)))


@dataclass(frozen=True)
class ClassLine:
    """One class of a report: of those told, how many are right; of those there are, how many found.

    Attributes:
        name: of the class, or of the average.
        precision: 0 where the class was never told.
        recall: 0 where there is none of the class.
        f1: their harmonic mean.
        support: how many there are.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


def classification_report(truth: Classes, told: Classes, names: Sequence[str]) -> list[ClassLine]:
    """Precision, recall and F1 by class, then their `macro` mean and the one weighted by support.

    Args:
        truth: int64 [n] index into `names`.
        told: int64 [n], the most probable class of each.
        names: of the classes.
    """
    lines = []
    for c, name in enumerate(names):
        right = int(((truth == c) & (told == c)).sum())
        n_told, n_true = int((told == c).sum()), int((truth == c).sum())
        precision, recall = right / max(n_told, 1), right / max(n_true, 1)
        f1 = 2 * right / max(n_told + n_true, 1)
        lines.append(ClassLine(name, precision, recall, f1, n_true))
    figures = np.array([[line.precision, line.recall, line.f1] for line in lines])
    support = np.array([line.support for line in lines])
    for name, weights in (("macro", np.ones(len(lines))), ("weighted", support)):
        mean = np.average(figures, axis=0, weights=weights)
        precision, recall, f1 = mean.tolist()
        lines.append(ClassLine(name, precision, recall, f1, int(support.sum())))
    return lines


def accuracy(truth: Classes, told: Classes) -> float:
    """Share of classes told right."""
    return float(np.mean(truth == told))


def auc(truth: NDArray[np.bool_], score: Values) -> float:
    """Chance that a true one scores above a false one, ties counting half; NaN without both.

    Source: Hanley and McNeil, Radiology 1982, by the ranks of the Mann–Whitney statistic.
    """
    n_true = int(np.count_nonzero(truth))
    n_false = len(truth) - n_true
    if not n_true or not n_false:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[truth].sum() - n_true * (n_true + 1) / 2) / (n_true * n_false))


def classes_auc(truth: Classes, probability: Values) -> float:
    """AUC of two classes, or the mean over classes of each against the rest.

    Args:
        truth: int64 [n].
        probability: float64 [n, n_classes].

    Returns:
        NaN where no class has both sides.
    """
    if probability.shape[1] == 2:
        return auc(truth == 1, probability[:, 1])
    each = [auc(truth == c, probability[:, c]) for c in range(probability.shape[1])]
    known = [value for value in each if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def log_loss(truth: Classes, probability: Values) -> float:
    """Mean of −log of the probability given to what is true, nats; probabilities of 0 are 1e-15."""
    given = probability[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(given, 1e-15, 1.0)).mean())


@dataclass(frozen=True)
class CalibrationBin:
    """Those whose probability lies in one stretch.

    Attributes:
        said: their mean probability.
        happened: the share that is true.
        n: how many.
    """

    said: float
    happened: float
    n: int


def calibration_curve(
    truth: NDArray[np.bool_], probability: Values, n_bins: int = 10
) -> list[CalibrationBin]:
    """What was said against what happened, in equal stretches of probability; empty ones left out.

    Args:
        truth: bool [n].
        probability: float64 [n] of being true.
        n_bins: stretches between 0 and 1.
    """
    edges = np.linspace(0, 1, n_bins + 1)
    # As scikit-learn does: an edge belongs to the stretch below it.
    place = np.searchsorted(edges[1:-1], probability)
    bins = []
    for b in range(n_bins):
        inside = place == b
        if n := int(inside.sum()):
            bins.append(CalibrationBin(probability[inside].mean(), truth[inside].mean(), n))
    return bins


def calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """Mean distance between said and happened, weighted by how many (expected calibration error).

    Source: Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", 2015.
    """
    n = sum(b.n for b in bins)
    return float(sum(b.n * abs(b.said - b.happened) for b in bins) / n)
