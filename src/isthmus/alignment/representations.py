"""Representation alignment in training: the configured losses, over all domains that are read.

The anchor domain is the source, and each other domain is drawn to it by losses of its own. They
look at item vectors (those that a step touches, some pairs of items that belong together among
them), or at people (the mean state after a person's events of a domain; a pair is one person in
both).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.alignment.domains import anchor_domain, item_pairs
from isthmus.alignment.pairs import Pairs
from isthmus.config import Config
from isthmus.data.batches import PackedBatch
from isthmus.data.dataset import Dataset, Events
from isthmus.data.features import ItemFeatures
from isthmus.errors import ConfigError, DataError
from isthmus.settings import asked_for, component
from isthmus.training.next_item import Step

LOSSES = {
    "mmd": "isthmus.alignment.losses:MMD",
    "coral": "isthmus.alignment.losses:CoralLoss",
    "adversarial": "isthmus.alignment.losses:Adversarial",
    "infonce": "isthmus.alignment.losses:InfoNCE",
}
ITEMS, PEOPLE = "alignment.representations", "alignment.user_representations"


class Losses(nn.Module):
    """Some losses between two domains, and their weights.

    A loss is a module whose `forward(a, b, pairs=None)` gives a scalar; `a` is of the anchor. A
    class attribute `needs_pairs` asks for pairs, and an attribute `progress` is set to the share of
    training done. It never sees fewer than two rows of a domain, nor fewer than two pairs; of an
    item of the anchor that is in a pair it is given all pairs, so that it can tell what is none.

    Args:
        weighted: the losses and their weights.
        most: most pairs, and most rows of a domain, that a loss sees.
    """

    def __init__(self, weighted: Mapping[nn.Module, float], most: int) -> None:
        super().__init__()
        self.losses, self.weights, self.most = nn.ModuleList(weighted), [*weighted.values()], most

    @property
    def needs_pairs(self) -> bool:
        """Whether any of them does."""
        return any(getattr(loss, "needs_pairs", False) for loss in self.losses)

    def forward(self, a: Tensor, b: Tensor, pairs: Tensor, progress: float) -> Tensor:
        """[n, dim], [m, dim] and int64 [p, 2] → the weighted sum."""
        total = a.new_zeros(())
        if min(len(a), len(b)) < 2:
            return total
        for loss, weight in zip(self.losses, self.weights, strict=True):
            if hasattr(loss, "progress"):
                setattr(loss, "progress", progress)  # noqa: B010
            if not getattr(loss, "needs_pairs", False):
                total = total + weight * loss(self._some(a), self._some(b))
            elif len(some := self._some_pairs(pairs)) >= 2:
                total = total + weight * loss(a, b, some)
        return total

    def _some_pairs(self, pairs: Tensor) -> Tensor:
        """At most `most` pairs: all of some rows of the anchor, drawn at random."""
        if len(pairs) <= self.most:
            return pairs
        _, row, count = torch.unique(pairs[:, 0], return_inverse=True, return_counts=True)
        drawn = torch.randperm(len(count), device=pairs.device)
        fit = int((count[drawn].cumsum(0) <= self.most).sum())
        # A row that has more than `most` pairs itself gives some of them.
        return self._some(pairs[torch.isin(row, drawn[: max(fit, 1)])])

    def _some(self, rows: Tensor) -> Tensor:
        """At most `most` rows, drawn at random."""
        if len(rows) <= self.most:
            return rows
        return rows[torch.randperm(len(rows), device=rows.device)[: self.most]]


class RepresentationAlignment(nn.Module):
    """An `ExtraLoss`: losses on items and on people between the anchor and each other domain.

    Args:
        bounds: int64 [n_domains + 1], flat numbering of the snapshot.
        anchor: index of the source.
        items: by other domain, losses on item vectors.
        people: by other domain, losses on states.
        pairs: by other domain, local items of the anchor and of it that belong together, [p, 2].
        warmup: share of training over which the weights rise from 0.
        most: most pairs with each other domain that are asked for at a step.
        mark: see `ExtraLoss`.
    """

    def __init__(
        self,
        bounds: Sequence[int],
        anchor: int,
        items: Mapping[int, Losses],
        people: Mapping[int, Losses],
        *,
        pairs: Mapping[int, Pairs],
        warmup: float,
        most: int,
        mark: str,
    ) -> None:
        super().__init__()
        self.mark = mark
        self.bounds, self.anchor = [int(b) for b in bounds], anchor
        self.warmup, self.most = warmup, most
        self.items, self.people = (
            nn.ModuleDict({str(d): losses for d, losses in level.items()})
            for level in (items, people)
        )
        self.pairs = {
            d: p + np.array([self.bounds[anchor], self.bounds[d]]) for d, p in pairs.items()
        }

    def rows(self, batch: PackedBatch, rng: np.random.Generator) -> NDArray[np.int64]:
        """Items of some pairs with each other domain, [2 p]."""
        drawn = [
            p if len(p) <= self.most else p[rng.choice(len(p), self.most, replace=False)]
            for p in self.pairs.values()
        ]
        return np.concatenate([np.zeros(0, np.int64), *(p.reshape(-1) for p in drawn)])

    def forward(self, step: Step) -> Tensor:
        """The weighted sum of all losses, a scalar."""
        rise = min(1.0, step.progress / self.warmup) if self.warmup else 1.0
        total = step.vectors.new_zeros((), dtype=torch.float32)
        if not rise:
            return total
        # Kernels and covariances need more than half precision.
        with torch.autocast(step.vectors.device.type, enabled=False):
            for d, losses in self.items.items():
                total = total + losses(*self._touched(step, int(d)), step.progress)
            for d, losses in self.people.items():
                total = total + losses(*self._met(step, int(d)), step.progress)
        return rise * total

    def _touched(self, step: Step, other: int) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of the touched items of the anchor and of another domain, and pairs of them."""
        (a, a0), (b, b0) = (self._slice(step, d) for d in (self.anchor, other))
        if other not in self.pairs:
            return a, b, step.rows.new_zeros(0, 2)
        pairs = torch.from_numpy(self.pairs[other]).to(step.rows.device)
        place = torch.searchsorted(step.rows, pairs).clamp(max=len(step.rows) - 1)
        there = (step.rows[place] == pairs).all(1)
        return a, b, place[there] - torch.tensor([a0, b0], device=place.device)

    def _slice(self, step: Step, domain: int) -> tuple[Tensor, int]:
        """Vectors of a domain's touched items, and where they start."""
        edges = torch.tensor(self.bounds[domain : domain + 2], device=step.rows.device)
        low, high = torch.searchsorted(step.rows, edges).tolist()
        return step.vectors[low:high].float(), low

    def _met(self, step: Step, other: int) -> tuple[Tensor, Tensor, Tensor]:
        """Mean states of people in the anchor and in another domain, and who is in both."""
        (a, who), (b, whom) = (mean_states(step, d) for d in (self.anchor, other))
        same = (who[:, None] == whom[None, :]).nonzero()
        return a, b, same


def mean_states(step: Step, domain: int) -> tuple[Tensor, Tensor]:
    """Mean state [n, dim] after each person's events of a domain, and their user rows [n]."""
    where = (step.domain == domain).nonzero().squeeze(1)
    users, group, count = torch.unique(step.user[where], return_inverse=True, return_counts=True)
    states = step.states.index_select(0, where).float()
    total = states.new_zeros(len(users), states.shape[1]).index_add(0, group, states)
    return total / count[:, None], users


def representation_alignment(
    dataset: Dataset,
    events: Events,
    raw: Sequence[ItemFeatures],
    config: Config,
    reads: Sequence[int],
    dim: int,
) -> list[RepresentationAlignment]:
    """The configured losses for a stage of training, none where it reads a single domain.

    Args:
        dataset: the snapshot.
        events: what the stage learns from.
        raw: text vectors as the language model gives them, for pairs by text.
        config: `alignment` and `seed` are read.
        reads: the domains that the stage reads.
        dim: width of the model that the stage trains.

    Raises:
        ConfigError: there is one domain only, or a loss that cannot be found or made.
        DataError: a loss needs pairs, and there are none.
    """
    settings = config.alignment
    tables = {ITEMS: settings.representations, PEOPLE: settings.user_representations}
    must_have_company(dataset, config)
    if not any(tables.values()) or len(reads) < 2:
        return []
    anchor = anchor_domain(raw, config, dataset, reads)
    others = [d for d in sorted(reads) if d != anchor]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        items, people = (
            {d: _losses(where, table, config, dim) for d in others} if table else {}
            for where, table in tables.items()
        )
    for d, losses in people.items():
        if losses.needs_pairs:
            must_share_people(events, dataset, anchor, d)
    pairs = {
        d: item_pairs(raw, config, dataset, anchor, d)
        for d, losses in items.items()
        if losses.needs_pairs
    }
    aligned = RepresentationAlignment(
        dataset.item_offsets.tolist(),
        anchor,
        items,
        people,
        pairs=pairs,
        warmup=settings.warmup,
        most=settings.step_rows,
        mark=_mark(config, anchor, pairs),
    )
    return [aligned]


def must_have_company(dataset: Dataset, config: Config) -> None:
    """Raise ConfigError if losses between domains are configured and there is one domain."""
    tables = {
        ITEMS: config.alignment.representations,
        PEOPLE: config.alignment.user_representations,
    }
    for where, table in tables.items():
        if table and len(dataset.domains) < 2:
            raise ConfigError(
                "there is one domain, and nothing to align it with",
                where=where,
                hint="Add a domain, or leave it empty",
            )


def _mark(config: Config, anchor: int, pairs: Mapping[int, Pairs]) -> str:
    digest = hashlib.blake2b(config.alignment.model_dump_json().encode(), digest_size=16)
    for d, rows in pairs.items():
        digest.update(f"{anchor} {d} {len(rows)}".encode() + rows.tobytes())
    return digest.hexdigest()


def loss_class(name: str, where: str) -> Any:
    """The class of a loss by name or dotted path; a ConfigError where it is none."""
    kind = component(name, LOSSES, where=where)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ConfigError(
            f"{name!r} is no torch.nn.Module",
            where=where,
            hint="A loss is a module with forward(a, b, pairs=None)",
        )
    return kind


def _losses(where: str, table: Mapping[str, float], config: Config, dim: int) -> Losses:
    """The losses of a table, made anew."""
    offered = {
        "dim": dim,
        "stop_gradient": config.alignment.stop_gradient,
        "temperature": config.alignment.temperature,
    }
    made: dict[nn.Module, float] = {}
    for name, weight in table.items():
        kind = loss_class(name, where)
        made[kind(**asked_for(kind, offered))] = weight
    return Losses(made, config.alignment.step_rows)


def must_share_people(events: Events, dataset: Dataset, a: int, b: int) -> None:
    """Raise DataError unless two people have events in both domains."""
    there = [
        np.bincount(events.user[events.domain == d], minlength=events.n_users) > 0 for d in (a, b)
    ]
    if int((there[0] & there[1]).sum()) < 2:
        raise DataError(
            f"not two people have training events in both {dataset.names[a]!r} and "
            f"{dataset.names[b]!r}, and a loss compares the same person in both",
            where=PEOPLE,
            hint="Link their ids with people.mapping, or leave the loss out",
        )
