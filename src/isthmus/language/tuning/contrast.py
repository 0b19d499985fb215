"""Contrast of items: those that people choose together are drawn together, others apart.

InfoNCE over pairs drawn by their weight (`data.pairs`). A step's pairs are all of one kind, from
one domain to one domain, so that answers are told apart within one catalogue, as in ranking. The
other answers of the batch are negatives, and so are drawn items; an item that anybody chose
together with the anchor, or that reads the same, is never one. Cosines are taken where they will be
used: behind the whitening of each domain.

Source of the loss: van den Oord et al., "Representation Learning with Contrastive Predictive
Coding", 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from isthmus.data.pairs import ItemPairs
from isthmus.language.learning import LanguageTask

_HELD_OUT_BATCHES = 8
Rows = NDArray[np.int64]
Vectors = Callable[[Rows], Tensor]
"""Distinct rows of texts [n] → their vectors [n, dim], with gradients."""


@dataclass(frozen=True)
class Readable:
    """Which item has which text.

    Attributes:
        text: int64 [n_items] row of its text, -1 without; equal texts share a row.
        domain: int64 [n_items].
    """

    text: Rows
    domain: Rows


class Space(nn.Module):
    """Where cosines are taken: vectors less a mean, times a matrix, for each domain.

    Args:
        maps: (mean [dim], matrix [dim, out]) by domain, one `out` for all.
        device: where.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(
        self,
        maps: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(np.stack([m for m, _ in maps])).to(device))
        self.register_buffer("matrix", torch.from_numpy(np.stack([m for _, m in maps])).to(device))

    def forward(self, vectors: Tensor, domain: Tensor) -> Tensor:
        """Vectors [n, dim] of items of domains [n] → unit vectors [n, out]."""
        mapped = vectors.new_zeros(len(vectors), self.matrix.shape[2])
        for d in np.unique(domain.cpu().numpy()).tolist():
            rows = (domain == d).nonzero().squeeze(1)
            mapped = mapped.index_copy(0, rows, (vectors[rows] - self.mean[d]) @ self.matrix[d])
        return F.normalize(mapped, dim=1)


@dataclass(frozen=True)
class Batch:
    """One step.

    Attributes:
        anchor: int64 [n] items.
        candidates: int64 [n + m] items of one domain; the first n are the anchors' answers.
        hidden: bool [n, n + m]; candidates that are no negatives of the anchor.
    """

    anchor: Rows
    candidates: Rows
    hidden: NDArray[np.bool_]


class PairSampler:
    """Draws steps.

    Args:
        pairs: of items that have a text.
        readable: their texts and domains.
        size: pairs a step.
        negatives: further items a step.
        cross_share: share of the steps on pairs across domains, where there are any.
        near: int64 [n_items, k] items whose texts are nearest, within the domain; what hard
            negatives are drawn from.
        hard_share: share of the drawn negatives that are such.
    """

    def __init__(
        self,
        pairs: ItemPairs,
        readable: Readable,
        *,
        size: int,
        negatives: int,
        cross_share: float,
        near: Rows | None = None,
        hard_share: float = 0.0,
    ) -> None:
        self._pairs, self._readable = pairs, readable
        self._size, self._negatives = size, negatives
        self._near, self._hard = near, round(negatives * hard_share) if near is not None else 0
        self._rows: dict[int, Rows] = {}
        self._mass: dict[int, NDArray[np.float64]] = {}
        for kind in np.unique(pairs.kind):
            rows = np.flatnonzero(pairs.kind == kind)
            self._rows[int(kind)] = rows
            self._mass[int(kind)] = np.cumsum(pairs.weight[rows]) / pairs.weight[rows].sum()
        n = pairs.n_domains
        self._catalogue = [
            np.flatnonzero((readable.domain == d) & (readable.text >= 0)) for d in range(n)
        ]
        across = {kind: kind // n != kind % n for kind in self._rows}
        shares = {True: cross_share, False: 1 - cross_share}
        groups = {side: sum(a is side for a in across.values()) for side in (True, False)}
        chance = np.array([shares[across[kind]] / groups[across[kind]] for kind in self._rows])
        if not chance.sum():  # only the other sort of pairs exists
            chance += 1.0
        self._chance = chance / chance.sum()

    def draw(self, rng: np.random.Generator) -> Batch:
        """Pairs of one kind, and their negatives."""
        kind = list(self._rows)[int(rng.choice(len(self._chance), p=self._chance))]
        drawn = np.searchsorted(self._mass[kind], rng.random(self._size), side="right")
        chosen = self._rows[kind][np.minimum(drawn, len(self._rows[kind]) - 1)]
        anchor, answer = self._pairs.first[chosen], self._pairs.second[chosen]
        domain = kind % self._pairs.n_domains
        others = [rng.choice(self._catalogue[domain], self._negatives - self._hard)]
        if self._near is not None and self._hard:
            of = rng.choice(answer, self._hard)
            others.append(self._near[of, rng.integers(self._near.shape[1], size=self._hard)])
        candidates = np.concatenate([answer, *others])
        return Batch(anchor, candidates, self._hidden(anchor, answer, candidates))

    def _hidden(self, anchor: Rows, answer: Rows, candidates: Rows) -> NDArray[np.bool_]:
        text = self._readable.text
        # Far faster than to cut columns out of the sparse rows.
        distinct, place = np.unique(candidates, return_inverse=True)
        column = np.full(len(text), -1, np.int64)
        column[distinct] = np.arange(len(distinct))
        row, item = self._pairs.together[anchor].nonzero()
        asked = column[item] >= 0
        hidden = np.zeros((len(anchor), len(distinct)), bool)
        hidden[row[asked], column[item[asked]]] = True
        hidden = hidden[:, place]
        hidden |= text[anchor][:, None] == text[candidates]
        hidden |= text[answer][:, None] == text[candidates]
        np.fill_diagonal(hidden, val=False)
        return np.asarray(hidden, bool)


class Contrast(LanguageTask):
    """Learns from pairs.

    Args:
        whole: the model that learns.
        own: its tensors that learn.
        vectors: how it reads.
        sampler: what is drawn.
        readable: texts and domains of the items.
        space: where cosines are taken.
        temperature: of the cosines.
        steps: how many in all.
        device: where.
        extra: a further part of the loss, asked for at each step by its number.
    """

    def __init__(
        self,
        whole: nn.Module,
        own: Mapping[str, nn.Parameter],
        vectors: Vectors,
        sampler: PairSampler,
        readable: Readable,
        space: Space,
        *,
        temperature: float,
        steps: int,
        device: torch.device,
        extra: Callable[[int], Tensor | None] = lambda _step: None,
    ) -> None:
        super().__init__(whole, own, steps, device)
        self._vectors, self._sampler, self._readable = vectors, sampler, readable
        self._space, self._temperature, self._extra = space, temperature, extra

    def batch(self, rng: np.random.Generator) -> Batch:
        """See `PairSampler.draw`."""
        return self._sampler.draw(rng)

    def loss(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Mean nats of the answers among their candidates."""
        extra = self._extra(self.step)
        found = self.nats(batch)
        return found if extra is None else found + extra

    def nats(self, batch: Batch) -> Tensor:
        """The contrast alone."""
        items, place = np.unique(
            np.concatenate([batch.anchor, batch.candidates]), return_inverse=True
        )
        texts, of_item = np.unique(self._readable.text[items], return_inverse=True)
        vectors = self._vectors(texts)
        rows = torch.from_numpy(of_item).to(vectors.device)
        domain = torch.from_numpy(self._readable.domain[items]).to(vectors.device)
        unit = self._space(vectors[rows].float(), domain)
        n = len(batch.anchor)
        index = torch.from_numpy(place).to(vectors.device)
        logits = unit[index[:n]] @ unit[index[n:]].T / self._temperature
        hidden = torch.from_numpy(batch.hidden).to(vectors.device)
        answers = torch.arange(n, device=vectors.device)
        return F.cross_entropy(logits.masked_fill(hidden, -1e4), answers)


def held_out_score(task: Contrast, sampler: PairSampler, seed: int) -> Callable[[], float]:
    """Minus the nats of fixed held-out steps; goes up as the model learns."""
    rng = np.random.default_rng(seed)
    batches = [sampler.draw(rng) for _ in range(_HELD_OUT_BATCHES)]

    def score() -> float:
        with torch.inference_mode():
            return -float(np.mean([float(task.nats(batch)) for batch in batches]))

    return score
