"""The item tower: what is known of an item in, one vector out.

vector = projected text (or a learned stand-in where there is none) + ID embedding × n / (n + k),
where n counts the item's training events: an item with no behaviour falls back on its text.

With `fusion = "null-space"` the text is not projected but taken as it is, its leading axes as the
first dimensions of the vector, and the ID embedding has the others to itself: the null space of
the texts' covariance. Then nothing that is learnt of an item can overwrite what its text says.
Source: Hu et al., "AlphaFuse: Learn ID Embeddings for Sequential Recommendation in Null Space of
Language Embeddings", SIGIR 2025; here the texts' volume, one number, is learnt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from isthmus.config import ModelConfig
from isthmus.data.features import ItemFeatures

TEXT_SCALE, ID_SCALE = 0.03, 0.05
"""Initial deviation of an item vector's entries from its text and from its ID. Text starts small:
started larger, it takes several epochs to shrink (Food–Kitchen, 9 epochs, validation NDCG@10 of
food .0315 from 0.5 against .0367 from 0.1)."""


class ItemTower(nn.Module):
    """Items of all domains, addressed by their flat index in one snapshot.

    The ID table is no parameter of the module: a training step takes the rows that it touches as a
    leaf of their own (`ids`), so that its cost does not grow with the catalogue. `ids_learnt_of`
    names the domains whose rows take gradients; None: all.

    Args:
        features: whitened text vectors per domain, all of one width.
        evidence: float32 [n_items] training events per item, flat.
        config: sizes and switches.
        generator: randomness of the initial ID table.
    """

    text: Tensor
    present: Tensor
    trust: Tensor
    evidence: Tensor
    domain: Tensor
    table: Tensor
    null: Tensor

    def __init__(
        self,
        features: Sequence[ItemFeatures],
        evidence: NDArray[np.float32],
        config: ModelConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.use_ids, self.use_text = config.use_ids, config.use_text
        self.ids_learnt_of: Sequence[int] | None = None
        self.id_dropout = config.id_dropout
        sizes = [len(f) for f in features]
        n = torch.from_numpy(evidence.astype(np.float32))
        trust = torch.ones_like(n)
        if config.use_text:
            # An unseen item's ID says nothing, even where no shrinkage is asked for.
            trust = torch.where(n > 0, n / (n + config.id_shrinkage), 0.0)
        text = torch.from_numpy(np.concatenate([f.vectors for f in features]).astype(np.float32))
        present = torch.from_numpy(np.concatenate([f.present for f in features]))
        domain = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        apart = config.fusion == "null-space" and config.use_ids and config.use_text
        # Dimensions that the text has to itself; none where the two are added up.
        self.text_dim = min(round(config.dim * config.text_share), text.shape[1]) if apart else 0
        null = (torch.arange(config.dim) >= self.text_dim).float()
        table = torch.randn(sum(sizes), config.dim, generator=generator) * ID_SCALE * null
        buffers = {"text": text, "present": present, "trust": trust, "evidence": n, "null": null}
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("domain", domain, persistent=False)
        self.register_buffer("table", table)
        if self.text_dim:
            self.volume = nn.Parameter(torch.tensor(TEXT_SCALE))
        else:
            self.project = nn.Linear(text.shape[1], config.dim, bias=False)
        self.missing = nn.Embedding(len(sizes), self.text_dim or config.dim)
        if not self.text_dim:
            nn.init.normal_(self.project.weight, std=TEXT_SCALE / text.shape[1] ** 0.5)
        nn.init.zeros_(self.missing.weight)

    @property
    def n_items(self) -> int:
        """Items of all domains together."""
        return len(self.table)

    def forward(self, rows: Tensor, ids: Tensor | None = None) -> Tensor:
        """Vectors of the items at flat index `rows` [n] → [n, dim].

        Args:
            rows: int64 [n].
            ids: their ID embeddings [n, dim] as a leaf that takes gradients; None reads the table.
        """
        vectors: Tensor | None = None
        if self.use_text:
            vectors = self.by_text(
                self.text.index_select(0, rows), self.present[rows], self.domain[rows]
            )
        if self.use_ids:
            ids = self.table.index_select(0, rows) if ids is None else ids
            if self.ids_learnt_of is not None:
                domains = torch.tensor(self.ids_learnt_of, device=rows.device)
                learnt = torch.isin(self.domain[rows], domains)
                ids = torch.where(learnt[:, None], ids, ids.detach())
            trust = self.trust[rows]
            if self.training and self.use_text and self.id_dropout:
                trust = trust * (torch.rand_like(trust) >= self.id_dropout)
            weighted = ids * trust[:, None]
            if self.text_dim:
                weighted = weighted * self.null
            vectors = weighted if vectors is None else vectors + weighted
        assert vectors is not None, "an item tower needs ids or text"
        return vectors

    def by_text(self, text: Tensor, present: Tensor, domain: Tensor) -> Tensor:
        """What texts alone say of items, also of those that no table here holds yet.

        Args:
            text: float32 [n, width] vectors, aligned as those that the tower was made with.
            present: bool [n] whether each has a text.
            domain: int64 [n].

        Returns:
            float32 [n, dim]; zero where the tower reads no texts.
        """
        if not self.use_text:
            return text.new_zeros(len(text), self.table.shape[1])
        told = self.volume * text[:, : self.text_dim] if self.text_dim else self.project(text)
        vectors = torch.where(present[:, None], told, self.missing(domain))
        if self.text_dim:
            vectors = F.pad(vectors, (0, len(self.null) - self.text_dim))
        return vectors

    @torch.no_grad()
    def borrow(self, domain: int, sources: Sequence[int]) -> None:
        """Stand in for a domain's missing texts with the mean of what does so elsewhere."""
        self.missing.weight[domain] = self.missing.weight[list(sources)].mean(0)

    @torch.no_grad()
    def all(self, start: int, stop: int, chunk: int = 65536) -> Tensor:
        """Vectors of the items at flat index `start:stop`, [stop - start, dim]."""
        return torch.cat(
            [
                self(torch.arange(a, min(a + chunk, stop), device=self.table.device))
                for a in range(start, stop, chunk)
            ]
        )
