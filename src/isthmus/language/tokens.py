"""Texts → token numbers, and batches of texts of like length.

Texts are sorted by length, the longest first, so a batch holds next to no padding, its size is
bounded by its padded tokens, and the time left is never underestimated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK = 16_384
_LONG_CHUNK = 512  # texts of any length at once


@dataclass(frozen=True)
class Tokens:
    """Tokenised texts, one after the other.

    Attributes:
        ids: int32 [n_tokens].
        offsets: int64 [n + 1]; text i is `ids[offsets[i]:offsets[i + 1]]`, never empty.
        truncated: bool [n]; the text was longer than allowed.
        padding: the number that fills a batch; it is masked.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    padding: int

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, int64 [n]."""
        return np.diff(self.offsets)

    def padded(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Right-padded token ids and mask of some texts, int64 [batch, length] each."""
        lengths = self.lengths[rows]
        place = np.arange(lengths.max())
        mask = place < lengths[:, None]
        source = np.where(mask, self.offsets[rows][:, None] + place, 0)
        return np.where(mask, self.ids[source], self.padding).astype(np.int64), mask.astype(
            np.int64
        )


def tokenize(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> Tokens:
    """Token numbers of texts, truncated to `max_tokens` including special tokens.

    A text in which the tokenizer sees nothing becomes one padding token.
    """
    limit = min(max_tokens, tokenizer.model_max_length)
    padding = _padding(tokenizer)
    rows: list[list[int]] = []
    truncated = np.zeros(len(texts), bool)
    for start in range(0, len(texts), _CHUNK):
        chunk = list(texts[start : start + _CHUNK])
        # One token more than allowed tells a text that was cut from one that just fits.
        ids = _call(tokenizer, chunk, limit + 1)
        long = [i for i, row in enumerate(ids) if len(row) > limit]
        if long:
            cut = _call(tokenizer, [chunk[i] for i in long], limit)
            for i, row in zip(long, cut, strict=True):
                ids[i] = row
            truncated[start + np.array(long)] = True
        rows.extend(row or [padding] for row in ids)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    flat = np.fromiter((i for row in rows for i in row), np.int32, count=int(offsets[-1]))
    return Tokens(flat, offsets, truncated, padding)


def with_rest(tokenizer: Any, texts: Sequence[str], cut: Tokens) -> Tokens:
    """Texts whole: where one was cut, windows follow with the rest of it.

    Windows are as long as the cut text was, the last one may be shorter; they share no token but
    the special ones, which each of them has.

    Args:
        tokenizer: as for `tokenize`.
        texts: the same.
        cut: what `tokenize` made of them.

    Returns:
        Windows in the order of the texts; `truncated` where the text goes on in the next one.
    """
    windows = [[row] for row in np.split(cut.ids, cut.offsets[1:-1])][: len(texts)]
    long = np.flatnonzero(cut.truncated)
    for start in range(0, len(long), _LONG_CHUNK):
        some = long[start : start + _LONG_CHUNK].tolist()
        for i, ids in zip(some, bare(tokenizer, [texts[i] for i in some]), strict=True):
            windows[i] = _windows(tokenizer, windows[i][0], np.array(ids, np.int32))
    flat = [window for each in windows for window in each]
    goes_on = np.ones(len(flat), bool)
    goes_on[np.cumsum([len(each) for each in windows], dtype=np.int64) - 1] = False
    offsets = np.concatenate([[0], np.cumsum([len(window) for window in flat])]).astype(np.int64)
    return Tokens(np.concatenate([cut.ids[:0], *flat]), offsets, goes_on, cut.padding)


def _windows(
    tokenizer: Any, cut: NDArray[np.int32], whole: NDArray[np.int32]
) -> list[NDArray[np.int32]]:
    """A text in windows like `cut`, which has the special tokens; `whole` has none."""
    room = len(cut) - tokenizer.num_special_tokens_to_add(pair=False)
    kept = whole[-room:] if tokenizer.truncation_side == "left" else whole[:room]
    for front in range(len(cut) - room + 1):
        if room > 0 and np.array_equal(cut[front : front + room], kept):
            return [
                np.concatenate([cut[:front], whole[at : at + room], cut[front + room :]])
                for at in range(0, len(whole), room)
            ]
    return [cut]  # no room beside special tokens


def length_batches(lengths: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Rows of texts in batches of like length, the longest first, the order of equals kept.

    A batch holds at most `batch_tokens` tokens after padding, and at least one text.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // int(lengths[order[start]]))
        yield order[start : start + size]
        start += size


def bare(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token numbers of texts without special tokens, however long; some must be given."""
    ids: list[list[int]] = tokenizer(
        [_sound(text) for text in texts],
        add_special_tokens=False,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]
    return ids


def _call(tokenizer: Any, texts: list[str], limit: int) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(
        [_sound(text) for text in texts],
        truncation=True,
        max_length=limit,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]
    return ids


def _sound(text: str) -> str:
    """The text without lone surrogates."""
    return text.encode("utf-8", "replace").decode()


def _padding(tokenizer: Any) -> int:
    """The padding token, or what stands in for it: decoders often have none."""
    for number in (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id):
        if number is not None:
            return int(number)
    return 0
