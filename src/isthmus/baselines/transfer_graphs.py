"""Graphs of people and items, one for each domain, joined at the people they share.

What `BiTGCF` is made of: the states that run through the graphs, and what they learn from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from isthmus.data.dataset import Dataset, Events
from isthmus.training.losses import sampled_softmax
from isthmus.training.optim import RowAdam


def transferred(states: Sequence[Tensor], counts: Tensor, retention: float) -> list[Tensor]:
    """States of people after each domain has taken on what they are in the others.

    Args:
        states: per domain, [n, dim].
        counts: [n, n_domains] events of each person; only domains with any have a say.
        retention: share of its own that one half of a state keeps; the other half is the mean over
            all domains, weighted by events.

    Returns:
        Per domain, [n, dim]; people without events in another domain stay as they are.
    """
    weight = counts.to(states[0].dtype)
    active = (weight > 0).to(weight.dtype)
    share = weight / weight.sum(1, keepdim=True).clamp(min=1)
    stacked = torch.stack(list(states), dim=1)
    known = (active[:, :, None] * stacked).sum(1)
    weighted = (share[:, :, None] * stacked).sum(1)
    after = []
    for d, state in enumerate(states):
        others = active.sum(1, keepdim=True) - active[:, d, None]
        elsewhere = (known - active[:, d, None] * state) / others.clamp(min=1)
        taken_on = (retention * state + (1 - retention) * elsewhere + weighted) / 2
        after.append(torch.where(others > 0, taken_on, state))
    return after


class TransferGraphs(nn.Module):
    """One graph for each domain, and the first states of the items in it.

    A person has no first state of their own: it is what their items are.

    Args:
        dataset: the snapshot.
        taken: who took what, ones [n_users, n_items] over all domains.
        dim: width of all states.
        layers: times that items take on what the people around them are.
        retention: see `transferred`; None: the graphs stay apart.
        seed: of the first states.
        device: where the graphs are kept.
    """

    counts: Tensor

    def __init__(
        self,
        dataset: Dataset,
        taken: sp.csr_array,
        *,
        dim: int,
        layers: int,
        retention: float | None,
        seed: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.layers, self.retention = layers, retention
        blocks = [taken[:, start:stop] for start, stop in pairwise(dataset.item_offsets)]
        counts = np.stack([np.diff(block.indptr) for block in blocks], axis=1)
        self.register_buffer("counts", torch.from_numpy(counts), persistent=False)
        edges = [_normalised(block) for block in blocks]
        self.edges = [(_sparse(rows, device), _sparse(rows.T, device)) for rows in edges]
        # Drawn in the order of raw ids: no first state depends on an item's number.
        rng = np.random.default_rng(seed)
        self.items = nn.ParameterList()
        for domain in dataset.domains:
            drawn = rng.normal(0.0, 0.1, (domain.n_items, dim)).astype(np.float32)
            first = np.empty_like(drawn)
            first[domain.items["item_id"].arg_sort().to_numpy()] = drawn
            self.items.append(nn.Parameter(torch.from_numpy(first)))
        self.to(device)

    def run(self) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """States of people and of items, each by layer, then by domain, [n, dim]."""
        people: list[list[Tensor]] = []
        items: list[list[Tensor]] = [list(self.items.parameters())]
        for layer in range(self.layers + 1):
            if layer:
                pairs = zip(self.edges, people[-1], strict=True)
                items.append([_times(to_items, to_people, p) for (to_people, to_items), p in pairs])
            pairs = zip(self.edges, items[-1], strict=True)
            near = [_times(to_people, to_items, i) for (to_people, to_items), i in pairs]
            if self.retention is not None:
                near = transferred(near, self.counts, self.retention)
            people.append(near)
        return people, items


class GraphTask:
    """Every event is told from shared negatives of its own domain; see `training.loop.Task`.

    Args:
        graphs: what learns.
        dataset: the snapshot.
        events: what is learnt from.
        batch: events of the largest domain in a step.
        negatives: drawn uniformly for each domain and step.
        temperature: that cosines are divided by.
    """

    def __init__(
        self,
        graphs: TransferGraphs,
        dataset: Dataset,
        events: Events,
        *,
        batch: int,
        negatives: int,
        temperature: float,
    ) -> None:
        self.graphs, self.negatives, self.temperature = graphs, negatives, temperature
        self.module: nn.Module = graphs
        self.device, self.progress = graphs.counts.device, 0.0
        self.rows = RowAdam(torch.zeros(0, 1))
        self.events = [events.only(d) for d in range(len(dataset.domains))]
        # Negatives are drawn by raw id, so that none depends on an item's number.
        self.by_id = [d.items["item_id"].arg_sort().to_numpy() for d in dataset.domains]
        self.steps = -(-max(map(len, self.events)) // batch)

    @property
    def batches_per_epoch(self) -> int:
        """Steps of one epoch; every domain goes through its events in as many."""
        return self.steps

    def batches(self, rng: np.random.Generator) -> Iterator[list[NDArray[np.int64]]]:
        """Positions in the events of each domain."""
        parts = [np.array_split(rng.permutation(len(e)), self.steps) for e in self.events]
        yield from (list(step) for step in zip(*parts, strict=True))

    def loss(self, batch: list[NDArray[np.int64]], rng: np.random.Generator) -> Tensor:
        """Sum over domains of the mean loss, a scalar."""
        people, items = (
            [
                F.normalize(torch.stack(states).mean(0), dim=1)
                for states in zip(*layers, strict=True)
            ]
            for layers in self.graphs.run()
        )
        total = items[0].new_zeros(())
        for d, chosen in enumerate(batch):
            drawn = self.by_id[d][rng.integers(0, len(self.by_id[d]), self.negatives)]
            if not len(chosen):
                continue
            user, answer, others = (
                torch.from_numpy(rows.astype(np.int64)).to(self.device)
                for rows in (self.events[d].user[chosen], self.events[d].item[chosen], drawn)
            )
            losses = sampled_softmax(
                people[d].index_select(0, user) / self.temperature,
                items[d].index_select(0, answer),
                items[d].index_select(0, others),
                n_items=len(items[d]),
                collisions=answer[:, None] == others[None, :],
            )
            total = total + losses.mean()
        return total


class _Product(torch.autograd.Function):
    """A constant sparse matrix times states; its transpose is at hand for the way back."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, states: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ states

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed @ gradients[0]


def _times(matrix: Tensor, transposed: Tensor, states: Tensor) -> Tensor:
    product: Tensor = _Product.apply(matrix, transposed, states)  # type: ignore[no-untyped-call]
    return product


def _normalised(block: sp.csr_array) -> sp.csr_array:
    """Ones of who took what, each divided by the roots of both degrees, float32 [n, m]."""
    taken = np.diff(block.indptr)
    takers = np.bincount(block.indices, minlength=block.shape[1])
    size = np.sqrt(np.repeat(taken, taken) * takers[block.indices])
    values = (block.data / size).astype(np.float32)
    return sp.csr_array((values, block.indices, block.indptr), block.shape)


def _sparse(matrix: sp.sparray, device: torch.device) -> Tensor:
    entries = sp.csr_array(matrix).tocoo()
    return torch.sparse_coo_tensor(
        torch.from_numpy(np.stack(entries.coords).astype(np.int64)),
        torch.from_numpy(entries.data),
        size=entries.shape,
        device=device,
        is_coalesced=True,
        check_invariants=False,
    )
