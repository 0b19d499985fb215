import builtins

import pytest

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
