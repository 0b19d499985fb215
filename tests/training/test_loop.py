from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits
from torch import Tensor, nn

from isthmus.config import TrainingConfig
from isthmus.errors import CheckpointError, TrainingError
from isthmus.training.checkpoint import read_folder
from isthmus.training.loop import Log, pick_device, train
from isthmus.training.optim import RowAdam


class Regression:
    """A small task with everything a step has: dropout, random batches, rows, a scalar loss."""

    def __init__(self, scale: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(5)
        self.x = torch.randn(40, 4, generator=generator)
        self.y = self.x.sum(1) * scale
        self.module: nn.Module = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.2), nn.Linear(3, 1))
        with torch.no_grad():
            for parameter in self.module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        table = torch.zeros(40, 1)
        self.module.register_buffer("table", table)
        self.rows = RowAdam(table)
        self.device = torch.device("cpu")
        self.seen: list[list[int]] = []

    @property
    def batches_per_epoch(self) -> int:
        return 4

    def batches(self, rng: np.random.Generator) -> Iterator[Tensor]:
        yield from torch.from_numpy(rng.permutation(40)).split(10)

    def loss(self, batch: Tensor, rng: np.random.Generator) -> Tensor:
        self.seen.append(batch.tolist())
        noise = torch.from_numpy(rng.normal(size=10) * 0.01).float()
        guess = self.module(self.x[batch])[:, 0] + self.rows.take(batch)[:, 0]
        return ((guess - self.y[batch] - noise) ** 2).mean()

    def weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.module.state_dict().items()}


class Killed(Exception):
    """What stands for a killed process."""


def _settings(**changes: object) -> TrainingConfig:
    usual = {"epochs": 6, "evaluate_every": 1, "patience": 6, "checkpoint_seconds": 0.0}
    return TrainingConfig.model_validate({**usual, "device": "cpu", **changes})


def _error_of(task: Regression) -> Callable[[], float]:
    def validate() -> float:
        with torch.no_grad():
            return -float(((task.module(task.x)[:, 0] - task.y) ** 2).mean())

    return validate


def _figures(log: Log) -> list[dict[str, float]]:
    return [{k: v for k, v in epoch.items() if "seconds" not in k} for epoch in log.epochs]


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _killed_at(epoch: int, folder: Path, **how: object) -> None:
    """Train until validation is asked for the n-th time, then die."""
    task = Regression()
    asked = iter(range(1, 100))

    def validate() -> float:
        if next(asked) == epoch:
            raise Killed
        return _error_of(task)()

    with pytest.raises(Killed):
        train(task, validate, _settings(**how), seed=3, folder=folder, mark="a")


@pytest.mark.parametrize("killed_in", [1, 2, 5])
def test_a_resumed_run_ends_exactly_as_an_uninterrupted_one(tmp_path, killed_in):
    whole = Regression()
    expected = train(whole, _error_of(whole), _settings(), seed=3)
    _killed_at(killed_in, tmp_path / "run")
    resumed = Regression()
    log = train(resumed, _error_of(resumed), _settings(), seed=3, folder=tmp_path / "run", mark="a")
    assert _figures(log) == _figures(expected)
    assert (log.best, log.best_epoch) == (expected.best, expected.best_epoch)
    assert _same(resumed.weights(), whole.weights())
    # It did go on from where it was: only the epochs that were missing were run.
    assert len(resumed.seen) == 4 * (6 - (killed_in - 1))


def test_a_run_killed_twice_still_ends_the_same(tmp_path):
    whole = Regression()
    expected = train(whole, _error_of(whole), _settings(), seed=3)
    _killed_at(3, tmp_path / "run")
    _killed_at(2, tmp_path / "run")
    resumed = Regression()
    log = train(resumed, _error_of(resumed), _settings(), seed=3, folder=tmp_path / "run", mark="a")
    assert _figures(log) == _figures(expected)
    assert len(resumed.seen) == 4 * 3


def test_a_finished_run_is_not_run_again(tmp_path):
    first = Regression()
    log = train(first, _error_of(first), _settings(), seed=3, folder=tmp_path / "run", mark="a")
    again = Regression()

    def never() -> float:
        raise AssertionError("validation was asked again")

    repeated = train(again, never, _settings(), seed=3, folder=tmp_path / "run", mark="a")
    assert repeated == log
    assert again.seen == []
    assert _same(again.weights(), first.weights())


def test_a_checkpoint_of_another_run_is_left_alone(tmp_path):
    _killed_at(4, tmp_path / "run")
    task = Regression()
    log = train(task, _error_of(task), _settings(), seed=3, folder=tmp_path / "run", mark="b")
    fresh = Regression()
    assert _figures(log) == _figures(train(fresh, _error_of(fresh), _settings(), seed=3))
    assert len(task.seen) == 4 * 6
    assert read_folder(tmp_path / "run", kind="training").meta["mark"] == "b"


def test_a_run_killed_while_it_wrote_its_first_checkpoint_starts_again(tmp_path):
    half = tmp_path / "run" / "versions" / ".writing"
    half.mkdir(parents=True)
    (half / "meta.json").write_text("{")
    (tmp_path / "run" / ".lock").touch()
    task = Regression()
    log = train(task, _error_of(task), _settings(), seed=3, folder=tmp_path / "run", mark="a")
    assert len(log.epochs) == 6
    assert read_folder(tmp_path / "run", kind="training").meta["mark"] == "a"


def test_a_folder_with_other_things_is_refused_before_the_work_begins(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    task = Regression()
    with pytest.raises(CheckpointError, match="not an Isthmus folder"):
        train(task, _error_of(task), _settings(), seed=3, folder=tmp_path)
    assert task.seen == []


def test_checkpoints_come_no_more_often_than_asked_but_at_the_end(tmp_path):
    _killed_at(5, tmp_path / "run", checkpoint_seconds=1e6)
    assert not (tmp_path / "run").exists()
    task = Regression()
    settings = _settings(checkpoint_seconds=1e6)
    train(task, _error_of(task), settings, seed=3, folder=tmp_path / "run", mark="a")
    assert len(read_folder(tmp_path / "run", kind="training").meta["log"]["epochs"]) == 6


def test_training_stops_when_patience_is_out_and_keeps_the_best_weights():
    task = Regression()
    figures = iter([0.1, 0.5, 0.3, 0.4, 0.2, 0.6])
    weights = []

    def validate() -> float:
        weights.append(task.weights())
        return next(figures)

    log = train(task, validate, _settings(patience=3), seed=0)
    assert [epoch["validation"] for epoch in log.epochs] == [0.1, 0.5, 0.3, 0.4, 0.2]
    assert (log.best, log.best_epoch, log.stale) == (0.5, 2, 3)
    assert _same(task.weights(), weights[1])
    assert not _same(weights[1], weights[4])


def test_no_gain_in_the_end_still_leaves_the_module_in_evaluation_mode():
    task = Regression()
    modes = []

    def validate() -> float:
        modes.append(task.module.training)
        return 0.0

    train(task, validate, _settings(epochs=2), seed=0)
    assert modes == [False, False]
    assert not task.module.training


def test_threads_count_for_blas_as_well_and_only_in_training():
    import scipy.linalg  # noqa: F401  # brings a BLAS of its own, before any is counted

    def number() -> set[int]:
        pools = [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]
        return {*pools, torch.get_num_threads()}

    task, before = Regression(), torch.get_num_threads()
    seen: list[set[int]] = []

    def validate() -> float:
        seen.append(number())
        return 0.0

    try:
        torch.set_num_threads(2)
        with threadpool_limits(2, user_api="blas"):
            train(task, validate, _settings(epochs=1, threads=1), seed=0)
            assert seen == [{1}]
            assert number() == {2}
    finally:
        torch.set_num_threads(before)


def test_looks_at_validation_do_not_count_as_steps():
    task = Regression()

    def slow() -> float:
        time.sleep(0.1)
        return 0.0

    log = train(task, slow, _settings(epochs=3), seed=0)
    assert log.seconds - log.step_seconds >= 0.3


def test_validation_is_asked_when_due_and_at_the_end():
    task = Regression()
    log = train(task, lambda: 0.0, _settings(epochs=5, evaluate_every=2), seed=0)
    assert [epoch["epoch"] for epoch in log.epochs if "validation" in epoch] == [2, 4, 5]


def test_a_loss_that_is_no_number_stops_with_what_to_do():
    task = Regression(scale=float("inf"))
    with pytest.raises(TrainingError, match=r"epoch 1 is not a number.*learning_rate"):
        train(task, lambda: 0.0, _settings(), seed=0)


def _gradient_norms(clip: float) -> tuple[float, float]:
    """Norm of all gradients of one step, before and after clipping, rows' included."""
    task = Regression(scale=100.0)
    norms = []

    def norm() -> float:
        found = [p.grad for p in task.module.parameters() if p.grad is not None]
        return float(torch.cat([g.flatten() for g in [*found, *task.rows.gradients()]]).norm())

    step = task.rows.step

    def watched(rate: float) -> None:
        norms.append(norm())
        step(rate)

    task.rows.step = watched  # type: ignore[method-assign]
    train(task, lambda: 0.0, _settings(epochs=1, clip=clip), seed=0)
    return norms[0], norms[-1]


def test_the_norm_of_all_gradients_together_is_clipped():
    free, _ = _gradient_norms(1e9)
    assert free > 10
    for norm in _gradient_norms(0.7):
        assert norm == pytest.approx(0.7, rel=1e-4)


def test_matrices_decay_and_biases_and_rows_do_not():
    task = Regression()
    before = task.weights()

    class NoGradient(Regression):
        def loss(self, batch: Tensor, rng: np.random.Generator) -> Tensor:
            return super().loss(batch, rng) * 0.0

    task = NoGradient()
    task.rows.table.fill_(1.0)
    train(
        task,
        iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).__next__,
        _settings(learning_rate=0.1, weight_decay=0.5),
        seed=0,
    )
    after = task.weights()
    assert (after["0.weight"].abs() < 0.95 * before["0.weight"].abs()).all()
    assert torch.equal(after["0.bias"], before["0.bias"])
    assert torch.equal(after["table"], torch.ones(40, 1))


def test_the_same_seed_gives_the_same_figures_and_another_does_not():
    def figures(seed: int) -> list[dict[str, float]]:
        task = Regression()
        return _figures(train(task, _error_of(task), _settings(), seed=seed))

    assert figures(0) == figures(0) != figures(1)


def test_the_global_generator_is_left_as_it_was():
    task = Regression()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    train(task, _error_of(task), _settings(), seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_the_state_of_the_global_generator_changes_nothing():
    def figures(noise: int) -> list[dict[str, float]]:
        torch.manual_seed(noise)
        task = Regression()
        return _figures(train(task, _error_of(task), _settings(), seed=4))

    assert figures(1) == figures(2)


def test_the_rate_warms_up_and_decays_and_rows_take_a_multiple_of_it():
    task = Regression()
    rates = []
    step = task.rows.step

    def watched(rate: float) -> None:
        rates.append(rate)
        step(rate)

    task.rows.step = watched  # type: ignore[method-assign]
    train(task, lambda: 0.0, _settings(warmup=0.25, learning_rate=0.01, id_rate=3.0), seed=0)
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.03)
    assert 4 <= peak <= 6
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.006


def test_curves_go_to_the_tracker():
    class Kept:
        def __init__(self) -> None:
            self.rows: list[tuple[int, dict[str, float]]] = []

        def log(self, figures: dict[str, float], step: int) -> None:
            self.rows.append((step, dict(figures)))

        def close(self) -> None:
            self.rows.append((0, {}))

    task, kept = Regression(), Kept()
    log = train(task, _error_of(task), _settings(), seed=0, tracking=kept)
    # It is closed once, at the end.
    assert [step for step, _ in kept.rows] == [1, 2, 3, 4, 5, 6, 0]
    assert [figures for _, figures in kept.rows[:-1]] == log.epochs


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(TrainingError, match=r"training\.device.*'auto'"):
        pick_device("cuda:1")


def test_without_anything_to_measure_every_epoch_runs_and_the_last_weights_stay() -> None:
    unmeasured, improving = Regression(), Regression()
    log = train(unmeasured, lambda: None, _settings(epochs=4, patience=1), seed=0)
    counter = iter(range(100))
    train(improving, lambda: float(next(counter)), _settings(epochs=4, patience=1), seed=0)
    assert len(log.epochs) == 4
    assert not any("validation" in figures for figures in log.epochs)
    assert _same(unmeasured.weights(), improving.weights())
