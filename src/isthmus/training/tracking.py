"""Where training curves go beside the run's own records."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Tracker(Protocol):
    """Takes named figures at a step."""

    def log(self, figures: dict[str, float], step: int) -> None:
        """Record figures of one epoch."""
        ...


class NoTracker:
    """Keeps nothing."""

    def log(self, figures: dict[str, float], step: int) -> None:
        """Forget them."""


class TensorBoardTracker:
    """Writes event files for TensorBoard; needs the `track` extra."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def log(self, figures: dict[str, float], step: int) -> None:
        """Record figures of one epoch and flush them."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()


def tracker(folder: Path | None) -> Tracker:
    """TensorBoard under `folder` where the extra is installed, else nothing."""
    if folder is None:
        return NoTracker()
    try:
        return TensorBoardTracker(folder)
    except ImportError:
        return NoTracker()
