"""Where a list goes on: the lots of all items that its pages have shown.

Nothing is kept here of a list that was given, so any worker can give its next page, and what was
done or has arrived meanwhile is in it. Lots are drawn by raw id and outlive a change of version.
"""

from __future__ import annotations

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import RequestError

MOST_PAGED = 1000
"""Items of one list that can be paged through."""
Lots = NDArray[np.float64]


def cursor_after(before: Lots, page: Lots, n_offered: int) -> str | None:
    """The cursor behind a page; None where nothing is left, or too much would be carried.

    Args:
        before: of the items on the pages before.
        page: of those on this one.
        n_offered: items that could be offered for this page.
    """
    shown = np.concatenate([before, page])
    if n_offered <= len(page) or len(shown) >= MOST_PAGED:
        return None
    return base64.urlsafe_b64encode(shown.astype("<f8").tobytes()).decode().rstrip("=")


def shown_by(cursor: str) -> Lots:
    """Lots of the items that were shown, float64 [n].

    Raises:
        RequestError: it is no cursor of this service.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        shown = np.frombuffer(raw, "<f8").astype(np.float64)
    except (binascii.Error, ValueError):
        shown = np.full(1, np.nan)
    if not (len(shown) <= MOST_PAGED and ((shown >= 0) & (shown < 1)).all()):
        raise RequestError(
            "no cursor of this service", where="cursor", hint="Send `next_cursor` as it came"
        )
    return shown
