"""Contrast of items: those that people choose together are drawn together, others apart.

InfoNCE over anchors and answers (`samplers.py`). The other answers of the batch are negatives, and
so are drawn items. Cosines are taken where they will be used: of vectors tuned inside the model,
behind the whitening of each domain.

Source of the loss: van den Oord et al., "Representation Learning with Contrastive Predictive
Coding", 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from isthmus.language.learning import LanguageTask
from isthmus.language.tuning.samplers import Batch, Readable, Rows, Sampler

_HELD_OUT_BATCHES = 8
Vectors = Callable[[Rows], Tensor]
"""Distinct rows of texts [n] → their vectors [n, dim], with gradients."""


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
        extra: a further part of the loss, asked for at each step.
        after: called behind the optimiser at every step, with the number of steps made.
    """

    def __init__(
        self,
        whole: nn.Module,
        own: Mapping[str, nn.Parameter],
        vectors: Vectors,
        sampler: Sampler,
        readable: Readable,
        space: Space,
        *,
        temperature: float,
        steps: int,
        device: torch.device,
        extra: Callable[[], Tensor | None] = lambda: None,
        after: Callable[[int], None] = lambda _made: None,
    ) -> None:
        super().__init__(whole, own, steps, device, after)
        self._vectors, self._sampler, self._readable = vectors, sampler, readable
        self._space, self._temperature, self._extra = space, temperature, extra

    def batch(self, rng: np.random.Generator) -> Batch:
        """See `Sampler`."""
        return self._sampler.draw(rng)

    def loss(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Mean nats of the answers among their candidates."""
        extra = self._extra()
        found = self.nats(batch)
        return found if extra is None else found + extra

    def nats(self, batch: Batch) -> Tensor:
        """The contrast alone."""
        asked = batch.anchor.size
        items, place = np.unique(
            np.concatenate([batch.anchor.reshape(-1), batch.candidates]), return_inverse=True
        )
        texts, of_item = np.unique(self._readable.text[items], return_inverse=True)
        vectors = self._vectors(texts)
        rows = torch.from_numpy(of_item).to(vectors.device)
        domain = torch.from_numpy(self._readable.domain[items]).to(vectors.device)
        unit = self._space(vectors[rows].float(), domain)
        index = torch.from_numpy(place).to(vectors.device)
        weight = torch.from_numpy(batch.weight).to(vectors.device)
        each = unit[index[:asked]].view(*batch.anchor.shape, -1)
        anchor = F.normalize(torch.einsum("nld,nl->nd", each, weight), dim=1)
        logits = anchor @ unit[index[asked:]].T / self._temperature
        hidden = torch.from_numpy(batch.hidden).to(vectors.device)
        answers = torch.arange(len(anchor), device=vectors.device)
        return F.cross_entropy(logits.masked_fill(hidden, -1e4), answers)


def held_out_score(task: Contrast, sampler: Sampler, seed: int) -> Callable[[], float]:
    """Minus the nats of fixed held-out steps; goes up as the model learns."""
    rng = np.random.default_rng(seed)
    batches = [sampler.draw(rng) for _ in range(_HELD_OUT_BATCHES)]

    def score() -> float:
        with torch.inference_mode():
            return -float(np.mean([float(task.nats(batch)) for batch in batches]))

    return score
