from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from isthmus.alignment import pairs as pairs_module
from isthmus.alignment.pairs import matched_texts, pairs_between, read_pairs
from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.errors import DataError

NAMES = ("books", "films", "games")


def _dataset() -> Dataset:
    none = np.zeros(0, np.int64)
    events = Events.from_columns(
        0, none, none.astype(np.int16), none.astype(np.int32), none.astype(np.float64)
    )
    domains = tuple(
        Domain(name, pl.DataFrame({"item_id": [f"{name[0]}{i}" for i in range(4)]}))
        for name in NAMES
    )
    return Dataset(domains, pl.Series([], dtype=pl.String), events)


def _texts(n: int, seed: int, dim: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def test_items_that_read_alike_are_found_whatever_their_order(monkeypatch):
    monkeypatch.setattr(pairs_module, "CHUNK", 32)
    a = _texts(200, 0)
    b = np.concatenate([a[:60] + 0.05 * _texts(60, 1), _texts(150, 2)]) + 4
    order = np.random.default_rng(3).permutation(len(b))
    found = matched_texts(a, b[order], cosine=0.8)
    assert [(i, int(order[j])) for i, j in found] == [(i, i) for i in range(60)]


def test_a_pair_is_the_nearest_both_ways():
    a, b = _texts(120, 0), _texts(150, 1)
    found = matched_texts(a, b, cosine=-1)
    assert len(set(found[:, 0])) == len(set(found[:, 1])) == len(found)
    assert len(found) < 120


def test_a_threshold_that_nothing_reaches_gives_no_pair():
    assert matched_texts(_texts(50, 0), _texts(50, 1), cosine=0.999).shape == (0, 2)
    assert matched_texts(_texts(50, 0), _texts(0, 1)).shape == (0, 2)


def test_items_of_one_text_share_its_match_but_not_without_end():
    base = _texts(40, 0)
    a = np.concatenate([base, base[:1], base[1:2].repeat(150, 0)])
    found = matched_texts(a, base, cosine=0.9)
    assert {(i, j) for i, j in found if j == 0} == {(0, 0), (40, 0)}
    # A text of 151 items says nothing of any of them.
    assert 1 not in found[:, 1]
    assert len(found) == 40


def test_a_sample_of_many_texts_depends_on_the_texts_alone():
    a = _texts(300, 0)
    b = a + 0.01 * _texts(300, 1)
    order = np.random.default_rng(0).permutation(300)
    one = matched_texts(a, b, most=100)
    other = matched_texts(a[order], b, most=100)
    assert 10 < len(one) < 100
    assert {(int(order[i]), int(j)) for i, j in other} == {(int(i), int(j)) for i, j in one}


def _write(path: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    frame = pl.DataFrame(rows, schema=list(pairs_module.COLUMNS), orient="row")
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    return path


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.parquet"])
def test_a_file_of_pairs_is_read_either_way_round(tmp_path, name):
    rows = [
        ("books", "b1", "films", "f2"),
        ("films", "f0", "books", "b3"),
        ("books", "b1", "films", "f2"),
        ("games", "g1", "books", "b0"),
        ("books", "b0", "books", "b1"),
    ]
    frame = read_pairs(_write(tmp_path / name, rows), _dataset())
    assert pairs_between(frame, 0, 1).tolist() == [[1, 2], [3, 0]]
    assert pairs_between(frame, 1, 0).tolist() == [[0, 3], [2, 1]]
    assert pairs_between(frame, 0, 2).tolist() == [[0, 1]]
    assert pairs_between(frame, 1, 2).shape == (0, 2)


def test_unknown_items_are_counted_and_the_first_is_named(tmp_path):
    rows = [
        ("books", "b1", "films", "f2"),
        ("books", "b1", "films", "lost"),
        ("books", "gone", "films", "f1"),
    ]
    path = _write(tmp_path / "pairs.csv", rows)
    with pytest.raises(DataError, match=r"2 of 3 pairs .* first 'lost' of 'films' in row 2"):
        read_pairs(path, _dataset())


def test_unknown_domains_and_missing_columns_are_named(tmp_path):
    path = _write(tmp_path / "pairs.csv", [("book", "b1", "films", "f2")])
    with pytest.raises(DataError, match=r"'book' is no domain.*'books'"):
        read_pairs(path, _dataset())
    pl.DataFrame({"domain_a": ["books"], "item": ["b1"]}).write_csv(path)
    with pytest.raises(DataError, match=r"no column 'item_a'.*domain_b, item_b"):
        read_pairs(path, _dataset())
