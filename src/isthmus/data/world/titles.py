"""Titles and categories: each domain speaks of a topic in its own words.

A topic deals its titles from a deck: whole titles of its own and patterns filled with its words,
no pattern twice before every pattern has been used once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from isthmus.data.world.themes import Theme, Topic, word_list

_SMALL = frozenset(
    ["a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"]
)


@dataclass(frozen=True)
class Pattern:
    """A title to be filled, and the part of the catalogue where such titles stand."""

    title: str
    category: str


_GUIDE, _ESSAY = "{shelf} > {theme} > {topic}", "{shelf} > {theme} > Stories & History"
_BOOKS = (
    Pattern("The {first} Companion: {P}, {Q} and {R}", _GUIDE),
    Pattern("{craft}: A Practical Guide", _GUIDE),
    Pattern("{first}, Step by Step", _GUIDE),
    Pattern("{first} for Beginners", _GUIDE),
    Pattern("The Science of {first}: {P}, {Q} and {R} Explained", _GUIDE),
    Pattern("From {P} to {Q}: {first} Explained", _GUIDE),
    Pattern("How to Think Like {a_person}", _GUIDE),
    Pattern("The Art of {craft}", _GUIDE),
    Pattern("{craft} at Any Age", _GUIDE),
    Pattern("The Complete {person}: A Handbook", _GUIDE),
    Pattern("What Every {person} Should Know About {P}", _GUIDE),
    Pattern("The {first} Workbook: Thirty Lessons in {P} and {Q}", _GUIDE),
    Pattern("The Little Book of {subject}", _GUIDE),
    Pattern("A Short History of {subject}", _ESSAY),
    Pattern("In Praise of {subject}", _ESSAY),
    Pattern("The Hidden World of {subject}", _ESSAY),
    Pattern("{A} & {B}: Stories From the {place}", _ESSAY),
    Pattern("Letters to a Young {person}", _ESSAY),
    Pattern("The {person}'s Notebook: Thoughts on {A} and {B}", _ESSAY),
    Pattern("Confessions of {a_person}", _ESSAY),
    Pattern("A Year of {A} and {B}: How {first} Changed My Life", _ESSAY),
    Pattern("Notes From the {place}: Essays on {subject}", _ESSAY),
    Pattern("The Curious {person}: {A}, {B} and Other Obsessions", _ESSAY),
    Pattern("The Last {person} of {city}", "Fiction > Novels"),
    Pattern("The {person}'s Daughter", "Fiction > Novels"),
    Pattern("The {place} on {street}", "Fiction > Novels"),
    Pattern("Second Chances at the {place}", "Fiction > Romance"),
    Pattern("Murder at the {place}: A {city} Mystery", "Fiction > Crime"),
)
_FILMS = (
    Pattern("The Last {person}", "Drama > {theme}"),
    Pattern("The {person} of {city}", "Drama > {theme}"),
    Pattern("The {place} on {street}", "Drama > {theme}"),
    Pattern("One Summer at the {place}", "Drama > {theme}"),
    Pattern("Return to the {place}", "Drama > {theme}"),
    Pattern("{A_person} in {city}", "Drama > {theme}"),
    Pattern("The {person}'s Daughter", "Drama > {theme}"),
    Pattern("Midnight at the {place}", "Thriller > {theme}"),
    Pattern("The {person} Vanishes", "Thriller > {theme}"),
    Pattern("{A}, {B} and a Wedding", "Comedy > {theme}"),
    Pattern("The Accidental {person}", "Comedy > {theme}"),
    Pattern("How to Marry {a_person}", "Comedy > {theme}"),
    Pattern("Love at the {place}", "Comedy > {theme}"),
    Pattern("{A} and {B}", "Documentary > {theme}"),
    Pattern("In Search of {subject}", "Documentary > {theme}"),
    Pattern("The World of {subject}", "Documentary > {theme}"),
    Pattern("The Art of {craft}", "Documentary > {theme}"),
    Pattern("{craft}: A Love Story", "Documentary > {theme}"),
    Pattern("Life of {a_person}", "Documentary > {theme}"),
)
_FIRST_STEPS, _FURTHER, _EXPERT = (
    f"{{shelf}} > {{theme}} > {level}" for level in ("Beginner", "Intermediate", "Advanced")
)
_COURSES = (
    Pattern("{craft} for Beginners", _FIRST_STEPS),
    Pattern("{first} From Scratch", _FIRST_STEPS),
    Pattern("Introduction to {first}", _FIRST_STEPS),
    Pattern("Weekend Workshop: {craft}", _FIRST_STEPS),
    Pattern("{craft}, One Evening a Week", _FIRST_STEPS),
    Pattern("{first} With Confidence: Twelve Short Lessons", _FIRST_STEPS),
    Pattern("{craft}: A Six-Week Course", _FURTHER),
    Pattern("Intermediate {first}: {P} and {Q}", _FURTHER),
    Pattern("Understanding {subject}", _FURTHER),
    Pattern("{first} Live: {P} and {Q}", _FURTHER),
    Pattern("Think Like {a_person}: Ten Lessons in {first}", _FURTHER),
    Pattern("{subject}: Theory and Practice", _FURTHER),
    Pattern("{first} Masterclass: {P}, {Q} and {R}", _EXPERT),
    Pattern("Advanced {first}: Getting More From {P}", _EXPERT),
    Pattern("{first} Clinic: {P}, {Q} and Common Mistakes", _EXPERT),
    Pattern("Certificate in {first}", _EXPERT),
)


@dataclass(frozen=True)
class Card:
    """What an item's page says: title, category path, usual price, and the maker where known."""

    title: str
    category: str
    price: float
    maker: str | None = None


def deal(domain: str, theme: Theme, topic: Topic, rng: np.random.Generator) -> Iterator[Card]:
    """Titles of one topic in one domain's words, without end and without repetition."""
    dealt: dict[str, Card] = {}
    for hand in _hands(domain, theme, topic, rng):
        for card in hand:
            if card.title not in dealt:
                dealt[card.title] = card
                yield card
    for edition in count(2):
        for card in dealt.values():
            yield replace(card, title=f"{card.title}, edition {edition}")


def _hands(
    domain: str, theme: Theme, topic: Topic, rng: np.random.Generator
) -> Iterator[list[Card]]:
    """Shuffled hands of cards; a title may come again in a later one."""
    if domain == "gear":
        for _ in range(200):
            yield _products(theme, topic, rng)
        return
    patterns = {"books": _BOOKS, "films": _FILMS, "courses": _COURSES}[domain]
    own = {"books": topic.books, "films": topic.films, "courses": ()}[domain]
    price = {"books": 16.0, "films": 8.0, "courses": 60.0}[domain]
    category = (_FILMS[0] if domain == "films" else _BOOKS[0]).category
    for _ in range(200):
        hand = []
        for pattern in (*(Pattern(title, category) for title in own), *patterns):
            words = _words(theme, topic, rng)
            title = _dated(_headline(pattern.title.format_map(words)), domain, rng)
            hand.append(Card(title, pattern.category.format_map(words), price))
        yield [hand[i] for i in rng.permutation(len(hand))]
        own = ()


def _products(theme: Theme, topic: Topic, rng: np.random.Generator) -> list[Card]:
    """One thing of each kind that the shop sells for this topic, from makers taken at random."""
    cards = []
    for i in rng.permutation(len(topic.products)):
        product = topic.products[i]
        brand = theme.brands[rng.integers(len(theme.brands))]
        variant = rng.integers(len(product.variants))
        size = rng.integers(len(product.sizes))
        cards.append(
            Card(
                f"{brand} {product.variants[variant]} {product.noun}, {product.sizes[size]}",
                f"{theme.department} > {_capitals(theme.name)} > {product.shelf}",
                product.price * (1 + 0.15 * float(variant) + 0.2 * float(size)),
                brand,
            )
        )
    return cards


def names_of_people(n: int, rng: np.random.Generator) -> list[str]:
    """At most `n` names of authors, directors or teachers, all different."""
    first, last = word_list("first_names"), word_list("last_names")
    pairs = rng.permutation(len(first) * len(last))[:n]
    return [f"{first[p % len(first)]} {last[p // len(first)]}" for p in pairs]


def _words(theme: Theme, topic: Topic, rng: np.random.Generator) -> dict[str, str]:
    """One choice of words to fill a pattern with."""

    def one_of(words: tuple[str, ...]) -> str:
        return words[rng.integers(len(words))]

    a, b, c = (_capitals(topic.aspects[i]) for i in rng.permutation(len(topic.aspects))[:3])
    p, q, r = (_capitals(topic.aspects[i]) for i in rng.permutation(3))
    article = "an" if topic.person[0] in "AEIOU" else "a"
    return {
        "theme": _capitals(theme.name),
        "shelf": theme.shelf,
        "topic": _capitals(topic.name),
        "first": topic.subjects[0],
        "subject": one_of(topic.subjects),
        "craft": one_of(topic.crafts),
        "person": topic.person,
        "a_person": f"{article} {topic.person}",
        "A_person": f"{article.capitalize()} {topic.person}",
        "place": topic.place,
        "city": one_of(word_list("cities")),
        "street": one_of(word_list("streets")),
        "A": a,
        "B": b,
        "C": c,
        "P": p,
        "Q": q,
        "R": r,
    }


def _dated(title: str, domain: str, rng: np.random.Generator) -> str:
    """Films carry their year, as catalogues of films do."""
    return f"{title} ({rng.integers(1968, 2024)})" if domain == "films" else title


def _capitals(words: str) -> str:
    return " ".join(w if w in _SMALL else w[0].upper() + w[1:] for w in words.split())


def _headline(title: str) -> str:
    """A capital at the start and after a colon, whatever word stands there."""
    return ": ".join(part[0].upper() + part[1:] for part in title.split(": "))
