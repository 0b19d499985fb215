"""The language in which a caller says what may be offered: `category in ["tea"] and price < 20`.

    filter     = all ("or" all)*
    all        = one ("and" one)*
    one        = "not" one | "(" filter ")" | "has" field | field test
    test       = ("=" | "!=" | "<" | "<=" | ">" | ">=") value
               | ["not"] "in" "[" value ("," value)* "]" | "contains" text
    value      = text in single or double quotes | number | true | false
    field      = a name; in backquotes where it holds other than letters, digits and _

It is read into a tree of the classes below and never run as code; `mask` in `filter_masks.py` says
which items pass. An attribute that an item lacks passes no test, so it passes `not` every test.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from isthmus.errors import RequestError

MOST_CHARACTERS, MOST_TESTS, DEEPEST, MOST_VALUES = 4000, 100, 20, 1000
"""Bounds of one filter: length, tests, brackets within brackets, values of all lists together."""

Value = str | float | bool
OPERATORS = ("=", "!=", "<=", ">=", "<", ">")


@dataclass(frozen=True)
class Compare:
    """An attribute against one value, by one of `OPERATORS`."""

    field: str
    operator: str
    value: Value


@dataclass(frozen=True)
class Within:
    """An attribute that is one of several values."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Contains:
    """A text attribute with this in it, upper and lower case alike."""

    field: str
    text: str


@dataclass(frozen=True)
class Has:
    """An attribute that the item has at all."""

    field: str


@dataclass(frozen=True)
class Not:
    """What does not pass."""

    inner: Filter


@dataclass(frozen=True)
class Both:
    """What passes every part, at least two."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Either:
    """What passes some part of at least two."""

    parts: tuple[Filter, ...]


Filter = Compare | Within | Contains | Has | Not | Both | Either

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<name>`[^`]+`|[^\W\d]\w*)
      | (?P<sign><=|>=|!=|==|[=<>(),\[\]])
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_WORDS = {"and", "or", "not", "in", "contains", "has", "true", "false"}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    place: int


def parse(text: str) -> Filter:
    """Read a filter.

    Raises:
        RequestError: it cannot be understood, or is too large; says at which character and how to
            write it.
    """
    if len(text) > MOST_CHARACTERS:
        raise RequestError(
            f"the filter has {len(text):,} characters, {MOST_CHARACTERS:,} are allowed",
            where="filter",
            hint="Shorten it",
        )
    return _Parser(text).whole()


def written(tree: Filter) -> str:
    """A filter as text that `parse` reads back to an equal tree."""
    match tree:
        case Compare():
            return f"{_field(tree.field)} {tree.operator} {_value(tree.value)}"
        case Within():
            return f"{_field(tree.field)} in [{', '.join(map(_value, tree.values))}]"
        case Contains():
            return f"{_field(tree.field)} contains {_value(tree.text)}"
        case Has():
            return f"has {_field(tree.field)}"
        case Not():
            return f"not ({written(tree.inner)})"
        case Both():
            return " and ".join(f"({written(part)})" for part in tree.parts)
        case Either():
            return " or ".join(f"({written(part)})" for part in tree.parts)


def fields(tree: Filter) -> set[str]:
    """Names of the attributes that a filter reads."""
    match tree:
        case Not():
            return fields(tree.inner)
        case Both() | Either():
            return set().union(*map(fields, tree.parts))
        case _:
            return {tree.field}


def _field(name: str) -> str:
    plain = re.fullmatch(r"[^\W\d]\w*", name) and name not in _WORDS
    return name if plain else f"`{name}`"


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


class _Parser:
    """Recursive descent over the tokens of one filter."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.tests, self.values = text, 0, 0, 0
        self.tokens = self._tokens()

    def _tokens(self) -> list[_Token]:
        found, place, end = [], 0, len(self.text.rstrip())
        while place < end:
            token = _TOKEN.match(self.text, place)
            if token is None or token.lastgroup is None:
                place += len(self.text[place:]) - len(self.text[place:].lstrip())
                self._stop(place, f"{self.text[place]!r} means nothing here")
            found.append(
                _Token(token.lastgroup, token[token.lastgroup], token.start(token.lastgroup))
            )
            place = token.end()
        return [*found, _Token("end", "", len(self.text))]

    def whole(self) -> Filter:
        tree = self._either(0)
        if self._next.kind != "end":
            self._expected("'and', 'or' or the end")
        return tree

    @property
    def _next(self) -> _Token:
        return self.tokens[self.at]

    def _takes(self, *texts: str) -> bool:
        """Step over the next token if it is one of these words or signs."""
        token = self._next
        hit = token.kind in ("name", "sign") and token.text in texts
        self.at += hit
        return hit

    def _either(self, depth: int) -> Filter:
        return self._joined("or", lambda: self._both(depth), Either)

    def _both(self, depth: int) -> Filter:
        return self._joined("and", lambda: self._one(depth), Both)

    def _joined(
        self, word: str, part: Callable[[], Filter], kind: type[Both] | type[Either]
    ) -> Filter:
        parts = [part()]
        while self._takes(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else kind(tuple(parts))

    def _one(self, depth: int) -> Filter:
        if depth > DEEPEST:
            self._stop(self._next.place, f"more than {DEEPEST} brackets or 'not' within each other")
        if self._takes("not"):
            return Not(self._one(depth + 1))
        if self._takes("("):
            inner = self._either(depth + 1)
            if not self._takes(")"):
                self._expected("')'")
            return inner
        self.tests += 1
        if self.tests > MOST_TESTS:
            self._stop(self._next.place, f"more than {MOST_TESTS} tests")
        if self._takes("has"):
            return Has(self._name())
        return self._test(self._name())

    def _name(self) -> str:
        token = self._next
        if token.kind != "name" or token.text in _WORDS:
            self._expected("the name of an attribute")
        self.at += 1
        return token.text.strip("`")

    def _test(self, field: str) -> Filter:
        sign = self._next.text
        if self._takes(*OPERATORS, "=="):
            operator = "=" if sign == "==" else sign
            place = self._next.place
            value = self._read_value()
            if isinstance(value, bool) and operator not in ("=", "!="):
                self._stop(place, f"true and false cannot be compared with {operator!r}")
            return Compare(field, operator, value)
        if self._takes("contains"):
            token = self._next
            value = self._read_value()
            if not isinstance(value, str):
                self._stop(token.place, "'contains' looks for a text")
            return Contains(field, value)
        negated = self._takes("not")
        if not self._takes("in"):
            self._expected("'in'" if negated else "=, !=, <, <=, >, >=, 'in', 'not in', 'contains'")
        within = Within(field, self._list())
        return Not(within) if negated else within

    def _list(self) -> tuple[Value, ...]:
        if not self._takes("["):
            self._expected("'[' and a list of values")
        values = [self._read_value()]
        while self._takes(","):
            values.append(self._read_value())
        if not self._takes("]"):
            self._expected("',' or ']'")
        return tuple(values)

    def _read_value(self) -> Value:
        token = self._next
        self.values += 1
        if self.values > MOST_VALUES:
            self._stop(token.place, f"more than {MOST_VALUES:,} values")
        if token.kind == "text":
            self.at += 1
            return re.sub(
                r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), token.text[1:-1], flags=re.DOTALL
            )
        if token.kind == "number":
            number = float(token.text)
            if not math.isfinite(number):
                self._stop(token.place, "the number is too large")
            self.at += 1
            return number
        for word, value in (("true", True), ("false", False)):
            if self._takes(word):
                return value
        self._expected("a text in quotes, a number, true or false")

    def _expected(self, what: str) -> NoReturn:
        token = self._next
        found = "the filter ends" if token.kind == "end" else f"{_shortened(token.text)} stands"
        self._stop(token.place, f"{found} where {what} should be")

    def _stop(self, place: int, what: str) -> NoReturn:
        raise RequestError(
            what,
            where=f"filter, character {place + 1}",
            hint='Write a filter like: category in ["tea", "coffee"] and not (price >= 20)',
        )


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 30 else f"{text[:29]}…")
