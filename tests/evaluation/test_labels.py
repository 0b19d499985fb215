"""Figures of labels, against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve as oracle_curve

from isthmus.evaluation import labels


def drawn(seed: int, n: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes, each there at least once, and probabilities with ties among them."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n)])
    logits = rng.normal(size=(len(truth), n_classes)).round(1)
    logits[np.arange(len(truth)), truth] += 0.7
    odds = np.exp(logits)
    return truth, odds / odds.sum(1, keepdims=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 200))
def test_ratings_are_judged_as_by_scikit_learn(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    truth, told = rng.integers(1, 6, n).astype(float), rng.normal(3, 1, n)
    assert labels.rmse(truth, told) == pytest.approx(oracle.root_mean_squared_error(truth, told))
    assert labels.mae(truth, told) == pytest.approx(oracle.mean_absolute_error(truth, told))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 200), st.integers(2, 5))
def test_classes_are_judged_as_by_scikit_learn(seed: int, n: int, n_classes: int) -> None:
    truth, probability = drawn(seed, n, n_classes)
    scores = probability[:, 1] if n_classes == 2 else probability
    assert labels.classes_auc(truth, probability) == pytest.approx(
        oracle.roc_auc_score(truth, scores, multi_class="ovr")
    )
    assert labels.log_loss(truth, probability) == pytest.approx(
        oracle.log_loss(truth, probability, labels=np.arange(n_classes))
    )
    told = probability.argmax(1)
    assert labels.accuracy(truth, told) == pytest.approx(oracle.accuracy_score(truth, told))
    names = [f"class {c}" for c in range(n_classes)]
    expected = oracle.classification_report(
        truth, told, target_names=names, output_dict=True, zero_division=0
    )
    for line in labels.classification_report(truth, told, names):
        key = line.name if line.name in names else f"{line.name} avg"
        assert (line.precision, line.recall, line.f1, line.support) == pytest.approx(
            tuple(expected[key][k] for k in ("precision", "recall", "f1-score", "support"))
        )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 300))
def test_calibration_is_that_of_scikit_learn(seed: int, n: int) -> None:
    truth, probability = drawn(seed, n, 2)
    happened, said = oracle_curve(truth == 1, probability[:, 1], n_bins=10)
    bins = labels.calibration_curve(truth == 1, probability[:, 1])
    assert [b.happened for b in bins] == pytest.approx(list(happened))
    assert [b.said for b in bins] == pytest.approx(list(said))
    assert sum(b.n for b in bins) == len(truth)


def test_what_always_comes_true_as_said_has_no_calibration_error() -> None:
    truth = np.array([True, False, True, False] * 5)
    assert labels.calibration_error(
        labels.calibration_curve(truth, np.full(20, 0.5))
    ) == pytest.approx(0)
    assert labels.calibration_error(
        labels.calibration_curve(truth, np.full(20, 0.9))
    ) == pytest.approx(0.4)


def test_one_class_has_no_auc() -> None:
    assert np.isnan(labels.auc(np.ones(3, bool), np.arange(3.0)))
    assert np.isnan(labels.classes_auc(np.zeros(3, int), np.full((3, 3), 1 / 3)))
