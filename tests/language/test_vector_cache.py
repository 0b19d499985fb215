"""The vector cache: hits, damage, several writers, merging."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.language.cache import VectorCache, text_keys, to_half

DIM = 8


def vectors_of(texts):
    """A vector that only the text decides."""
    return to_half(np.array([np.full(DIM, len(t) + ord(t[0]) / 256) for t in texts], np.float32))


def put(folder, texts):
    long = np.array([len(t) > 3 for t in texts])
    assert VectorCache(folder, DIM).put(text_keys(texts), vectors_of(texts), long)


def assert_holds(folder, texts):
    found = VectorCache(folder, DIM).get(text_keys(texts))
    assert found.known.all()
    np.testing.assert_array_equal(found.vectors, vectors_of(texts))
    assert found.truncated.tolist() == [len(t) > 3 for t in texts]


@settings(max_examples=25, deadline=None)
@given(
    stored=st.lists(st.lists(st.text(min_size=1, max_size=6), min_size=1, unique=True), max_size=4),
    asked=st.lists(st.text(min_size=1, max_size=6), max_size=20, unique=True),
)
def test_gives_back_what_was_stored_and_nothing_else(tmp_path_factory, stored, asked):
    folder = tmp_path_factory.mktemp("cache")
    for texts in stored:
        put(folder, texts)
    inside = {t for texts in stored for t in texts}
    found = VectorCache(folder, DIM).get(text_keys(asked))
    assert found.known.tolist() == [t in inside for t in asked]
    known = [t for t in asked if t in inside]
    if known:
        np.testing.assert_array_equal(found.vectors[found.known], vectors_of(known))


def test_sees_what_another_writer_added_meanwhile(tmp_path):
    reader = VectorCache(tmp_path, DIM)
    assert not reader.get(text_keys(["ab"])).known.any()
    put(tmp_path, ["ab"])
    assert reader.get(text_keys(["ab"])).known.all()


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
def test_damaged_segment_is_ignored_with_a_warning(tmp_path, caplog, damage):
    put(tmp_path, ["ab", "cd"])
    (bad,) = tmp_path.glob("*.npy")
    put(tmp_path, ["kept"])
    content = bytearray(bad.read_bytes())
    content[-3] ^= 1
    broken = {
        "flip": bytes(content),
        "cut": bytes(content[: len(content) // 2]),
        "empty": b"",
        "foreign": b"not ours at all",
    }
    bad.write_bytes(broken[damage])
    cache = VectorCache(tmp_path, DIM)
    assert cache.get(text_keys(["ab", "cd", "kept"])).known.tolist() == [False, False, True]
    assert "damaged" in caplog.text
    put(tmp_path, ["ab", "cd"])
    assert_holds(tmp_path, ["ab", "cd", "kept"])


def test_a_pickle_is_never_opened(tmp_path, caplog):
    import hashlib
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.array([print], dtype=object), allow_pickle=True)
    name = hashlib.blake2b(buffer.getvalue(), digest_size=16).hexdigest()
    (tmp_path / f"{name}.npy").write_bytes(buffer.getvalue())
    assert not VectorCache(tmp_path, DIM).get(text_keys(["ab"])).known.any()
    assert "cannot be read" in caplog.text


def test_many_segments_become_one_and_lose_nothing(tmp_path):
    texts = [f"text {i}" for i in range(40)]
    for text in texts:
        put(tmp_path, [text])
    put(tmp_path, texts[:3])  # stored twice
    VectorCache(tmp_path, DIM).merge()
    assert len(list(tmp_path.glob("*.npy"))) == 1
    assert_holds(tmp_path, texts)


def test_processes_that_write_at_once_all_keep_their_vectors(tmp_path):
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from test_vector_cache import put, VectorCache, DIM\n"
        "folder, first = Path(sys.argv[2]), int(sys.argv[3])\n"
        "for i in range(first, first + 40):\n"
        "    put(folder, [f'{i}', f'{i} more'])\n"
        "    VectorCache(folder, DIM).merge()\n"
    )
    here = str(Path(__file__).parent)
    writers = [
        subprocess.Popen([sys.executable, "-c", script, here, str(tmp_path), str(first)])
        for first in (0, 20)
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert_holds(tmp_path, [t for i in range(60) for t in (f"{i}", f"{i} more")])


def test_half_precision_never_overflows():
    assert np.isfinite(to_half(np.array([1e9, -1e9, 0.5], np.float32))).all()


def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = VectorCache(tmp_path / "file" / "cache", DIM)
    assert not cache.put(text_keys(["ab"]), vectors_of(["ab"]), np.zeros(1, bool))
    assert not cache.get(text_keys(["ab"])).known.any()
