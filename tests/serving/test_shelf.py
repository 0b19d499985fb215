"""A catalogue with what was registered: which attributes its filters see, and what they let by."""

from __future__ import annotations

import pytest
from serving_world import fitted

from isthmus.errors import RequestError
from isthmus.online.catalogue import Item
from isthmus.serving.filters import parse
from isthmus.serving.shelf import Shelf


def gear() -> Shelf:
    return Shelf.of(fitted().dataset.domains[1])


def let_by(shelf: Shelf, text: str) -> list[str]:
    """Ids of the items that pass a filter."""
    mask = shelf.passing(parse(text))
    return [item_id for item_id, passes in zip(shelf.ids, mask, strict=True) if passes]


def test_an_attribute_named_as_a_field_of_every_item_hides_no_field() -> None:
    before = gear()
    asked = ('category contains "a"', 'title contains "e"', f'item_id = "{before.ids[0]}"')
    found = [let_by(before, text) for text in asked]
    assert all(found)
    own = {"item_id": "x", "title": "x", "category": "x", "text": "x", "_withdrawn": True}
    after = before.changed([Item("gear", "odd", attributes={**own, "colour": "x"})])
    assert [let_by(after, text) for text in asked] == found
    assert let_by(after, 'colour = "x"') == ["odd"]
    assert list(after.extra) == [*before.extra, "colour"]
    with pytest.raises(RequestError, match="no item has an attribute 'text'"):
        let_by(after, 'text = "x"')


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_true_and_one_are_different_filters_whichever_is_asked_for_first(
    order: tuple[int, int],
) -> None:
    flags = {"yes": True, "one": 1.0}
    shelf = gear().changed(
        [Item("gear", name, attributes={"flag": f}) for name, f in flags.items()]
    )
    asked = [("flag = true", ["yes"]), ("flag = 1", ["one"])]
    within = [("flag in [true]", ["yes"]), ("flag in [1]", ["one"])]
    for texts in (asked, within):
        for n in order:
            text, expected = texts[n]
            assert let_by(shelf, text) == expected
