"""Where training curves go beside the run's own records."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from isthmus.config import TrackingConfig
from isthmus.errors import TrainingError


class Tracker(Protocol):
    """Takes named figures at a step."""

    def log(self, figures: dict[str, float], step: int) -> None:
        """Record figures of one epoch."""
        ...

    def close(self) -> None:
        """No more figures will come."""
        ...


class NoTracker:
    """Keeps nothing."""

    def log(self, figures: dict[str, float], step: int) -> None:
        """Forget them."""

    def close(self) -> None:
        """Nothing to do."""


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

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class WandbTracker:
    """A run of Weights & Biases: files under the folder, sent only where that is asked for.

    Raises:
        TrainingError: the package is not installed.
    """

    def __init__(self, folder: Path, config: TrackingConfig) -> None:
        try:
            wandb: Any = import_module("wandb")
        except ImportError:
            raise TrainingError(
                "Weights & Biases is not installed",
                where="tracking.tools",
                hint="Install it: pip install 'isthmus[track]', or leave it out",
            ) from None
        folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            project=config.project,
            name=folder.name,
            dir=str(folder),
            mode="online" if config.online else "offline",
            # Several models may be trained in one process, each with a run of its own; wandb knows
            # the word since 0.19.10.
            reinit="create_new",
        )

    def log(self, figures: dict[str, float], step: int) -> None:
        """Record figures of one epoch."""
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


class Several:
    """Hands figures on to each of several trackers."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = list(trackers)

    def log(self, figures: dict[str, float], step: int) -> None:
        """Record figures of one epoch everywhere."""
        for each in self._trackers:
            each.log(figures, step)

    def close(self) -> None:
        """Close them all."""
        for each in self._trackers:
            each.close()


def tracker(folder: Path | None, config: TrackingConfig | None = None) -> Tracker:
    """What is configured, under `folder`; TensorBoard only where it is installed.

    Raises:
        TrainingError: Weights & Biases is asked for and not installed.
    """
    if folder is None:
        return NoTracker()
    config = config or TrackingConfig()
    kept: list[Tracker] = []
    if "wandb" in config.tools:
        kept.append(WandbTracker(folder, config))
    if "tensorboard" in config.tools:
        with suppress(ImportError):
            kept.append(TensorBoardTracker(folder))
    return kept[0] if len(kept) == 1 else Several(kept) if kept else NoTracker()
