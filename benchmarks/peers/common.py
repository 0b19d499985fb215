"""What every side of the comparison shares: settings, rows, threads, and the form of a record.

Each side is a script that `run.py` starts in an environment of its own as

    PYTHON SCRIPT ROWS.npz SETTINGS-AS-JSON

and that prints one JSON record a line on standard output, through `record`. It needs numpy and
PyTorch alone, so that it runs anywhere.

A record of `measure: training` holds `seconds` of one warm epoch, data preparation excluded, and
`targets`, the non-padding positions that got a loss in it. A record of `measure: evaluation` holds
`seconds` for ranking the whole catalogue for every held-out event and computing hit rate, NDCG and
MRR at 10, and `queries`, their number.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Settings:
    """What is held equal. A batch is of sequences, each one user's latest `length` events.

    `train` is off where only the evaluation is wanted.
    """

    dim: int = 64
    layers: int = 2
    heads: int = 2
    length: int = 50
    dropout: float = 0.2
    batch: int = 128
    negatives: int = 128
    epochs: int = 2
    threads: int = 2
    seed: int = 0
    train: bool = True


@dataclass(frozen=True)
class Rows:
    """Events sorted by user, then oldest first; ties in time broken once for all sides.

    Attributes:
        user: int64 [n] 0..n_users-1.
        item: int64 [n] 0..n_items-1.
        domain: int64 [n_items] domain of each item.
        time: int64 [n] Unix seconds, ties as in the source.
        held_out: bool [n] the last event of each user.
    """

    user: np.ndarray
    item: np.ndarray
    domain: np.ndarray
    time: np.ndarray
    held_out: np.ndarray

    @property
    def order(self) -> np.ndarray:
        """Place of each event in its user's history, int64 [n]: a clock without ties."""
        starts = np.flatnonzero(np.diff(self.user, prepend=-1))
        return np.arange(len(self.user)) - np.repeat(starts, np.bincount(self.user))


def start() -> tuple[Rows, Settings]:
    """Rows and settings from the command line, which is emptied; threads are pinned."""
    _, rows, settings = sys.argv
    del sys.argv[1:]  # RecBole reads options of its own there.
    chosen = Settings(**json.loads(settings))
    import torch

    torch.set_num_threads(chosen.threads)
    with np.load(rows) as arrays:
        return Rows(**arrays), chosen


def record(**values: Any) -> None:
    """Print one record; libraries may print other lines between."""
    print(json.dumps(values), flush=True)


def arguments(rows: Path, settings: Settings) -> list[str]:
    """The command line that `start` reads."""
    return [str(rows), json.dumps(asdict(settings))]
