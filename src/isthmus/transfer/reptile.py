"""Reptile: weights from which a few steps on any one task go far.

A task is a domain and a group of people of like taste. Some ordinary steps on one task, then the
weights move only part of the way to where these led, and the next task begins there. What serves
one task alone is taken back, and what serves many adds up.

Source: Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", 2018.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from isthmus.config import TrainingConfig
from isthmus.data.batches import PackedBatch
from isthmus.data.dataset import Dataset, Events
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import user_hash
from isthmus.training.next_item import NextItemTask, SequenceModel
from isthmus.training.optim import RowAdam


@dataclass(frozen=True)
class Tasks:
    """How tasks are made and how far each one counts.

    Attributes:
        group: int64 [n_users] group of each person, counted from 0.
        inner_steps: ordinary steps on one task.
        outer_rate: how far the weights then go towards where these steps led; 1 is all the way.
    """

    group: NDArray[np.int64]
    inner_steps: int
    outer_rate: float


class ReptileTask(NextItemTask):
    """Next-item prediction, one domain and group of people at a time.

    Takes what `NextItemTask` takes, and `tasks`. An epoch has as many steps as an ordinary one.
    """

    def __init__(
        self,
        model: SequenceModel,
        events: Events,
        item_offsets: NDArray[np.int64],
        config: TrainingConfig,
        *,
        tasks: Tasks,
        **how: Any,
    ) -> None:
        # Its steps are those of its tasks.
        config = config.model_copy(update={"newcomer_steps": 0.0})
        super().__init__(model, events, item_offsets, config, **how)
        self.tasks = tasks
        self.rows: _RememberingRows = _RememberingRows(model.id_table())
        self.pools = _pools(self, events, tasks.group)

    def batches(self, rng: np.random.Generator) -> Iterator[PackedBatch]:
        """One epoch; between the batches of two tasks the weights take the outer step."""
        every = self.weights
        left = self.batches_per_epoch if self.pools else 0
        while left > 0:
            domain, windows = self.pools[rng.integers(len(self.pools))]
            self.weights = [w if d == domain else 0.0 for d, w in enumerate(every)]
            before = [(w, w.detach().clone()) for w in self.module.parameters() if w.requires_grad]
            for batch in islice(self._inner(windows, rng), left):
                yield batch
                left -= 1
            with torch.no_grad():
                for weight, old in before:
                    weight.copy_(old.lerp(weight, self.tasks.outer_rate))
            self.rows.outer_step(self.tasks.outer_rate)
        self.weights = every

    def _inner(self, windows: NDArray[np.int64], rng: np.random.Generator) -> Iterator[PackedBatch]:
        """Batches of one task, all of about one size and none with a window of another."""
        order = rng.permutation(windows)
        place = np.cumsum(self.windows.length[order]) - self.windows.length[order]
        total = int(self.windows.length[order].sum())
        size = max(1, min(self.config.batch_events, total // self.tasks.inner_steps))
        number = place // size
        for step in np.unique(number)[: self.tasks.inner_steps]:
            yield self.windows.pack(order[number == step])


def _pools(
    task: NextItemTask, events: Events, group: NDArray[np.int64]
) -> list[tuple[int, NDArray[np.int64]]]:
    """Domain and windows of each task that has something to learn."""
    start, end = task.windows.start + 1, task.windows.start + task.windows.length + 1
    whose = group[events.user[task.windows.start]] if len(start) else group[:0]
    pools = []
    for domain in np.flatnonzero(task.learnt).tolist():
        before = np.concatenate([[0], np.cumsum(task.domain == domain)])
        learns = before[end] > before[start]
        for number in np.unique(whose[learns]):
            pools.append((domain, np.flatnonzero(learns & (whose == number))))
    return pools


class _RememberingRows(RowAdam):
    """Row-wise Adam that knows what its rows were before the task at hand."""

    def __init__(self, table: Tensor) -> None:
        super().__init__(table)
        self._known = torch.zeros(len(table), dtype=torch.bool, device=table.device)
        self._before: list[tuple[Tensor, Tensor]] = []

    def take(self, rows: Tensor) -> Tensor:
        """See `RowAdam`."""
        new = rows[~self._known[rows]]
        self._known[new] = True
        self._before.append((new, self.table.index_select(0, new)))
        return super().take(rows)

    @torch.no_grad()
    def outer_step(self, rate: float) -> None:
        """Leave the rows that the task took `rate` of the way from what they were before it."""
        for rows, old in self._before:
            self.table.index_copy_(0, rows, old.lerp(self.table.index_select(0, rows), rate))
            self._known[rows] = False
        self._before.clear()


def taste_groups(
    dataset: Dataset, events: Events, features: Sequence[ItemFeatures], n_groups: int
) -> NDArray[np.int64]:
    """People by taste, int64 [n_users]: groups of equal size along the texts they differ most in.

    Everybody is the mean text of their history, put in order along the first principal axis of all
    people; where texts say nothing, a hash of the id decides.

    Args:
        dataset: the snapshot.
        events: histories.
        features: aligned text vectors per domain.
        n_groups: how many.
    """
    vectors = np.concatenate([f.vectors for f in features]).astype(np.float64)
    present = np.concatenate([f.present for f in features])
    flat = dataset.flat(events.domain, events.item)
    shape = (events.n_users, len(vectors))
    read = sparse.csr_matrix((present[flat].astype(np.float64), flat, events.offsets), shape)
    count = np.asarray(read.sum(1)).reshape(-1, 1)
    mean = (read @ vectors) / np.maximum(count, 1)
    told = count[:, 0] > 0
    centred = np.where(told[:, None], mean - mean[told].mean(0) if told.any() else 0.0, 0.0)
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    # An axis and its opposite are one; without a fixed sign the order would be the solver's choice.
    axis *= np.sign(axis[np.abs(axis).argmax()])
    salt = user_hash(dataset.user_ids.to_list(), "taste-group")
    active = np.flatnonzero(np.diff(events.offsets) > 1)
    order = active[np.lexsort((salt[active], (centred @ axis)[active]))]
    group = np.zeros(events.n_users, np.int64)
    group[order] = np.arange(len(order)) * n_groups // max(len(order), 1)
    return group
