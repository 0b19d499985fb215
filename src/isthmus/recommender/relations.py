"""How items stand to each other in the eyes of each part of a score.

The same three relations carry reasons ("reads like …") and similar items: cosine of whitened
texts, how often one followed the other, and cosine in the neural item space.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isthmus.baselines.content import ContentKNN
from isthmus.baselines.cooccurrence import CoOccurrence
from isthmus.scoring import Float, Request, Requests
from isthmus.transfer.sides import Side

NOTHING = np.float32(-np.inf)
"""Stands where two items have no relation that a part could know of."""


class Relations:
    """Relations between the items of all domains as one side learnt them.

    Args:
        side: its fitted parts; relations exist for those of them that it has.
    """

    def __init__(self, side: Side) -> None:
        self._side = side
        self.names = tuple(
            name for name in ("neural", "co-occurrence", "text") if name in side.parts
        )

    def between(
        self,
        name: str,
        a: NDArray[np.int64],
        b: NDArray[np.int64],
        *,
        query_time: NDArray[np.float64] | None = None,
    ) -> Float:
        """Relation of each item in `b` to each in `a`, by a part's name.

        Args:
            name: one of `names`.
            a: int64 [batch, n] flat indices, -1 for an empty place.
            b: int64 [batch, m] flat indices, -1 for an empty place.
            query_time: float64 [batch] Unix seconds as of which counts are told; None: now.

        Returns:
            float32 [batch, m, n]; `NOTHING` at empty places, between an item and itself, and where
            the part knows nothing of one of the two.
        """
        unknown = (a[:, None, :] < 0) | (b[:, :, None] < 0) | (a[:, None, :] == b[:, :, None])
        if name == "co-occurrence":
            found = self._followed(a, b)
            if query_time is not None and self._company.counts_on:
                for row in np.flatnonzero(self._company.in_the_past(query_time)):
                    found[row] = self._had_followed(a[row], b[row], query_time[row])
            return np.where(unknown | (found == 0), NOTHING, found)
        vectors, present = self._neural if name == "neural" else self._texts
        unknown |= ~present[a][:, None, :] | ~present[b][:, :, None]
        row_a, row_b = self._row(name, a), self._row(name, b)
        cosine = vectors[row_b] @ vectors[row_a].transpose(0, 2, 1)
        return np.where(unknown, NOTHING, cosine)

    @property
    def recency(self) -> float:
        """Factor per event of age by which co-occurrence counts a history."""
        part = self._side.parts.get("co-occurrence")
        return part.config.recency if isinstance(part, CoOccurrence) else 1.0

    @property
    def elsewhere(self) -> float:
        """Factor by which text similarity counts a history in other domains."""
        part = self._side.parts.get("text")
        return part.config.elsewhere if isinstance(part, ContentKNN) else 1.0

    def known(self, item: int) -> bool:
        """Whether anything tells the item at a flat index from others: a text or behaviour."""
        model = self._side.neural.model.items
        return bool(model.present[item]) or bool(model.evidence[item] > 0)

    def _row(self, name: str, flat: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows in the table of vectors; an item without one gets any row, to be masked."""
        return flat if name == "neural" else self._text_row[flat]

    @cached_property
    def _neural(self) -> tuple[Float, NDArray[np.bool_]]:
        """Unit vectors [n_items, dim] about each domain's mean, and which items have one."""
        scorer = self._side.neural
        centred = []
        for domain in range(len(scorer.model.bounds) - 1):
            vectors = scorer.catalogue(domain).cpu().numpy()
            centred.append(vectors - vectors.mean(0) if len(vectors) else vectors)
        vectors = np.concatenate(centred)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        items = scorer.model.items
        known = ((items.evidence > 0) | items.present).cpu().numpy()
        return vectors / np.maximum(length, 1e-12), known

    @cached_property
    def _text_state(self) -> dict[str, NDArray[np.generic]]:
        part = self._side.parts["text"]
        assert isinstance(part, ContentKNN), "the text part is a ContentKNN"
        return part.state().arrays

    @property
    def _text_row(self) -> NDArray[np.int64]:
        return self._text_state["row"].astype(np.int64, copy=False)

    @property
    def _texts(self) -> tuple[Float, NDArray[np.bool_]]:
        table = self._text_state["table"].astype(np.float32, copy=False)
        return table, self._text_row >= 0

    @property
    def _company(self) -> CoOccurrence:
        part = self._side.parts["co-occurrence"]
        assert isinstance(part, CoOccurrence), "the co-occurrence part is a CoOccurrence"
        return part

    @cached_property
    def _similarity(self) -> sp.csr_array:
        arrays = self._company.state().arrays
        size = int(arrays["item_offsets"][-1])
        return sp.csr_array(
            (arrays["data"], arrays["indices"], arrays["indptr"]), shape=(size, size)
        )

    def _followed(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> Float:
        """How much each item in `b` tends to follow each in `a`, float32 [batch, m, n]."""
        shape = (len(a), b.shape[1], a.shape[1])
        earlier = np.broadcast_to(np.maximum(a, 0)[:, None, :], shape).reshape(-1)
        later = np.broadcast_to(np.maximum(b, 0)[:, :, None], shape).reshape(-1)
        if not len(earlier):
            return np.zeros(shape, np.float32)
        found = np.asarray(self._similarity[earlier, later], np.float32)
        return found.reshape(shape)

    def _had_followed(
        self, a: NDArray[np.int64], b: NDArray[np.int64], query_time: np.float64
    ) -> Float:
        """The same for one request, [m, n], as it was told at `query_time`: a history of one."""
        bounds = np.asarray(self._side.neural.model.bounds)
        found = np.zeros((len(b), len(a)), np.float32)
        place = np.flatnonzero(a >= 0)
        if not len(place):
            return found
        domain = np.searchsorted(bounds, a[place], side="right") - 1
        one_each = Requests.of(
            [
                Request([(int(d), int(item))], query_time=float(query_time))
                for d, item in zip(domain, a[place] - bounds[domain], strict=True)
            ]
        )
        for d in range(len(bounds) - 1):
            here = np.flatnonzero((b >= bounds[d]) & (b < bounds[d + 1]))
            if len(here):
                scores = self._company.score(one_each, d, b[here] - bounds[d])
                found[np.ix_(here, place)] = scores.total.T
        return found
