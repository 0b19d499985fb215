"""How well a task is told: figures by domain and over all, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.evaluation import labels as metrics

Values = NDArray[np.float64]
ALL = "all"


@dataclass(frozen=True)
class Figures:
    """Of one task.

    Attributes:
        by_domain: domain name, and `all` for all pairs together → metric → value; `n` counts the
            pairs.
        report: lines of the classification report, over all; empty for ratings.
        calibration: what was said against what happened, of the last class; empty for ratings.
    """

    by_domain: dict[str, dict[str, float]]
    report: tuple[metrics.ClassLine, ...] = ()
    calibration: tuple[metrics.CalibrationBin, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "figures": self.by_domain,
            "report": [asdict(line) for line in self.report],
            "calibration": [asdict(each) for each in self.calibration],
        }


def figures_of(
    task: str,
    names: Sequence[str],
    told: Mapping[int, tuple[Values, Values]],
    classes: Sequence[str] = (),
) -> Figures:
    """Figures of what was told.

    Args:
        task: `rate` or `click`.
        names: of the domains.
        told: domain index → labels [n], and ratings [n] or probabilities [n, n_classes].
        classes: names of the classes.
    """
    of = _of_ratings if task == "rate" else _of_classes
    by_domain = {names[d]: of(*pair) for d, pair in told.items()}
    if not told:
        return Figures({})
    truth, answer = (np.concatenate([pair[i] for pair in told.values()]) for i in (0, 1))
    by_domain[ALL] = of(truth, answer)
    if task == "rate":
        return Figures(by_domain)
    index = truth.astype(np.int64)
    return Figures(
        by_domain,
        tuple(metrics.classification_report(index, answer.argmax(1), classes)),
        tuple(metrics.calibration_curve(index == len(classes) - 1, answer[:, -1])),
    )


def _of_ratings(truth: Values, told: Values) -> dict[str, float]:
    return {
        "n": float(len(truth)),
        "rmse": metrics.rmse(truth, told),
        "mae": metrics.mae(truth, told),
    }


def _of_classes(truth: Values, probability: Values) -> dict[str, float]:
    index = truth.astype(np.int64)
    last = probability.shape[1] - 1
    bins = metrics.calibration_curve(index == last, probability[:, last])
    return {
        "n": float(len(truth)),
        "auc": metrics.classes_auc(index, probability),
        "log_loss": metrics.log_loss(index, probability),
        "accuracy": metrics.accuracy(index, probability.argmax(1)),
        "calibration_error": metrics.calibration_error(bins),
    }
