"""The same answers as `Recommender.recommend`, quickly: all sides laid out, and the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.data.features import ItemFeatures
from isthmus.recommender.asking import Asked
from isthmus.recommender.ranking import Top
from isthmus.scoring import Float, Requests
from isthmus.serving.quick_side import QuickSide
from isthmus.serving.quick_text import Indices, Texts
from isthmus.serving.shares import Answering, Shares
from isthmus.transfer.sides import Side
from isthmus.transfer.system import System


@dataclass(frozen=True)
class Quick:
    """A system laid out for quick answers; an immutable value, so readers of one never mix two.

    Attributes:
        system: what it was taken from.
        sides: each of its sides, once.
    """

    system: System
    sides: tuple[QuickSide, ...]

    @classmethod
    def of(cls, system: System) -> Quick:
        """Lay out every side."""
        made: list[QuickSide] = []
        answering = [side for d in range(len(system.features)) for side in system.sides(d)]
        with torch.inference_mode():
            for side in (system.transferred, *answering):
                if side is not None and all(side is not other.side for other in made):
                    made.append(QuickSide.of(side, made))
        return cls(system, tuple(made))

    def laid_out(self, side: Side) -> QuickSide:
        """The tables of one of the system's sides."""
        return next(quick for quick in self.sides if quick.side is side)

    def n_items(self, domain: int) -> int:
        """Size of a domain's catalogue, new items included."""
        return len(self._behind(domain).vectors[domain])

    def _behind(self, domain: int) -> QuickSide:
        return self.laid_out(self.system.sides(domain)[0])

    def described(self, domain: int, item: Indices) -> Float:
        """Vectors by which items [n] of a domain are compared: of their texts, or neural ones."""
        side, rows = self._behind(domain), torch.from_numpy(item)
        if not side.texts:
            return side.vectors[domain][rows].numpy()
        texts = side.texts[domain]
        row = texts.row[rows]
        return (texts.table[row] * (row != texts.missing)[:, None]).numpy()

    def extended(
        self,
        domain: int,
        item: Indices,
        aligned: ItemFeatures,
        own: ItemFeatures,
        whitened: ItemFeatures | None,
    ) -> Quick:
        """With new items, or new texts; see `QuickSide.extended`.

        Args:
            domain: index.
            item: int64 [m] local indices.
            aligned: as the transferred side and those of joined domains read texts.
            own: as the target-only sides do.
            whitened: as text similarity does.
        """
        apart = [s for s in self.system.alone.values() if s is not self.system.transferred]

        @cache
        def grown(texts: Texts) -> Texts:
            """Once for all sides that share them, so that they stay shared."""
            assert whitened is not None, "where there are texts, new ones are whitened"
            return texts.extended(item, whitened.vectors, whitened.present)

        sides = []
        for quick in self.sides:
            # To a side that was made before the domain joined, there is no such domain.
            if domain < quick.side.n_domains:
                texts = tuple(grown(t) if d == domain else t for d, t in enumerate(quick.texts))
                read = own if any(quick.side is s for s in apart) else aligned
                quick = quick.extended(domain, item, read, texts)
            sides.append(quick)
        return replace(self, sides=tuple(sides))

    def counting(self, domain: Indices, item: Indices, time: NDArray[np.float64]) -> Quick:
        """With events [n] that came since counted among what is popular, on whatever side."""
        return replace(self, sides=tuple(s.counting(domain, item, time) for s in self.sides))

    @torch.inference_mode()
    def top(
        self,
        asked: Asked,
        domain: int,
        k: int,
        *,
        offered: NDArray[np.bool_],
        rank_of_equals: Indices,
        seen: bool | Sequence[bool] = False,
    ) -> Top:
        """The best items of each request; see `recommender.ranking.best_items`.

        Args:
            asked: the batch.
            domain: index of the target.
            k: length of the lists.
            offered: bool [n_items] for all requests, or [batch, n_items].
            rank_of_equals: int64 [n_items], which of two items with one score goes first.
            seen: whether items of a person's own history are offered too; one for all, or each.
        """
        gated = self.system.gated
        visible = gated.known(asked.visible, domain)
        answering = self._answering(visible, domain, gated.weights(visible, domain))
        open_to = np.broadcast_to(offered, (len(asked), self.n_items(domain))).copy()
        closed = ~np.broadcast_to(np.asarray(seen), (len(asked),))
        own = asked.whole.only(domain)
        mine = closed[own.rows]
        open_to[own.rows[mine], own.item[mine]] = False
        return Shares.of(answering, domain, open_to).top(k, rank_of_equals)

    def _answering(self, requests: Requests, domain: int, weight: Float) -> list[Answering]:
        """The sides on both sides of the gate, each with those for whom it counts."""
        behind, before = self.system.sides(domain)
        found = []
        for side, let_in in ((behind, weight), (before, 1 - weight)):
            rows = np.flatnonzero(let_in > 0)
            if side is not None and len(rows):
                found.append(Answering.of(self.laid_out(side), rows, requests, domain, let_in))
        return found
