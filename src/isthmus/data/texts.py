"""Texts as they come from catalogues → texts as a person would type them.

HTML tags and entities go, white space becomes single spaces, over-long texts are cut. Emoji, every
script and the joiners and direction marks that some scripts need stay as they are.
"""

from __future__ import annotations

import html
from dataclasses import dataclass

import polars as pl

_TAG = r"(?s)<!--.*?-->|</?[a-zA-Z][^<>]*>"
_UNSEEN = r"(?is)<(script|style)\b[^<>]*>.*?</(script|style)\s*>"
_ENTITY = r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});"
_CONTROL = r"[\x{0}-\x{8}\x{E}-\x{1F}\x{7F}\x{FEFF}\x{FFFE}]"


@dataclass(frozen=True)
class CleanTexts:
    """A cleaned column and how many of its values were changed by what.

    Attributes:
        values: text [n]; null where nothing is left.
        markup: values that held tags or entities.
        cut: values that were too long.
    """

    values: pl.Series
    markup: int
    cut: int


def clean_texts(column: pl.Series, max_chars: int) -> CleanTexts:
    """Clean a column of texts, or of lists of texts, which are joined by ' > '."""
    if isinstance(column.dtype, pl.List):
        column = column.cast(pl.List(pl.String)).list.join(" > ", ignore_nulls=True)
    text = column.cast(pl.String)
    marked = (text.str.contains(_TAG) | text.str.contains(_ENTITY)).fill_null(value=False)
    if marked.any():
        rows = marked.arg_true()
        text = text.scatter(rows, _without_markup(text.gather(rows)))
    text = text.str.replace_all(_CONTROL, "").str.replace_all(r"\s+", " ").str.strip_chars()
    long = (text.str.len_chars() > max_chars).fill_null(value=False)
    if long.any():
        text = text.str.slice(0, max_chars).str.strip_chars()
    text = text.set(text == "", None)
    return CleanTexts(text, int(marked.sum()), int(long.sum()))


def _without_markup(text: pl.Series) -> pl.Series:
    """Strip tags and resolve entities; twice, since catalogues often escape what was escaped."""
    for _ in range(2):
        text = text.str.replace_all(_UNSEEN, " ").str.replace_all(_TAG, " ")
        text = pl.Series(text.name, [html.unescape(value) for value in text], dtype=pl.String)
    return text.str.replace_all(_TAG, " ")
