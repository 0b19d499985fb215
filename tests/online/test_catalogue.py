"""Registrations are durable, numbered and alike on both databases."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from isthmus.online.catalogue import Catalogue, Item, open_catalogue
from isthmus.online.log import open_log


@pytest.fixture
def catalogue(place: str) -> Iterator[Catalogue]:
    found = open_catalogue(place)
    yield found
    found.close()


TEA = Item("food", "tea", "Green tea", "Drinks > Tea", None, {"price": 3.5, "fair": True, "x": "y"})


def test_an_item_comes_back_as_it_was_described(catalogue: Catalogue) -> None:
    assert catalogue.head() == 0
    change = catalogue.describe([TEA, replace(TEA, domain="gifts")])
    assert change == catalogue.head() == 2
    assert catalogue.items() == [replace(TEA, change=1), replace(TEA, domain="gifts", change=2)]
    assert catalogue.item("gifts", "tea") == replace(TEA, domain="gifts", change=2)
    assert catalogue.item("food", "coffee") is None


def test_changes_are_seen_once_each_by_their_latest_number(catalogue: Catalogue) -> None:
    catalogue.describe([TEA])
    catalogue.describe([replace(TEA, item_id="coffee")])
    catalogue.describe([replace(TEA, title="Black tea")])
    assert [(i.item_id, i.change) for i in catalogue.items(1)] == [("coffee", 2), ("tea", 3)]
    assert catalogue.items(3) == []
    assert [i.change for i in catalogue.items(0, 1)] == [2]


@pytest.mark.parametrize(
    "other",
    [
        {"title": None},
        {"category": "Drinks"},
        {"text": "A green tea"},
        {"text": ""},
        {"attributes": {"price": 3.0}},
    ],
)
def test_the_same_once_more_is_no_change(catalogue: Catalogue, other: dict) -> None:
    catalogue.describe([TEA])
    catalogue.describe([TEA])
    assert [i.change for i in catalogue.items()] == [1]
    catalogue.describe([replace(TEA, **other)])
    (item,) = catalogue.items()
    assert item.change > 1
    assert item == replace(TEA, **other, change=item.change)


def test_a_mark_or_a_person_once_more_is_no_change(catalogue: Catalogue) -> None:
    catalogue.describe([TEA])
    for mark in (catalogue.hide, catalogue.delete):
        mark("food", "tea")
        (once,) = catalogue.items()
        mark("food", "tea")
        assert catalogue.items() == [once]
    catalogue.describe([TEA])
    (back,) = catalogue.items()
    assert back.change > once.change
    catalogue.put_person("ann", {"town": "Ulm"})
    catalogue.hide_person("ann")
    ann = catalogue.person("ann")
    catalogue.put_person("ann", {"town": "Ulm"})
    catalogue.hide_person("ann")
    assert catalogue.person("ann") == ann
    catalogue.hide_person("ann", hidden=False)
    assert catalogue.person("ann") == replace(ann, hidden=False, change=catalogue.head())


def test_marks_outlive_descriptions_and_deletion_does_not(catalogue: Catalogue) -> None:
    catalogue.hide("food", "tea")
    (mark,) = catalogue.items()
    assert (mark.described, mark.hidden, mark.title) == (False, True, None)
    catalogue.describe([TEA])
    catalogue.delete("food", "tea")
    (item,) = catalogue.items()
    assert (item.described, item.hidden, item.deleted, item.title) == (
        True,
        True,
        True,
        "Green tea",
    )
    catalogue.describe([TEA])
    catalogue.hide("food", "tea", hidden=False)
    (item,) = catalogue.items()
    assert (item.hidden, item.deleted) == (False, False)


def test_people_are_registered_hidden_and_forgotten(catalogue: Catalogue) -> None:
    catalogue.put_person("ann", {"town": "Ulm"})
    catalogue.hide_person("bob")
    catalogue.hide_person("ann")
    catalogue.put_person("ann", {"town": "Köln"})
    assert catalogue.hidden_people() == {"ann", "bob"}
    ann = catalogue.person("ann")
    assert ann is not None
    assert (ann.attributes, ann.hidden) == ({"town": "Köln"}, True)
    assert [p.user_id for p in catalogue.people("ann")] == ["bob"]
    before = catalogue.head()
    assert catalogue.forget("ann") == 1
    assert catalogue.forget("ann") == 0
    # Whoever watches the numbers looks again.
    assert catalogue.head() > before
    assert catalogue.person("ann") is None
    assert catalogue.hidden_people() == {"bob"}


def test_the_latest_questions_are_kept(catalogue: Catalogue) -> None:
    assert catalogue.questions() == []
    catalogue.keep_questions({"a": 1.0, "b": 2.0}, 2)
    catalogue.keep_questions({"a": 3.0, "c": 2.5}, 2)
    assert catalogue.questions() == [("c", 2.5), ("a", 3.0)]


def test_it_lives_beside_the_log_whichever_comes_first(place: str) -> None:
    first = open_catalogue(place)
    log = open_log(place)
    second = open_catalogue(place)
    first.describe([TEA])
    assert second.head() == 1
    assert log.head() == 0
    for one in (first, second, log):
        one.close()
