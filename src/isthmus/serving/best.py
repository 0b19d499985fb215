"""Rows of raw scores → one list for each of a batch, in one graph.

The formulas are those of `blend.standardise` and of a blend's weighted sum; a test holds both
together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.recommender.ranking import best_columns
from isthmus.scoring import Float
from isthmus.serving.graph import BOOL, FLOAT, INT, Graph, Value

SILENT = 1e-9
"""Spread of a part's scores up to which it tells no item from another; as `blend.standardise`."""

_TOGETHER = 64
"""Numbers whose logarithms are taken in one go, or a multiple of it."""


@dataclass(frozen=True)
class Best:
    """What `best_of` finds.

    Attributes:
        scaled: float32 [rows, n_items] on the scale of `blend.standardise`.
        average: float32 [rows, 1], their means.
        spoke: bool [rows] whether the row tells any two items apart.
        total: float32 [batch, n_items], -inf where closed.
        value: float32 [batch, most], the largest, falling.
        index: int64 [batch, most], where they stand.
    """

    scaled: Float
    average: Float
    spoke: NDArray[np.bool_]
    total: Float
    value: Float
    index: NDArray[np.int64]

    def in_order(self, k: int, rank_of_equals: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of the best `k` and one more, the best `k` as `best_columns` puts them, [batch, k]."""
        order = np.lexsort((rank_of_equals[self.index], -self.value), axis=-1)
        index = np.take_along_axis(self.index, order, axis=1)
        value = np.take_along_axis(self.value, order, axis=1)
        chosen = np.where(value > -np.inf, index, -1)[:, :k]
        if value.shape[1] > k:
            # A tie that crosses the end of the list.
            tied = np.flatnonzero((value[:, k - 1] == value[:, k]) & (value[:, k] > -np.inf))
            if len(tied):
                chosen[tied] = best_columns(self.total[tied], k, rank_of_equals)
        if chosen.shape[1] == k:
            return chosen
        return np.pad(chosen, ((0, 0), (0, k - chosen.shape[1])), constant_values=-1)


def best_of(
    scores: Float, mix: Float, levels: Float, liked: Float, open_to: NDArray[np.bool_], most: int
) -> Best:
    """Rows put on one scale, added up, and the best of what is open.

    Args:
        scores: float32 [rows, n_items], raw.
        mix: float32 [batch, rows] weights.
        levels: float32 [levels, n_items], what is on that scale already.
        liked: float32 [batch, levels] weights.
        open_to: bool [batch, n_items].
        most: how many.
    """
    told = {
        "scores": scores,
        "mix": mix,
        "levels": levels,
        "liked": liked,
        "closed": np.where(open_to, np.float32(0), np.float32(-np.inf)),
        "most": np.array([most]),
        "pad": np.array([0, 0, 0, -scores.shape[1] % _TOGETHER]),
    }
    return Best(*_session().run(None, told))


@cache
def _session() -> Any:
    graph = Graph()
    scores = graph.input("scores", FLOAT, ("rows", "items"))
    mix = graph.input("mix", FLOAT, ("batch", "rows"))
    levels = graph.input("levels", FLOAT, ("levels", "items"))
    liked = graph.input("liked", FLOAT, ("batch", "levels"))
    closed = graph.input("closed", FLOAT, ("batch", "items"))
    most = graph.input("most", INT, (1,))
    pad = graph.input("pad", INT, (4,))
    scaled, spoke = _scaled(graph, scores, pad)
    average = graph("ReduceMean", scaled, np.array([1]), keepdims=1)
    total = graph("Add", graph("MatMul", mix, scaled), graph("MatMul", liked, levels))
    total = graph("Add", total, closed)
    value, index = graph.several(2, "TopK", total, most, axis=1)
    kinds = {scaled: FLOAT, average: FLOAT, spoke: BOOL, total: FLOAT, value: FLOAT, index: INT}
    return graph.session(kinds)


def _scaled(graph: Graph, scores: Value, pad: Value) -> tuple[Value, Value]:
    """As `blend.standardise`: [rows, n_items], and which rows [rows] have a spread."""
    along = np.array([1])
    centred = graph("Sub", scores, graph("ReduceMean", scores, along, keepdims=1))
    squares = graph("Mul", centred, centred)
    spread = graph("Sqrt", graph("ReduceMean", squares, along, keepdims=1))
    spoke = graph("Greater", spread, np.array(SILENT, np.float32))
    factor = graph("Where", spoke, graph("Reciprocal", spread), np.array(0, np.float32))
    # A logarithm is taken of several numbers together, and of the last few otherwise. All are in
    # company, so that equal scores stay equal to the last digit.
    z = graph("Pad", graph("Mul", centred, factor), pad)
    # asinh by hand, ONNX Runtime's own is slow; no z is below -sqrt(n), so that z + root is above 0
    # in catalogues of up to 16 million.
    root = graph("Sqrt", graph("Add", graph("Mul", z, z), np.array(1, np.float32)))
    scaled = graph("Add", z, graph("Log", graph("Add", z, root)))
    n_items = graph("Shape", scores, start=1)
    return graph("Slice", scaled, along - 1, n_items, along), graph("Squeeze", spoke, along)
