"""Texts → vectors: once each, whatever the batch, from the cache the second time."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from isthmus.config import LanguageConfig
from isthmus.errors import LanguageModelError, TrainingError
from isthmus.language import TextEncoder
from isthmus.language.models import load_tokenizer, load_torch_model
from isthmus.language.runtime import Runtime

TEXTS = [
    "espresso beans",
    "burr grinder for coffee, set of two",
    "trail running shoes with a firm grip for bread and steak at night",
    "咖啡 研磨机",
    "🎧 night ☕ روست",
    "cast iron skillet " * 3,
]


def encoder(model: Path | str, cache: Path, **settings) -> TextEncoder:
    return TextEncoder.load(LanguageConfig(model=str(model), cache=cache, **settings), device="cpu")


def by_hand(folder: Path, text: str, how: str) -> np.ndarray:
    """One text alone through transformers, pooled without the code under test."""
    ids = load_tokenizer(folder)(text)["input_ids"]
    with torch.inference_mode():
        states = load_torch_model(folder)(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[how].numpy()


@pytest.mark.parametrize(
    ("model", "pooling", "how"),
    [
        ("bert", "auto", "mean"),
        ("bert", "cls", "cls"),
        ("bert", "last", "last"),
        ("gpt2", "auto", "last"),
        ("gpt2", "mean", "mean"),
    ],
)
def test_vectors_are_the_models_own(model, pooling, how, tmp_path, request):
    folder = request.getfixturevalue(model)
    features = encoder(folder, tmp_path, pooling=pooling).encode(TEXTS)
    expected = np.stack([by_hand(folder, text, how) for text in TEXTS])
    assert features.vectors.dtype == np.float32
    np.testing.assert_allclose(features.vectors, expected, atol=4e-3)


def test_of_an_encoder_decoder_the_encoder_reads(bert, tmp_path):
    import shutil

    from transformers import T5Config, T5Model

    folder = shutil.copytree(bert, tmp_path / "t5")
    torch.manual_seed(0)
    vocabulary = len(load_tokenizer(bert))
    config = T5Config(vocab_size=vocabulary, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    T5Model(config).save_pretrained(folder)
    features = encoder(folder, tmp_path).encode(TEXTS)
    expected = np.stack([by_hand(folder, text, "mean") for text in TEXTS])
    np.testing.assert_allclose(features.vectors, expected, rtol=2e-3, atol=4e-3)


@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_a_text_has_one_vector_whatever_its_batch(model, tmp_path, request):
    folder = request.getfixturevalue(model)
    alone = encoder(folder, tmp_path / "a", batch_tokens=1).encode(TEXTS)
    together = encoder(folder, tmp_path / "b", batch_tokens=4096).encode(TEXTS[::-1])
    np.testing.assert_allclose(alone.vectors, together.vectors[::-1], rtol=2e-3, atol=1e-3)


def test_each_distinct_text_is_encoded_once(bert, tmp_path):
    subject = encoder(bert, tmp_path)
    features = subject.encode([TEXTS[0], TEXTS[1], TEXTS[0], TEXTS[0]])
    assert (subject.report.n_distinct, subject.report.n_encoded) == (2, 2)
    np.testing.assert_array_equal(features.vectors[0], features.vectors[3])
    seen = []
    run = subject._runtime.run
    object.__setattr__(
        subject._runtime, "run", lambda ids, mask: seen.append(len(ids)) or run(ids, mask)
    )
    subject.encode([TEXTS[1], TEXTS[2], TEXTS[2]])
    assert sum(seen) == subject.report.n_encoded == 1


def test_missing_and_blank_texts_are_masked_and_never_encoded(bert, tmp_path):
    subject = encoder(bert, tmp_path)
    features = subject.encode([None, TEXTS[0], "", " \n\t "])
    assert features.present.tolist() == [False, True, False, False]
    assert not features.vectors[~features.present].any()
    assert features.vectors[1].any()
    assert (subject.report.n_missing, subject.report.n_encoded) == (3, 1)


@pytest.mark.parametrize("texts", [[], [None, ""]])
def test_nothing_to_encode_loads_no_model(texts, bert, tmp_path, monkeypatch):
    subject = encoder(bert, tmp_path)
    monkeypatch.setattr("isthmus.language.encoder.load_tokenizer", None)
    assert subject.encode(texts).vectors.shape == (len(texts), 32)


def test_second_run_reads_the_cache_and_gives_the_same_figures(bert, tmp_path, monkeypatch):
    texts = [*TEXTS, "coffee " * 500]
    first = encoder(bert, tmp_path).encode(texts)
    again = encoder(bert, tmp_path)
    monkeypatch.setattr("isthmus.language.encoder.load_tokenizer", None)
    second = again.encode(texts)
    np.testing.assert_array_equal(first.vectors, second.vectors)
    report = again.report
    assert (report.n_cached, report.n_encoded, report.n_truncated) == (len(texts), 0, 1)
    assert report.runtime is None


def test_cached_and_new_texts_keep_their_places(bert, tmp_path):
    whole = encoder(bert, tmp_path / "a").encode(TEXTS)
    subject = encoder(bert, tmp_path / "b")
    subject.encode(TEXTS[1::2])
    mixed = subject.encode(TEXTS)
    assert subject.report.n_cached == len(TEXTS[1::2])
    np.testing.assert_allclose(mixed.vectors, whole.vectors, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("change", [{"pooling": "cls"}, {"max_tokens": 5}])
def test_other_settings_never_share_vectors(bert, tmp_path, change):
    plain, other = encoder(bert, tmp_path), encoder(bert, tmp_path, **change)
    assert plain.fingerprint != other.fingerprint
    plain.encode(TEXTS)
    other.encode(TEXTS)
    assert other.report.n_cached == 0


def test_vectors_do_not_depend_on_the_order_of_items(bert, tmp_path):
    order = np.random.default_rng(0).permutation(len(TEXTS))
    first = encoder(bert, tmp_path / "a").encode(TEXTS).vectors
    shuffled = encoder(bert, tmp_path / "b").encode([TEXTS[i] for i in order]).vectors
    np.testing.assert_array_equal(first[order], shuffled)


def test_very_long_and_odd_texts(bert, gpt2, tmp_path):
    odd = ["x" * 100_000, "coffee " * 20_000, "<b>&amp;</b>", "\u200b", "a\ud800b", "שלום"]
    for folder in (bert, gpt2):
        subject = encoder(folder, tmp_path)
        features = subject.encode(odd)
        assert np.isfinite(features.vectors).all()
        assert features.present.all()
        assert subject.report.n_truncated >= 1


def test_a_model_that_reads_less_than_asked_cuts_there(bert, tmp_path):
    subject = encoder(bert, tmp_path, max_tokens=500)
    subject.encode(["coffee " * 47, "coffee " * 46])  # 48 positions, two of them special
    assert subject.report.n_truncated == 1


def test_a_cache_that_cannot_be_written_is_said_and_done_without(bert, tmp_path):
    (tmp_path / "file").write_text("in the way")
    subject = encoder(bert, tmp_path / "file" / "cache")
    first = subject.encode(TEXTS)
    assert "cannot be written" in subject.report.notes[0]
    np.testing.assert_array_equal(first.vectors, subject.encode(TEXTS).vectors)
    assert subject.report.n_cached == 0


def test_default_cache_follows_xdg(bert, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    TextEncoder.load(LanguageConfig(model=str(bert)), device="cpu").encode(TEXTS)
    assert list((tmp_path / "isthmus" / "vectors").glob("*/*.npy"))


def test_tokenizer_of_another_model_is_an_error(bert, gpt2, tmp_path):
    import shutil

    folder = shutil.copytree(bert, tmp_path / "mixed")
    shutil.copy(gpt2 / "tokenizer.json", folder)
    with pytest.raises(LanguageModelError, match="different models"):
        encoder(folder, tmp_path).encode(TEXTS)


def test_a_model_that_gives_nan_is_an_error(bert, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(bert, tmp_path / "nan")
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.LayerNorm.weight"][:] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LanguageModelError, match="NaN"):
        encoder(folder, tmp_path).encode(TEXTS)


def test_import_and_cached_runs_stay_light(bert, tmp_path):
    encoder(bert, tmp_path).encode(TEXTS)
    script = (
        "import sys; from pathlib import Path; from isthmus.config import LanguageConfig;"
        "from isthmus.language import TextEncoder;"
        "e = TextEncoder.load(LanguageConfig(model=sys.argv[1], cache=Path(sys.argv[2])));"
        f"e.encode({TEXTS!r}); assert e.report.n_encoded == 0;"
        "assert not {'torch', 'transformers', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(bert), str(tmp_path)], check=True)


def test_a_run_that_is_cut_short_goes_on_where_it_stopped(bert, tmp_path, monkeypatch):
    monkeypatch.setattr("isthmus.language.encoder._SAVE_EVERY_SECONDS", 0.0)
    subject = encoder(bert, tmp_path, batch_tokens=1)
    subject.encode(["warm"])
    run, calls = subject._runtime.run, []

    def killed(ids, mask):
        calls.append(ids)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return run(ids, mask)

    object.__setattr__(subject._runtime, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        subject.encode(TEXTS)
    again = encoder(bert, tmp_path)
    again.encode(TEXTS)
    assert again.report.n_cached == 3


ONNX_ERROR = "Failed to allocate memory for requested buffer of size 12884901888"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeException(ONNX_ERROR),
        MemoryError(),
    ],
)
def test_memory_that_runs_out_names_what_to_lower(error, bert, tmp_path, monkeypatch):
    def greedy(_ids, _mask):
        raise error

    runtime = Runtime("torch", greedy, 2, 64)
    monkeypatch.setattr("isthmus.language.runtime.torch_runtime", lambda *_, **__: runtime)
    said = r"^language\.batch_tokens: memory ran out\. Lower language\.batch_tokens, or lang"
    with pytest.raises(TrainingError, match=said):
        encoder(bert, tmp_path, runtime="torch").encode(TEXTS)


def test_other_failures_are_not_taken_for_it(bert, tmp_path, monkeypatch):
    def broken(_ids, _mask):
        raise RuntimeError("expected all tensors to be on the same device")

    runtime = Runtime("torch", broken, 2, 64)
    monkeypatch.setattr("isthmus.language.runtime.torch_runtime", lambda *_, **__: runtime)
    with pytest.raises(RuntimeError, match="same device"):
        encoder(bert, tmp_path, runtime="torch").encode(TEXTS)
