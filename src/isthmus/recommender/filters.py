"""Which items may be offered at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.dataset import Domain
from isthmus.errors import RequestError, did_you_mean


def offered_items(
    domain: Domain,
    *,
    category: str | None = None,
    allow: Sequence[str] | None = None,
    deny: Sequence[str] | None = None,
) -> NDArray[np.bool_]:
    """Items that pass every filter, bool [n_items].

    Args:
        domain: the target.
        category: offered items have this in their category, upper and lower case alike.
        allow: raw ids; nothing else is offered.
        deny: raw ids that are not offered; those that the catalogue does not hold do no harm.

    Raises:
        RequestError: an allowed item is unknown, or the filters leave nothing; says which.
    """
    offered = domain.offered.copy()
    applied: list[str] = []
    if category is not None:
        text = domain.items["category"].cast(pl.String).str.to_lowercase()
        matches = text.str.contains(category.lower(), literal=True).fill_null(False)
        offered &= matches.to_numpy()
        applied.append(f"category {category!r}")
        if not offered.any():
            raise _nothing(domain, applied, _known_categories(domain, category))
    if allow is not None:
        chosen = np.zeros(domain.n_items, bool)
        chosen[[domain.index_of(item_id) for item_id in allow]] = True
        offered &= chosen
        applied.append("the allow list")
        if not offered.any():
            raise _nothing(domain, applied, "Allow more items")
    if deny is not None:
        denied = [domain.item_index[item_id] for item_id in deny if item_id in domain.item_index]
        offered[denied] = False
        applied.append("the deny list")
        if not offered.any():
            raise _nothing(domain, applied, "Deny fewer items")
    return offered


def _nothing(domain: Domain, applied: list[str], hint: str) -> RequestError:
    return RequestError(
        f"{' and '.join(applied)} leave{'s' * (len(applied) == 1)} no item of {domain.name!r}",
        where="filters",
        hint=hint,
    )


def _known_categories(domain: Domain, category: str) -> str:
    known = domain.items["category"].drop_nulls().unique().to_list()
    if not known:
        return f"No item of {domain.name!r} has a category"
    return did_you_mean(category, {part for path in known for part in path.split(" > ")})
