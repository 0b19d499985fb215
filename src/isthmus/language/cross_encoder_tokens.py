"""Two texts → one sequence of tokens that says where the second begins.

Encoders read `[CLS] history [SEP] item [SEP]`; decoders, which have no such marks, end both texts
with their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.language.tokens import Tokens, bare


@dataclass(frozen=True)
class PairTokens:
    """Token pairs; the second text of pair i begins at token `second[i]`."""

    tokens: Tokens
    second: NDArray[np.int64]

    def batch(self, rows: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Right-padded ids, mask, and where the second text stands."""
        ids, mask = self.tokens.padded(rows)
        place = np.arange(ids.shape[1])
        second = ((place >= self.second[rows][:, None]) & (mask > 0)).astype(np.int64)
        padded = (torch.from_numpy(array).to(device) for array in (ids, mask, second))
        return tuple(padded)  # type: ignore[return-value]


def pair_tokens(tokenizer: Any, first: list[str], second: list[str], limit: int) -> PairTokens:
    """Pairs as one sequence each, at most `limit` tokens; the second text keeps at least half."""
    opening = [] if tokenizer.cls_token_id is None else [tokenizer.cls_token_id]
    mark = next(
        (m for m in (tokenizer.sep_token_id, tokenizer.eos_token_id) if m is not None), None
    )
    closing = [] if mark is None else [mark]
    room = limit - len(opening) - 2 * len(closing)
    rows, place, truncated = [], [], []
    for a, b in zip(_each(tokenizer, first), _each(tokenizer, second), strict=True):
        kept_b = b[: max(room - len(a), room // 2)]
        kept_a = a[len(a) - min(len(a), room - len(kept_b)) :]
        truncated.append(len(kept_a) + len(kept_b) < len(a) + len(b))
        head = [*opening, *kept_a, *closing]
        place.append(len(head))
        rows.append([*head, *kept_b, *closing] or [0])
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    ids = np.fromiter((i for row in rows for i in row), np.int32, count=int(offsets[-1]))
    padding = tokenizer.pad_token_id
    tokens = Tokens(
        ids, offsets, np.array(truncated, bool), int(padding if padding is not None else mark or 0)
    )
    return PairTokens(tokens, np.array(place, np.int64))


def _each(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Token numbers without marks; each distinct text is read once."""
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return []
    known = dict(zip(distinct, bare(tokenizer, distinct), strict=True))
    return [known[text] for text in texts]
