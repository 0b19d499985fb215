"""Which items of a catalogue pass a filter.

An attribute is kept as its distinct values and, for each item, which of them it has; so a test is
made once per distinct value and looked up per item.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import RequestError, did_you_mean
from isthmus.serving.filters import Both, Compare, Contains, Either, Filter, Has, Not, Value, Within

Mask = NDArray[np.bool_]
LEVELS = " > "
"""Between the levels of a category; a test for equality takes one level for the whole."""

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_KINDS = {bool: "true or false", float: "numbers", str: "texts"}


@dataclass(frozen=True)
class Attribute:
    """One attribute of all items of a catalogue.

    Attributes:
        values: its distinct values.
        code: int32 [n_items], place of each item's value in `values`; -1 where it has none.
    """

    values: tuple[Value, ...]
    code: NDArray[np.int32]

    @classmethod
    def of(cls, column: Sequence[object]) -> Self:
        """An attribute from one value per item; None and NaN are none."""
        place: dict[tuple[type, Value], int] = {}
        code = np.full(len(column), -1, np.int32)
        for row, found in enumerate(column):
            value = _plain(found)
            if value is not None:
                code[row] = place.setdefault((type(value), value), len(place))
        return cls(tuple(value for _, value in place), code)

    def where(self, test: Callable[[Value], bool]) -> Mask:
        """Items whose value passes, bool [n_items]."""
        passed = np.zeros(len(self.values) + 1, bool)
        passed[:-1] = [test(value) for value in self.values]
        mask: Mask = passed[self.code]
        return mask


def mask(tree: Filter, attributes: Mapping[str, Attribute], n_items: int) -> Mask:
    """Items that pass a filter, bool [n_items].

    Args:
        tree: the filter.
        attributes: by name.
        n_items: size of the catalogue.

    Raises:
        RequestError: it reads an attribute that no item has, or compares texts with numbers.
    """
    match tree:
        case Not():
            return ~mask(tree.inner, attributes, n_items)
        case Both():
            return reduce(np.logical_and, (mask(part, attributes, n_items) for part in tree.parts))
        case Either():
            return reduce(np.logical_or, (mask(part, attributes, n_items) for part in tree.parts))
    if tree.field not in attributes:
        raise RequestError(
            f"no item has an attribute {tree.field!r}",
            where="filter",
            hint=did_you_mean(tree.field, attributes),
        )
    attribute = attributes[tree.field]
    for value in tested(tree):
        _same_kind(tree.field, attribute, value)
    return attribute.where(lambda found: passes(tree, found))


def tested(test: Compare | Within | Contains | Has) -> tuple[Value, ...]:
    """The values that a test compares with."""
    match test:
        case Compare():
            return (test.value,)
        case Within():
            return test.values
        case Contains():
            return (test.text,)
        case Has():
            return ()


def passes(test: Compare | Within | Contains | Has, found: Value) -> bool:
    """Whether one value passes one test."""
    match test:
        case Has():
            return True
        case Contains():
            return isinstance(found, str) and test.text.lower() in found.lower()
        case Within():
            return any(_equal(test.field, found, value) for value in test.values)
        case Compare(operator="="):
            return _equal(test.field, found, test.value)
        case Compare(operator="!="):
            return not _equal(test.field, found, test.value)
        case Compare():
            alike = type(found) is type(test.value)
            return alike and _COMPARE[test.operator](found, test.value)


def _equal(field: str, found: Value, value: Value) -> bool:
    if type(found) is not type(value):
        return False
    levels = field == "category" and isinstance(found, str)
    return found == value or (levels and value in str(found).split(LEVELS))


def _same_kind(field: str, attribute: Attribute, value: Value) -> None:
    kinds = {type(found) for found in attribute.values}
    if kinds and type(value) not in kinds:
        held = " and ".join(sorted(_KINDS[kind] for kind in kinds))
        raise RequestError(
            f"{field!r} holds {held}, and {value!r} is of another kind",
            where="filter",
            hint="Write texts in quotes and numbers without",
        )


def _plain(value: object) -> Value | None:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float | np.integer | np.floating):
        number = float(value)
        return None if number != number else number
    return str(value)
