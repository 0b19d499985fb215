"""The snapshot's own small operations: selecting events, and finding items, users and domains."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.errors import RequestError

COLUMNS = ("domain", "item", "time", "kind", "rating", "weight")


@st.composite
def events(draw: st.DrawFn) -> Events:
    """Events of up to five users in up to three domains, every value of every column its own."""
    lengths = draw(st.lists(st.integers(0, 4), max_size=5))
    n = sum(lengths)
    domain = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), np.int16)
    return Events.from_columns(
        len(lengths),
        np.repeat(np.arange(len(lengths)), lengths),
        domain,
        np.arange(n, dtype=np.int32),
        np.arange(n) + 0.5,
        kind=np.arange(n, dtype=np.int16),
        rating=np.arange(n, dtype=np.float32) + 100,
        weight=np.arange(n, dtype=np.float32) + 200,
    )


def histories(events: Events) -> list[list[tuple[float, ...]]]:
    """Each user's events as tuples of all columns, through the offsets alone."""
    rows = list(zip(*(getattr(events, name).tolist() for name in COLUMNS), strict=True))
    return [rows[a:b] for a, b in zip(events.offsets[:-1], events.offsets[1:], strict=True)]


@settings(max_examples=100, deadline=None)
@given(events())
def test_columns_make_a_csr_that_gives_them_back(events):
    assert len(events) == events.offsets[-1] == len(events.user)
    assert events.n_users == len(histories(events))
    again = Events.from_columns(
        events.n_users,
        events.user,
        *(getattr(events, name) for name in ("domain", "item", "time")),
        **{name: getattr(events, name) for name in ("kind", "rating", "weight")},
    )
    assert histories(again) == histories(events)
    np.testing.assert_array_equal(again.offsets, events.offsets)


@settings(max_examples=100, deadline=None)
@given(events(), st.data())
def test_keep_takes_the_marked_events_and_moves_nobody(events, data):
    n = len(events)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    kept = events.keep(mask)
    marked = {int(item) for item in events.item[mask]}
    assert histories(kept) == [
        [event for event in history if event[1] in marked] for history in histories(events)
    ]
    for name in ("offsets", *COLUMNS):
        assert getattr(kept, name).dtype == getattr(events, name).dtype


@settings(max_examples=100, deadline=None)
@given(events(), st.sets(st.integers(0, 2)))
def test_only_takes_the_events_of_the_named_domains(events, domains):
    assert histories(events.only(*domains)) == [
        [event for event in history if event[0] in domains] for history in histories(events)
    ]


def test_columns_that_are_not_given_have_plain_values():
    found = Events.from_columns(
        3, np.array([0, 2]), np.array([0, 1]), np.array([5, 6]), np.array([1, 2])
    )
    assert found.offsets.tolist() == [0, 1, 1, 2]
    assert found.kind.tolist() == [0, 0]
    assert found.weight.tolist() == [1, 1]
    assert np.isnan(found.rating).all()
    types = {name: getattr(found, name).dtype.name for name in ("offsets", *COLUMNS)}
    assert types == {
        **{"offsets": "int64", "domain": "int16", "item": "int32", "time": "float64"},
        **{"kind": "int16", "rating": "float32", "weight": "float32"},
    }


def catalogue(name: str, *ids: str) -> Domain:
    return Domain(name, pl.DataFrame({"item_id": list(ids)}, schema={"item_id": pl.String}))


@pytest.fixture
def dataset() -> Dataset:
    return Dataset(
        domains=(
            catalogue("books", "a", "b"),
            catalogue("none"),
            catalogue("films", "a", "c", "d"),
        ),
        user_ids=pl.Series(["ann", "bob", "汉"]),
        events=Events.from_columns(
            3, np.array([0, 1]), np.array([0, 2]), np.array([1, 2]), np.array([1, 2])
        ),
    )


def test_sizes_and_names(dataset):
    assert (dataset.n_users, dataset.n_items) == (3, 5)
    assert dataset.names == ("books", "none", "films")
    assert dataset.item_offsets.tolist() == [0, 2, 2, 5]


def test_flat_numbers_every_item_once_in_domain_order(dataset):
    domain = np.array([0, 0, 2, 2, 2], np.int16)
    item = np.array([0, 1, 0, 1, 2], np.int32)
    flat = dataset.flat(domain, item)
    assert flat.tolist() == [0, 1, 2, 3, 4]
    assert flat.dtype == np.int64


def test_flat_is_wider_than_the_columns_it_reads():
    wide = Domain("wide", pl.DataFrame({"item_id": pl.int_range(0, 70_000, eager=True)}))
    events = Events.from_columns(0, *(np.zeros(0, int) for _ in range(4)))
    dataset = Dataset((wide, wide), pl.Series([], dtype=pl.String), events)
    assert dataset.flat(np.array([1], np.int16), np.array([69_999], np.int32)).tolist() == [139_999]


def test_the_same_raw_id_in_two_domains_is_two_items(dataset):
    books, _, films = dataset.domains
    assert books.index_of("a") == films.index_of("a") == 0
    first = dataset.flat(np.array([0, 2], np.int16), np.array([0, 0], np.int32))
    assert first[0] != first[1]


def test_users_are_found_by_raw_id(dataset):
    assert dataset.user_index == {"ann": 0, "bob": 1, "汉": 2}


def test_unknown_items_and_domains_suggest_the_near_ones(dataset):
    titles = catalogue("films", "matrix", "alien")
    with pytest.raises(RequestError, match=r"'matrx'.*catalogue of 'films'.*mean 'matrix'"):
        titles.index_of("matrx")
    assert dataset.domain_index("films") == 2
    with pytest.raises(RequestError, match=r"domain 'film' is not.*mean 'films'"):
        dataset.domain_index("film")


def test_a_dataset_without_domains_has_no_items():
    events = Events.from_columns(0, *(np.zeros(0, int) for _ in range(4)))
    empty = Dataset((), pl.Series([], dtype=pl.String), events)
    assert (empty.n_items, empty.n_users, empty.names) == (0, 0, ())
