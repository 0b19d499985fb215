"""What a column probably holds, judged by its name and by the first rows of its content."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import polars as pl

from isthmus.data.timestamps import to_seconds

Role = Literal[
    "user",
    "item",
    "time",
    "order",
    "rating",
    "kind",
    "weight",
    "title",
    "category",
    "text",
    "vector",
]

_NAMES: dict[Role, str] = {
    "user": r"user|uid|customer|reviewer|member|visitor|account|client|person|buyer|reader|viewer",
    "item": r"item|iid|product|asin|sku|movie|film|book|isbn|track|song|artist|article|news|video|"
    r"business|content|post|recipe|game|offer|listing|fund|loan",
    "time": r"time|timestamp|ts|date|datetime|when|created|at|day",
    "order": r"position|order|rank|seq|sequence|step|place|idx|index",
    "rating": r"rating|ratings|score|stars|star|overall|rate|vote|grade",
    "kind": r"event|kind|action|behavior|behaviour|type|interaction",
    "weight": r"weight",
    "title": r"title|name|headline|label",
    "category": r"category|categories|genre|genres|department|topic|topics|section|cat",
    "text": r"description|desc|brand|abstract|summary|subtitle|features|text|body|author|tags",
}
_PATTERNS = {
    role: re.compile(rf"(?:^|_)(?:{words})(?:_id|_no|_key)?(?:$|_)")
    for role, words in _NAMES.items()
}
_SURE_ID = re.compile(r"_?(id|key|no|code|uuid)$|^asin$|^isbn$|^sku$|^parent_asin$")


@dataclass(frozen=True)
class Looks:
    """How a column looks.

    Attributes:
        name: its name.
        is_id: short values without spaces, such as keys.
        is_number: numbers, also where written as text.
        is_moment: values that read as times between 1990 and 2100.
        is_vector: lists of numbers.
        is_list: lists of anything.
        distinct: share of distinct values among those that are there.
        n_distinct: how many there are in the head.
    """

    name: str
    is_id: bool
    is_number: bool
    is_moment: bool
    is_vector: bool
    is_list: bool
    distinct: float
    n_distinct: int


def look_at(column: pl.Series) -> Looks:
    """Judge the head of a column by its content."""
    values = column.drop_nulls()
    nested = isinstance(column.dtype, pl.List | pl.Array)
    if nested or column.dtype == pl.Struct or not len(values):
        vector = nested and str(column.dtype).startswith(("List(Float", "Array(Float"))
        return Looks(column.name, False, False, False, vector, nested, 0.0, 0)
    text = values.cast(pl.String)
    numbers = text.cast(pl.Float64, strict=False)
    is_number = numbers.null_count() == 0 and column.dtype not in (pl.Date, pl.Datetime)
    whole = is_number and bool((numbers == numbers.floor()).all())
    short = bool((text.str.len_chars() <= 64).all()) and not bool(text.str.contains(r"\s").any())
    seconds = to_seconds(values).seconds.drop_nulls()
    plausible = seconds.is_between(631152000, 4102444800).sum() / len(values)
    n_distinct = text.n_unique()
    return Looks(
        name=column.name,
        is_id=short and (whole or not is_number),
        is_number=is_number,
        is_moment=plausible > 0.95,
        is_vector=False,
        is_list=False,
        distinct=n_distinct / len(text),
        n_distinct=n_distinct,
    )


def find(role: Role, looks: list[Looks], taken: set[str]) -> str | None:
    """The column that fits a role best by name, where its content allows it; None where none."""
    fits = _FITS[role]
    pattern = _PATTERNS[role]
    named = [
        look
        for look in looks
        if look.name not in taken and pattern.search(_plain(look.name)) and fits(look)
    ]
    if role in ("user", "item"):
        named.sort(key=lambda look: _SURE_ID.search(_plain(look.name)) is None)
    return named[0].name if named else None


def find_by_content(role: Role, looks: list[Looks], taken: set[str]) -> str | None:
    """The first column not taken whose content fits a role, whatever it is called."""
    free = [look for look in looks if look.name not in taken and _FITS[role](look)]
    if role in ("user", "item"):
        free = [look for look in free if not look.is_moment and look.n_distinct > 1]
    return free[0].name if free else None


_FITS: dict[Role, Callable[[Looks], bool]] = {
    "user": lambda look: look.is_id,
    "item": lambda look: look.is_id,
    "time": lambda look: look.is_moment,
    "order": lambda look: look.is_number and not look.is_moment,
    "rating": lambda look: look.is_number and not look.is_moment and look.n_distinct <= 200,
    "kind": lambda look: not look.is_number and not look.is_list and look.n_distinct <= 20,
    "weight": lambda look: look.is_number,
    "title": lambda look: not look.is_number and not look.is_list,
    "category": lambda look: not look.is_vector,
    "text": lambda look: not look.is_number and not look.is_list,
    "vector": lambda look: look.is_vector,
}


def _plain(name: str) -> str:
    """`reviewerID` → `reviewer_id`, `unixReviewTime` → `unix_review_time`."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    plain = re.sub(r"[^a-z0-9]+", "_", snake.lower()).strip("_")
    return re.sub(r"^(user|item|movie|book|product|customer)id$", r"\1_id", plain)
