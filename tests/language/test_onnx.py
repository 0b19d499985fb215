"""ONNX Runtime against torch, and what happens when there is no graph."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from isthmus.config import LanguageConfig
from isthmus.errors import LanguageModelError
from isthmus.language import TextEncoder
from isthmus.language.onnx_export import ExportError, store_graph, stored_graph

TEXTS = [
    f"{brand} {thing}{extra}"
    for brand in ("Zoku", "Mae Ploy", "咖啡", "☕")
    for thing in ("espresso beans", "cast iron skillet, 12 inch, pre-seasoned", "book")
    for extra in ("", " (pack of 6)", " for home and kitchen " * 8)
]


def encode(model, cache, runtime, **settings):
    config = LanguageConfig(model=str(model), cache=cache, runtime=runtime, **settings)
    encoder = TextEncoder.load(config, device="cpu")
    return encoder.encode(TEXTS).vectors, encoder.report


def cosine(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def test_embedded_model_agrees_with_torch_and_its_graph_is_kept(tmp_path, monkeypatch):
    ours, report = encode("embedded", tmp_path / "onnx", "onnx")
    assert report.runtime == "onnx"
    theirs, report = encode("embedded", tmp_path / "torch", "torch")
    assert report.runtime == "torch"
    assert cosine(ours, theirs).min() >= 1 - 1e-4

    monkeypatch.setattr("isthmus.language.runtime.export_graph", None)
    monkeypatch.setattr("isthmus.language.reader.load_torch_model", None)
    for segment in (tmp_path / "onnx" / "vectors").glob("*/*.npy"):
        segment.unlink()
    again, report = encode("embedded", tmp_path / "onnx", "auto")
    assert report.runtime == "onnx"
    np.testing.assert_array_equal(ours, again)


def test_half_the_bits_give_nearly_the_same_vectors_and_are_cached_apart(tmp_path):
    from isthmus.language.reader import Reader

    single, _ = encode("embedded", tmp_path, "torch")
    seen = []

    def spying(self, *args, _build=Reader.build, **kwargs):
        model = _build(self, *args, **kwargs)
        layer = next(m for m in model.modules() if isinstance(m, torch.nn.Linear))
        layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "build", spying)
        half, report = encode("embedded", tmp_path, "auto", precision="bf16")
    assert (report.runtime, report.n_cached) == ("torch", 0)
    assert set(seen) == {torch.bfloat16}
    assert cosine(single, half).min() > 1 - 2e-4
    assert not np.array_equal(single, half)
    with pytest.raises(ValidationError, match="leave runtime at 'auto'"):
        LanguageConfig(runtime="onnx", precision="bf16")


def test_a_decoder_agrees_with_torch_once_there_are_enough_texts(gpt2, tmp_path, monkeypatch):
    monkeypatch.setattr("isthmus.language.encoder._WORTH_EXPORT", len(TEXTS))
    ours, report = encode(gpt2, tmp_path / "a", "auto")
    assert (report.runtime, report.notes) == ("onnx", ())
    theirs, _ = encode(gpt2, tmp_path / "b", "torch")
    assert cosine(ours, theirs).min() >= 1 - 1e-4


def test_a_graph_that_differs_from_torch_is_refused(bert):
    from isthmus.language.models import load_torch_model
    from isthmus.language.onnx_export import _check, _example
    from isthmus.language.pooling import PooledModel

    class Wrong:
        def run(self, _names, feed):
            return [np.random.default_rng(0).normal(size=(len(feed["input_ids"]), 32))]

    model = PooledModel(load_torch_model(bert), "mean")
    with pytest.raises(ExportError, match="differ from torch"):
        _check(model, Wrong(), _example(3, 7, 50))


def test_without_a_graph_torch_encodes_and_says_so(bert, tmp_path, monkeypatch):
    def refuse(*_):
        raise ExportError("no such operator")

    monkeypatch.setattr("isthmus.language.encoder._WORTH_EXPORT", 1)
    monkeypatch.setattr("isthmus.language.runtime.export_graph", refuse)
    vectors, report = encode(bert, tmp_path, "auto")
    assert report.runtime == "torch"
    assert "no such operator" in report.notes[0]
    assert np.isfinite(vectors).all()
    with pytest.raises(LanguageModelError, match=r"runtime = 'torch'"):
        encode(bert, tmp_path, "onnx", max_tokens=7)


def test_few_texts_are_not_worth_an_export(bert, tmp_path):
    _, report = encode(bert, tmp_path, "auto")
    assert report.runtime == "torch"
    assert not list((tmp_path / "graphs").glob("*/*.onnx"))


def test_a_damaged_graph_is_never_read(tmp_path):
    assert stored_graph(tmp_path / "absent") is None
    store_graph(tmp_path, b"a graph")
    assert stored_graph(tmp_path) == b"a graph"
    (path,) = tmp_path.glob("*.onnx")
    path.write_bytes(b"a grapf")
    assert stored_graph(tmp_path) is None
