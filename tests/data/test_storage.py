import json
import os

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from isthmus.data.build import DomainFrames, PeopleFrames, dataset_from_frames
from isthmus.data.dataset import Dataset
from isthmus.data.storage import load_dataset, read_arrays, save_dataset
from isthmus.errors import CheckpointError

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
ID = TEXT.filter(lambda text: text.strip() == text and text != "")


def small() -> Dataset:
    frames = DomainFrames(
        events=pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "time": [1.0, 2.0]}),
        items=pl.DataFrame({"item_id": ["x", "y"], "title": ["猫", None], "tags": [["a"], None]}),
        vectors={"image": np.array([[1, 2], [np.nan, np.nan]], np.float32)},
        corpus=["news"],
    )
    people = PeopleFrames(
        users=pl.DataFrame({"user_id": ["a"], "age": [30]}),
        links=pl.DataFrame({"user_id": ["a"], "other_id": ["b"]}),
        triples=pl.DataFrame({"head": ["d:x"], "relation": ["is"], "tail": ["cat"]}),
    )
    return dataset_from_frames({"d/1": frames}, people=people)[0]


def same(one: Dataset, other: Dataset) -> None:
    assert one.names == other.names
    assert one.user_ids.equals(other.user_ids)
    assert one.kinds == other.kinds
    assert one.notes == other.notes
    for name in ("offsets", "domain", "item", "time", "kind", "rating", "weight"):
        left, right = getattr(one.events, name), getattr(other.events, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    for left, right in zip(one.domains, other.domains, strict=True):
        assert left.items.equals(right.items)
        assert left.corpus == right.corpus
        assert left.vectors.keys() == right.vectors.keys()
        for key in left.vectors:
            np.testing.assert_array_equal(left.vectors[key], right.vectors[key])
    for name in ("user_attributes", "links", "groups", "triples", "impressions"):
        left, right = getattr(one, name), getattr(other, name)
        assert (left is None) == (right is None)
        assert left is None or left.equals(right)


@pytest.mark.parametrize("map_from_bytes", [0, 2**40])
def test_a_dataset_comes_back_whole(tmp_path, map_from_bytes):
    dataset = small()
    save_dataset(dataset, tmp_path / "new")
    same(dataset, load_dataset(tmp_path / "new", map_from_bytes=map_from_bytes))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(ID, ID, st.integers(0, 10**9), st.one_of(st.none(), st.floats(0, 5))),
        min_size=1,
        max_size=12,
    ),
    TEXT,
)
def test_any_dataset_comes_back_whole(tmp_path_factory, rows, name):
    schema = {"user_id": pl.String, "item_id": pl.String, "time": pl.Int64, "rating": pl.Float64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    items = frame.select("item_id", title="user_id").unique("item_id")
    dataset, _ = dataset_from_frames(
        {name: DomainFrames(frame, items), "other": DomainFrames(frame)}
    )
    folder = tmp_path_factory.mktemp("dataset")
    save_dataset(dataset, folder)
    same(dataset, load_dataset(folder))


def test_large_arrays_are_mapped_and_not_copied(tmp_path):
    save_dataset(small(), tmp_path)
    item = load_dataset(tmp_path, map_from_bytes=0).events.item
    base = item
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert not item.flags.writeable


def test_a_damaged_foreign_or_newer_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no readable dataset"):
        load_dataset(tmp_path / "nowhere")
    save_dataset(small(), tmp_path)
    events = tmp_path / "events.safetensors"
    whole = events.read_bytes()
    for broken in (whole[:-4], whole[:5], b"", b"\xff" * 100):
        events.write_bytes(broken)
        with pytest.raises(CheckpointError, match="damaged"):
            load_dataset(tmp_path)
    events.write_bytes(whole)
    (tmp_path / "users.parquet").unlink()
    with pytest.raises(CheckpointError):
        load_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(CheckpointError, match="schema 99"):
        load_dataset(tmp_path)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_dataset(small(), tmp_path / "file" / "folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder_is_an_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_dataset(small(), tmp_path)


def test_arrays_are_what_safetensors_wrote(tmp_path):
    from safetensors.numpy import load_file, save_file

    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.normal(size=(3, 4)).astype(np.float32),
        "b": rng.integers(0, 9, 5).astype(np.int16),
        "empty": np.zeros((0, 2), np.float64),
    }
    save_file(arrays, tmp_path / "x.safetensors")
    for found in (read_arrays(tmp_path / "x.safetensors"), load_file(tmp_path / "x.safetensors")):
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
