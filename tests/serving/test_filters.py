"""The filter language: what it reads, what it refuses, and that masks are what they should be."""

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import RequestError
from isthmus.serving.filter_masks import Attribute, mask, passes
from isthmus.serving.filters import (
    OPERATORS,
    Both,
    Compare,
    Contains,
    Either,
    Filter,
    Has,
    Not,
    Within,
    fields,
    parse,
    written,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)
VALUES = TEXTS | NUMBERS | st.booleans()
NAMES = st.sampled_from(["price", "category", "brand", "in stock", "größe", "not", "x1"])


def single() -> st.SearchStrategy[Filter]:
    order = st.builds(Compare, NAMES, st.sampled_from(OPERATORS), TEXTS | NUMBERS)
    truth = st.builds(Compare, NAMES, st.sampled_from(["=", "!="]), st.booleans())
    within = st.builds(Within, NAMES, st.lists(VALUES, min_size=1, max_size=3).map(tuple))
    return order | truth | within | st.builds(Contains, NAMES, TEXTS) | st.builds(Has, NAMES)


def several(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[tuple[Filter, ...]]:
    return st.lists(inner, min_size=2, max_size=3).map(tuple)


FILTERS = st.recursive(
    single(),
    lambda inner: (
        st.builds(Not, inner) | st.builds(Both, several(inner)) | st.builds(Either, several(inner))
    ),
    max_leaves=6,
)


@given(FILTERS)
def test_what_is_written_is_read_back(tree: Filter) -> None:
    assert parse(written(tree)) == tree


@given(st.text(max_size=60) | st.text(string.printable, max_size=60))
def test_any_text_is_read_or_refused_with_a_reason(text: str) -> None:
    refused = None
    try:
        parse(text)
    except RequestError as error:
        refused = error
    assert refused is None or (refused.where and refused.hint)


@given(FILTERS, st.lists(st.fixed_dictionaries({}, optional={"price": NUMBERS, "brand": TEXTS})))
@settings(deadline=None, max_examples=60)
def test_masks_agree_with_each_item_by_itself(tree: Filter, items: list[dict]) -> None:
    names = fields(tree)
    columns = {name: [item.get(name) for item in items] for name in names}
    attributes = {name: Attribute.of(column) for name, column in columns.items()}

    def alone(part: Filter, item: dict) -> bool:
        match part:
            case Not():
                return not alone(part.inner, item)
            case Both():
                return all(alone(p, item) for p in part.parts)
            case Either():
                return any(alone(p, item) for p in part.parts)
        return item.get(part.field) is not None and passes(part, item[part.field])

    try:
        found = mask(tree, attributes, len(items))
    except RequestError as error:
        assert "of another kind" in error.what  # noqa: PT017
        return
    assert found.tolist() == [alone(tree, item) for item in items]


SHELF = {
    "category": Attribute.of(["drinks > tea", "tea", "drinks > coffee", None]),
    "price": Attribute.of([3, 20.0, float("nan"), 5]),
    "fair": Attribute.of([True, False, None, True]),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('category in ["tea"] and price < 20', [1, 0, 0, 0]),
        ('category = "drinks"', [1, 0, 1, 0]),
        ('category contains "COFF"', [0, 0, 1, 0]),
        ("not price >= 5", [1, 0, 1, 0]),
        ("has price and fair != false", [1, 0, 0, 1]),
        ('category not in ["tea", "coffee"]', [0, 0, 0, 1]),
        ("price = 3 or price == 5 and fair = true", [1, 0, 0, 1]),
        ("(price = 3 or price = 20) and `fair` = false", [0, 1, 0, 0]),
    ],
)
def test_what_passes(text: str, expected: list[int]) -> None:
    assert mask(parse(text), SHELF, 4).tolist() == np.array(expected, bool).tolist()


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("", "the filter ends where the name of an attribute", "character 1"),
        ("price <", "the filter ends where a text in quotes", "character 8"),
        ("price << 3", "'<' stands where", "character 8"),
        ("price = 3 price", "'price' stands where 'and', 'or' or the end", "character 11"),
        ("price in 3", "'3' stands where '['", "character 10"),
        ("category contains 3", "'contains' looks for a text", "character 19"),
        ("fair < true", "cannot be compared", "character 8"),
        ("price = 1e999", "too large", "character 9"),
        ("price; drop", "';' means nothing here", "character 6"),
        ("__import__('os')", "'(' stands where", "character 11"),
        ("(" * 50 + "price = 1", "more than 20 brackets", "character 22"),
        (" or ".join(["has price"] * 101), "more than 100 tests", "character"),
        ("x" * 4001, "4,001 characters", "filter"),
    ],
)
def test_what_is_refused(text: str, what: str, where: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse(text)
    assert what in refused.value.what
    assert where in str(refused.value.where)


def test_an_attribute_that_nothing_has_names_the_near_one() -> None:
    with pytest.raises(RequestError, match="Did you mean 'price'"):
        mask(parse("prize < 3"), SHELF, 4)


def test_texts_and_numbers_do_not_compare() -> None:
    with pytest.raises(RequestError, match="'price' holds numbers, and '3' is of another kind"):
        mask(parse('price = "3"'), SHELF, 4)
