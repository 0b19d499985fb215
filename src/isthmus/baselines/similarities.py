"""How scorers that rest on a sparse table of item similarities are saved."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import BaseModel

from isthmus.training.checkpoint import State


def table_state(table: sp.csr_array, item_offsets: NDArray[np.int64], config: BaseModel) -> State:
    """The table's arrays, the flat numbering of items, and the configuration.

    Args:
        table: [n_items, n_items] in the flat numbering.
        item_offsets: int64 [n_domains + 1].
        config: as fitted.
    """
    arrays = {
        "data": table.data,
        "indices": table.indices,
        "indptr": table.indptr,
        "item_offsets": item_offsets,
    }
    return State(arrays, {"config": config.model_dump(mode="json")})


def table_of(state: State) -> tuple[sp.csr_array, NDArray[np.int64]]:
    """Table and item offsets that `table_state` took."""
    arrays = state.arrays
    item_offsets = arrays["item_offsets"].astype(np.int64)
    size = int(item_offsets[-1])
    parts = (arrays["data"], arrays["indices"], arrays["indptr"])
    return sp.csr_array(parts, shape=(size, size)), item_offsets


def spread(table: sp.csr_array, place: NDArray[np.int64], size: int) -> sp.csr_array:
    """The table where item i stands at `place[i]`, rising, of `size` items; same entry order."""
    length = np.zeros(size, np.int64)
    length[place] = np.diff(table.indptr)
    indptr = np.concatenate([[0], length.cumsum()]).astype(table.indptr.dtype)
    column = place[table.indices].astype(table.indices.dtype)
    return sp.csr_array((table.data, column, indptr), shape=(size, size))
