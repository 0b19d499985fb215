import builtins
import sys
from types import SimpleNamespace

import pytest

from isthmus.config import TrackingConfig
from isthmus.errors import TrainingError
from isthmus.training.tracking import NoTracker, TensorBoardTracker, tracker


def test_curves_can_be_read_back_from_the_event_files(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    kept = tracker(tmp_path / "curves")
    assert isinstance(kept, TensorBoardTracker)
    kept.log({"loss": 2.0, "validation": 0.25}, 1)
    kept.log({"loss": 1.5}, 2)
    events = EventAccumulator(str(tmp_path / "curves")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 2.0), (2, 1.5)]
    assert [(e.step, e.value) for e in events.Scalars("validation")] == [(1, 0.25)]


def test_without_a_folder_nothing_is_kept():
    kept = tracker(None)
    assert isinstance(kept, NoTracker)
    kept.log({"loss": 1.0}, 1)


def test_without_the_extra_training_goes_on(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name: str, *args: object, **how: object) -> object:
        if "tensorboard" in name:
            raise ImportError(name)
        return real(name, *args, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    assert isinstance(tracker(tmp_path / "curves"), NoTracker)
    assert not (tmp_path / "curves").exists()


class StandIn:
    """What the tracker needs of the package wandb, on the spot."""

    def __init__(self) -> None:
        self.begun: list[dict[str, object]] = []
        self.logged: list[tuple[dict[str, float], int]] = []
        self.finished = 0

    def init(self, **how: object) -> SimpleNamespace:
        self.begun.append(how)
        return SimpleNamespace(log=self._log, finish=self._finish)

    def _log(self, figures: dict[str, float], *, step: int) -> None:
        self.logged.append((figures, step))

    def _finish(self) -> None:
        self.finished += 1


@pytest.mark.parametrize(("online", "mode"), [(False, "offline"), (True, "online")])
def test_weights_and_biases_is_offline_unless_asked(tmp_path, monkeypatch, online, mode):
    service = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", service)
    config = TrackingConfig(tools=["wandb"], project="shop", online=online)
    kept = tracker(tmp_path / "curves" / "joint", config)
    kept.log({"loss": 2.0}, 1)
    kept.log({"loss": 1.0, "validation": 0.5}, 2)
    kept.close()
    (begun,) = service.begun
    assert begun["mode"] == mode
    assert (begun["project"], begun["name"]) == ("shop", "joint")
    assert begun["dir"] == str(tmp_path / "curves" / "joint")
    assert service.logged == [({"loss": 2.0}, 1), ({"loss": 1.0, "validation": 0.5}, 2)]
    assert service.finished == 1


def test_both_get_the_same_figures(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    service = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", service)
    kept = tracker(tmp_path, TrackingConfig(tools=["tensorboard", "wandb"]))
    kept.log({"loss": 2.0}, 1)
    kept.close()
    assert service.logged == [({"loss": 2.0}, 1)]
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_a_service_that_is_asked_for_and_not_there_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TrainingError, match=r"not installed\. Install it: pip install"):
        tracker(tmp_path, TrackingConfig(tools=["wandb"]))


def test_no_tool_keeps_nothing(tmp_path):
    assert isinstance(tracker(tmp_path, TrackingConfig(tools=[])), NoTracker)
    assert not list(tmp_path.iterdir())
