"""Learning to say what comes next: windows of histories in, a loss out.

Loss = sum over domains of the weighted mean cross-entropy of the targets in that domain, an event
counting by its weight, with negatives from the target's own domain (shared and uniform, or the
whole catalogue). The step touches only the items in its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.config import TrainingConfig
from isthmus.data.batches import NewcomerWindows, PackedBatch, Windows
from isthmus.data.dataset import Events
from isthmus.training.losses import full_softmax, sampled_softmax, sum_of_means
from isthmus.training.optim import RowAdam

REACH = 3
"""A step for newcomers asks for one of so many next events: ten are as good, the next alone not."""


class SequenceModel(Protocol):
    """What the task needs of a model; see `isthmus.model.core.CoreModel`."""

    def item_vectors(self, rows: Tensor, ids: Tensor | None = None) -> Tensor:
        """Flat item rows [n] and their ID embeddings [n, dim] → vectors [n, dim]."""
        ...

    def states(self, items: Tensor, domain: Tensor, time: Tensor, offsets: Tensor) -> Tensor:
        """Packed histories → one state per event, [tokens, dim]."""
        ...

    def ask(self, states: Tensor, domain: int) -> Tensor:
        """States [n, dim] → queries for the items of a domain [n, dim]."""
        ...

    def id_table(self) -> Tensor:
        """The table of ID embeddings, [n_items, dim]."""
        ...


@dataclass(frozen=True)
class Step:
    """What a further loss may look at in one training step.

    Attributes:
        rows: int64 [n] flat item rows that the step touches, distinct and rising.
        vectors: [n, dim] their vectors.
        states: [tokens, dim] state after each event that is read.
        domain: int64 [tokens] domain of these events.
        user: int64 [tokens] user row of these events.
        progress: share of training done, from 0 to 1.
        batch: where these events, and what comes next, stand among the training events.
    """

    rows: Tensor
    vectors: Tensor
    states: Tensor
    domain: Tensor
    user: Tensor
    progress: float
    batch: PackedBatch


class ExtraLoss(Protocol):
    """A loss added to that of the next item; also an `nn.Module`.

    Its parameters are trained, checkpointed and brought back with those of the model, and are no
    part of it afterwards. Randomness comes from `rng` or PyTorch's own generators, which a resumed
    run finds as they were.
    """

    @property
    def mark(self) -> str:
        """What it depends on, as a short text: a checkpoint of a run with another is not used."""
        ...

    def rows(self, batch: PackedBatch, rng: np.random.Generator) -> NDArray[np.int64]:
        """Flat item rows that it wants among those of the step, any number, repeats allowed."""
        ...

    def __call__(self, step: Step) -> Tensor:
        """A scalar to go down, weighted already."""
        ...


class NextItemTask:
    """Next-item prediction over any number of domains.

    Args:
        model: a `SequenceModel` that is also an `nn.Module`.
        events: what may be learnt from.
        item_offsets: int64 [n_domains + 1] flat numbering of the snapshot.
        config: batch size, negatives, weights.
        weights: weight of each domain's mean loss, [n_domains]; 0 leaves its targets out.
        max_length: longest window.
        extra: further losses, added up.
    """

    def __init__(
        self,
        model: SequenceModel,
        events: Events,
        item_offsets: NDArray[np.int64],
        config: TrainingConfig,
        *,
        weights: Sequence[float],
        max_length: int,
        device: torch.device,
        extra: Sequence[ExtraLoss] = (),
    ) -> None:
        assert isinstance(model, nn.Module)
        self.model: SequenceModel = model
        self.module: nn.Module = _together(model, extra).to(device) if extra else model
        self.extra, self.progress = tuple(extra), 0.0
        self.config, self.weights, self.device = config, weights, device
        self.bounds = [int(b) for b in item_offsets]
        self.windows = Windows.cut(events, max_length)
        self.flat = item_offsets[events.domain.astype(np.int64)] + events.item
        self.domain = events.domain.astype(np.int64)
        self.learnt = np.asarray(weights) > 0
        self.newcomers = self._newcomers(events, max_length)
        self.time, self.user = events.time, events.user
        self.event_weight = _relative_weights(events)
        self.rows = RowAdam(model.id_table())

    def batches(self, rng: np.random.Generator) -> Iterator[PackedBatch]:
        """One epoch, without batches that hold nothing to learn."""
        size = self.config.batch_events
        others = [w.batches(size, rng, reach=REACH) for w in self.newcomers]
        due = 0.0
        for batch in self.windows.batches(size, rng):
            if self.learnt[self.domain[batch.targets]].any():
                yield batch
            due += self.config.newcomer_steps
            while due >= 1 and others:
                due -= 1
                others.append(others.pop(0))  # the domains take turns
                further = next(others[-1], None)
                if further is None:
                    others.pop()
                else:
                    yield further

    @property
    def batches_per_epoch(self) -> int:
        """How many steps an epoch has, up to a few."""
        ordinary = self.windows.n_targets / self.config.batch_events
        there = sum(int(w.length.sum()) for w in self.newcomers) / self.config.batch_events
        return max(1, round(ordinary + min(there, ordinary * self.config.newcomer_steps)))

    def _newcomers(self, events: Events, max_length: int) -> list[NewcomerWindows]:
        """For each domain that is learnt and that people have come to from another."""
        if not self.config.newcomer_steps:
            return []
        cut = [
            NewcomerWindows.cut(events, d, max_length) for d in np.flatnonzero(self.learnt).tolist()
        ]
        return [windows for windows in cut if len(windows.length)]

    def loss(self, batch: PackedBatch, rng: np.random.Generator) -> Tensor:
        """Sum over domains of the weighted mean loss and of the further losses, a scalar."""
        asked = [d for d in np.unique(self.domain[batch.targets]).tolist() if self.weights[d] > 0]
        drawn = {d: self._draw(d, rng) for d in asked}
        wanted = [loss.rows(batch, rng) for loss in self.extra]
        parts = [self.flat[batch.inputs], self.flat[batch.targets], *drawn.values(), *wanted]
        rows, inverse = np.unique(np.concatenate(parts), return_inverse=True)
        split = np.split(inverse, np.cumsum([len(p) for p in parts])[:-1])
        place = [torch.from_numpy(s).to(self.device) for s in split]
        row_tensor = torch.from_numpy(rows).to(self.device)
        vectors = self.model.item_vectors(row_tensor, self.rows.take(row_tensor))

        read = torch.from_numpy(self.domain[batch.inputs]).to(self.device)
        states = self.model.states(
            vectors.index_select(0, place[0]),
            read,
            torch.from_numpy(self.time[batch.inputs]).to(self.device),
            torch.from_numpy(batch.offsets).to(self.device),
        )
        target_domain = self.domain[batch.targets]
        by_domain = {}
        for d, negatives in zip(asked, place[2:], strict=False):
            where = torch.from_numpy(np.flatnonzero(target_domain == d)).to(self.device)
            queries = self.model.ask(states.index_select(0, where), d)
            answer = place[1].index_select(0, where)
            losses = self._domain_losses(queries, vectors, answer, negatives, d)
            if self.event_weight is not None:
                targets = batch.targets[target_domain == d]
                losses = losses * torch.from_numpy(self.event_weight[targets]).to(self.device)
            by_domain[d] = losses
        # A batch may ask about nothing that is learnt here; a further loss can still ask for items.
        total = states.new_zeros((), dtype=torch.float32)
        if by_domain:
            total = sum_of_means(by_domain, dict(enumerate(self.weights)))
        if self.extra:
            user = torch.from_numpy(self.user[batch.inputs]).to(self.device)
            step = Step(row_tensor, vectors, states, read, user, self.progress, batch)
            total = total + sum(loss(step) for loss in self.extra)
        return total

    def _draw(self, domain: int, rng: np.random.Generator) -> NDArray[np.int64]:
        low, high = self.bounds[domain], self.bounds[domain + 1]
        if self.config.full_softmax:
            return np.arange(low, high)
        return rng.integers(low, high, self.config.negatives)

    def _domain_losses(
        self, queries: Tensor, vectors: Tensor, answer: Tensor, others: Tensor, domain: int
    ) -> Tensor:
        """Loss of each of one domain's targets, [n]."""
        candidates = vectors.index_select(0, others)
        if self.config.full_softmax:
            return full_softmax(queries, candidates, torch.searchsorted(others, answer))
        return sampled_softmax(
            queries,
            vectors.index_select(0, answer),
            candidates,
            n_items=self.bounds[domain + 1] - self.bounds[domain],
            collisions=answer[:, None] == others[None, :],
        )


def _relative_weights(events: Events) -> NDArray[np.float32] | None:
    """Weight of each event with mean 1 in its domain; None where all weigh the same."""
    weight = events.weight.astype(np.float64)
    domain = events.domain.astype(np.int64)
    count = np.bincount(domain)
    mean = np.bincount(domain, weights=weight) / np.maximum(count, 1)
    relative = (weight / np.where(mean > 0, mean, 1.0)[domain]).astype(np.float32)
    return None if (relative == 1).all() else relative


def _together(model: nn.Module, extra: Sequence[ExtraLoss]) -> nn.Module:
    """One module with the parameters of the model and of all further losses."""
    parts = [loss for loss in extra if isinstance(loss, nn.Module)]
    assert len(parts) == len(extra), "a further loss is a module"
    return nn.ModuleDict({"model": model, "extra": nn.ModuleList(parts)})
