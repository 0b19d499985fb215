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
