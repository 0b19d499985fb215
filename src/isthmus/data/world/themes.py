"""The shared human themes: what people care about, and how each domain speaks of it.

The vocabulary itself is `themes.toml`, beside this file; a theme such as coffee has three topics
(espresso, filter coffee, roasting), and a topic has words for books, films, courses and gear.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_THEMES = 28
TOPICS_PER_THEME = 3


@dataclass(frozen=True)
class Product:
    """A kind of thing the gear shop sells: `conical` `burr grinder`, `40 mm`, about 160."""

    noun: str
    shelf: str
    variants: tuple[str, ...]
    sizes: tuple[str, ...]
    price: float


@dataclass(frozen=True)
class Topic:
    """A part of a theme, with its words; the comments in `themes.toml` say what each is for."""

    name: str
    subjects: tuple[str, ...]
    crafts: tuple[str, ...]
    person: str
    place: str
    aspects: tuple[str, ...]
    books: tuple[str, ...]
    films: tuple[str, ...]
    products: tuple[Product, ...]


@dataclass(frozen=True)
class Theme:
    """A human interest.

    Attributes:
        name: such as "Trail running".
        department: where the gear shop keeps it.
        shelf: where books and courses keep it.
        risk: 1 (drinking tea) to 5.
        related: names of themes that people who like this one tend to like.
        brands: who makes its gear.
        topics: its three parts.
    """

    name: str
    department: str
    shelf: str
    risk: int
    related: tuple[str, ...]
    brands: tuple[str, ...]
    topics: tuple[Topic, ...]


def choose_themes(n_themes: int) -> tuple[Theme, ...]:
    """`n_themes` of the known themes, spread over all departments."""
    every = _read()
    chosen = np.linspace(0, len(every) - 1, n_themes).round().astype(int)
    return tuple(every[i] for i in chosen)


def relatedness(themes: tuple[Theme, ...]) -> NDArray[np.float64]:
    """float64 [n_themes, n_themes]: 1 where two themes are related either way, 0 elsewhere."""
    place = {theme.name: i for i, theme in enumerate(themes)}
    matrix = np.zeros((len(themes), len(themes)))
    for i, theme in enumerate(themes):
        for name in theme.related:
            if name in place:
                matrix[i, place[name]] = matrix[place[name], i] = 1.0
    return matrix


def word_list(kind: str) -> tuple[str, ...]:
    """Names that belong to no theme: `cities`, `streets`, `first_names` or `last_names`."""
    return tuple(_raw()["names"][kind])


@cache
def _raw() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("themes.toml").read_text("utf-8"))


@cache
def _read() -> tuple[Theme, ...]:
    raw = _raw()
    brands = raw["departments"]
    return tuple(
        Theme(
            name=theme["name"],
            department=theme["department"],
            shelf=theme["shelf"],
            risk=theme["risk"],
            related=tuple(theme["related"]),
            brands=tuple(brands[theme["department"]]),
            topics=tuple(_topic(topic) for topic in theme["topic"]),
        )
        for theme in raw["theme"]
    )


def _topic(raw: dict[str, Any]) -> Topic:
    words: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()
    }
    words["products"] = tuple(_product(line) for line in raw["products"])
    return Topic(**words)


def _product(line: str) -> Product:
    noun, shelf, variants, sizes, price = (part.strip() for part in line.split("|"))
    return Product(noun, shelf, tuple(variants.split(", ")), tuple(sizes.split(", ")), float(price))
