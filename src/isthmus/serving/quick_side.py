"""One side of a system laid out for quick answers.

What a question costs in the scorers themselves is spent on taking tables apart (of a question about
16,000 items, three quarters in the text part). Here item vectors and distinct texts of each domain
stand ready, what is popular is counted on and scaled once, and items that arrived after training
are rows at the end. The formulas are those of the scorers; a test holds both together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.baselines.content import ContentKNN
from isthmus.baselines.cooccurrence import CoOccurrence
from isthmus.baselines.popular import Fading, RecentPopular
from isthmus.blend.mixture import standardise
from isthmus.data.features import ItemFeatures
from isthmus.recommender.serving import POPULAR
from isthmus.scoring import Float, Requests
from isthmus.serving.best import SILENT
from isthmus.serving.quick_text import Indices, Texts, text_query
from isthmus.serving.quick_tower import QuickTower
from isthmus.transfer.sides import Side

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """How popular the items of a domain are, on the scale of a blend.

    Attributes:
        score: float32 [1, n_items].
        average: its mean.
        speaks: whether it tells any two items apart.
    """

    score: Float
    average: float
    speaks: bool


@dataclass(frozen=True)
class QuickSide:
    """One side's tables.

    Attributes:
        side: what they were taken from.
        tower: turns histories into states.
        vectors: per domain, item vectors of the neural part, float32 [n_items, dim].
        texts: per domain; empty where the side has no such part.
        fading: what is popular; None where the side has no such part.
    """

    side: Side
    tower: QuickTower
    vectors: tuple[Tensor, ...]
    texts: tuple[Texts, ...]
    fading: Fading | None
    _levels: dict[int, Level] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, side: Side, others: Sequence[QuickSide]) -> QuickSide:
        """Lay out a side; texts that another side has too are shared with it."""
        n_domains = len(side.neural.model.bounds) - 1
        side.neural.model.to("cpu")
        vectors = tuple(side.neural.model.catalogue(d).clone() for d in range(n_domains))
        tower = QuickTower.of(side.neural.model.users)
        popular = side.parts.get(POPULAR)
        fading = popular.fading() if isinstance(popular, RecentPopular) else None
        part = side.parts.get("text")
        if not isinstance(part, ContentKNN):
            return cls(side, tower, vectors, (), fading)
        state = part.state().arrays
        table, row = (state[name] for name in ("table", "row"))
        texts: list[Texts] = []
        for start, stop in pairwise(state["item_offsets"].astype(np.int64)):
            mine = row[start:stop].astype(np.int64)
            first = int(mine[mine >= 0].min(initial=len(table)))
            last = int(mine.max(initial=first - 1)) + 1
            local = np.where(mine >= 0, mine - first, -1)
            own = Texts.of(table[first:last].astype(np.float32), local)
            there = (other.texts[len(texts)] for other in others if len(other.texts) > len(texts))
            texts.append(next((like for like in there if like.equals(own)), own))
        return cls(side, tower, vectors, tuple(texts), fading)

    def extended(
        self,
        domain: int,
        item: Indices,
        aligned: ItemFeatures,
        texts: tuple[Texts, ...],
    ) -> QuickSide:
        """With new items at the end of a domain, or other texts for some that are there.

        Args:
            domain: its index.
            item: int64 [m] local indices.
            aligned: text vectors as the neural part reads them.
            texts: of all domains, with those of the items among them.
        """
        tower = self.side.neural.model.items
        with torch.inference_mode():
            fresh = tower.by_text(
                torch.from_numpy(aligned.vectors),
                torch.from_numpy(aligned.present),
                torch.full((len(item),), domain),
            )
            before = self.vectors[domain]
            n = max(len(before), int(item.max(initial=-1)) + 1)
            grown = torch.zeros(n, before.shape[1])
            grown[: len(before)] = before
            start = self.side.neural.model.bounds[domain]
            # What behaviour taught of an item stays when its text changes.
            known = item < self.side.neural.model.bounds[domain + 1] - start
            if known.any() and tower.use_text:
                rows = torch.from_numpy(start + item[known])
                told = tower.by_text(tower.text[rows], tower.present[rows], tower.domain[rows])
                fresh[torch.from_numpy(known)] += tower(rows) - told
            grown[torch.from_numpy(item)] = fresh
        vectors = list(self.vectors)
        vectors[domain] = grown
        return replace(self, vectors=tuple(vectors), texts=texts, _levels={})

    def counting(self, domain: Indices, item: Indices, time: Float64) -> QuickSide:
        """With events that came since among what is popular; see `Fading.counting`."""
        if self.fading is None:
            return self
        read = np.isin(domain, self.side.neural.reads)
        fading = self.fading.counting(domain[read], item[read], time[read])
        return replace(self, fading=fading, _levels={})

    def neural(self, requests: Requests, domain: int, scores: Tensor) -> None:
        """Write what the neural part says, float32 [batch, n_items]."""
        torch.mm(self._queries(requests, domain), self.vectors[domain].T, out=scores)

    def _queries(self, requests: Requests, domain: int) -> Tensor:
        """As `NeuralScorer.queries`, with item vectors that stand ready."""
        neural = self.side.neural
        read = requests.among(neural.reads)
        if read.lengths.max(initial=0) > neural.model.users.max_length:
            read = read.keep(read.age < neural.model.users.max_length)
        full = np.flatnonzero(read.lengths)
        if not len(full):
            return torch.zeros(len(requests), self.vectors[domain].shape[1])
        some = read if len(full) == len(read) else read.select(full)
        asked = torch.from_numpy(self.tower.queries(self._vectors_of(some), some, domain))
        if some is read:
            return asked
        queries = torch.zeros(len(requests), asked.shape[1])
        return queries.index_copy_(0, torch.from_numpy(full), asked)

    def _vectors_of(self, requests: Requests) -> Float:
        """Item vectors of the whole history, [total, dim]."""
        found = np.empty((len(requests.item), self.vectors[0].shape[1]), np.float32)
        for domain, vectors in enumerate(self.vectors):
            here = requests.domain == domain
            found[here] = vectors.numpy()[requests.item[here]]
        return found

    def text_query(self, requests: Requests, domain: int) -> Tensor:
        """What the distinct texts of `domain` are multiplied with, float32 [batch, dim]."""
        part = self.side.parts["text"]
        assert isinstance(part, ContentKNN), "the text part is a ContentKNN"
        return text_query(self.texts, requests, domain, part.config)

    def company(self, requests: Requests, domain: int, scores: Tensor) -> None:
        """Write how often items came after the history, float32 [batch, n_items]."""
        part = self.side.parts["co-occurrence"]
        assert isinstance(part, CoOccurrence), "the co-occurrence part is a CoOccurrence"
        part.add_followers(requests, domain, scores.zero_().numpy())

    def popular(self, domain: int) -> Level:
        """What is popular, the same for everybody who asks now."""
        if domain not in self._levels:
            assert self.fading is not None, "the side has a popular part"
            level = np.zeros((1, len(self.vectors[domain])), np.float32)
            known = self.fading.level(domain)
            # Items that nobody has had yet are not among them.
            level[0, : len(known)] = known
            speaks = bool(level.std() > SILENT)
            score = standardise(level)
            self._levels[domain] = Level(score, float(score.mean()), speaks)
        return self._levels[domain]
