"""A smaller student says of texts what its teacher says."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from isthmus.config import DistillationConfig, LanguageConfig
from isthmus.errors import LanguageModelError
from isthmus.language import TextEncoder
from isthmus.language.models import load_tokenizer, load_torch_model
from isthmus.language.pretraining.corpus import Corpus
from isthmus.language.tuning import distil as distillation
from isthmus.language.tuning.distil import _agreement, distil

NOUNS = ["coffee", "grinder", "skillet", "telescope", "mat", "shoes", "beans", "chart"]
TEXTS = [f"{a} {b}" for a in NOUNS for b in [*NOUNS, "steel", "night", "bread"]]


@pytest.mark.parametrize("match", ["vectors", "rankings"])
def test_a_student_of_fewer_blocks_agrees_more_after_than_before(match, bert, tmp_path):
    language = LanguageConfig(cache=tmp_path / "cache", runtime="torch")
    corpus = Corpus.of(TEXTS, 0.3)
    config = DistillationConfig(
        teacher=str(bert),
        student_layers=1,
        match=match,
        steps=72,
        batch_texts=32,
        learning_rate=3e-3,
    )
    found = distil(corpus, config, language, tmp_path / "student", device="cpu")
    before, after = found.agreement
    assert after > before + 0.05
    assert found.parameters[0] < found.parameters[1]
    student = language.model_copy(update={"model": str(tmp_path / "student")})
    assert np.isfinite(TextEncoder.load(student, device="cpu").encode(TEXTS[:3]).vectors).all()
    assert load_torch_model(tmp_path / "student").config.num_hidden_layers == 1


def test_widths_need_not_agree(bert, gpt2, tmp_path):
    import shutil

    from transformers import GPT2Config, GPT2Model

    narrow = shutil.copytree(gpt2, tmp_path / "narrow")
    (narrow / "model.safetensors").unlink()
    torch.manual_seed(0)
    GPT2Model(
        GPT2Config(vocab_size=400, n_embd=16, n_layer=1, n_head=2, n_positions=48, bos_token_id=0)
    ).save_pretrained(narrow)
    language = LanguageConfig(cache=tmp_path / "cache", runtime="torch")
    for match in ("vectors", "rankings"):
        config = DistillationConfig(
            teacher=str(bert),
            student=str(narrow),
            match=match,
            steps=60,
            batch_texts=32,
            learning_rate=1e-2,
        )
        found = distil(Corpus.of(TEXTS, 0.3), config, language, tmp_path / match, device="cpu")
        assert found.agreement[1] > found.agreement[0]


def _folder_of(kind: str, bert: Path, folder: Path) -> Path:
    """A random model of four blocks, whose kinds of attention differ where there are kinds."""
    tokenizer = load_tokenizer(bert)
    tokenizer.save_pretrained(folder)
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    torch.manual_seed(0)
    if kind == "qwen2":
        config = transformers.Qwen2Config(**sizes, num_key_value_heads=2)
        model = transformers.Qwen2Model(config)
    elif kind == "modernbert":
        config = transformers.ModernBertConfig(
            **sizes, cls_token_id=2, sep_token_id=3, global_attn_every_n_layers=3, local_attention=4
        )
        model = transformers.ModernBertModel(config)
    else:
        config = transformers.T5Config(
            vocab_size=sizes["vocab_size"], d_model=16, d_kv=8, d_ff=32, num_layers=4, num_heads=2
        )
        model = transformers.T5Model(config)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["qwen2", "modernbert"])
def test_a_student_of_blocks_that_differ_is_saved_as_it_was_trained(
    kind, bert, tmp_path, monkeypatch
):
    teacher = load_torch_model(_folder_of(kind, bert, tmp_path / kind))
    with torch.no_grad():
        for name, weight in teacher.named_parameters():
            if "norm" in name:
                weight.copy_(torch.rand_like(weight) + 0.5)
    teacher.save_pretrained(tmp_path / kind)
    trained = []
    usual = distillation.save_model

    def watched(folder, model, base):
        trained[:] = [deepcopy(model)]
        usual(folder, model, base)

    monkeypatch.setattr(distillation, "save_model", watched)
    config = DistillationConfig(teacher=str(tmp_path / kind), student_layers=2, steps=2)
    language = LanguageConfig(cache=tmp_path / "cache", runtime="torch")
    distil(Corpus.of(TEXTS, 0.3), config, language, tmp_path / "student", device="cpu")
    again = load_torch_model(tmp_path / "student")
    assert again.config.layer_types == [teacher.config.layer_types[k] for k in (1, 3)]
    ids = torch.arange(4, 44)[None]
    with torch.no_grad():
        expected, found = (m.eval()(input_ids=ids).last_hidden_state for m in (*trained, again))
    torch.testing.assert_close(found, expected)


def test_a_student_that_lacks_something_once_saved_is_refused_before_training(
    bert, tmp_path, monkeypatch
):
    """A T5 keeps what it knows of places in the first block."""
    teacher = _folder_of("t5", bert, tmp_path / "t5")
    monkeypatch.setattr("isthmus.language.tuning.distil.learn", None)
    config = DistillationConfig(teacher=str(teacher), student_layers=2)
    language = LanguageConfig(cache=tmp_path / "cache", runtime="torch", pooling="mean")
    with pytest.raises(LanguageModelError, match=r"student_layers: .* saved and read again"):
        distil(Corpus.of(TEXTS, 0.3), config, language, tmp_path / "student", device="cpu")


def test_a_student_must_be_smaller(bert, tmp_path):
    language = LanguageConfig(cache=tmp_path / "cache", runtime="torch")
    config = DistillationConfig(teacher=str(bert), student_layers=2)
    with pytest.raises(LanguageModelError, match="no smaller"):
        distil(Corpus.of(TEXTS, 0.3), config, language, tmp_path / "student", device="cpu")


def test_agreement_is_the_shared_part_of_nearest_lists():
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(30, 5)))
    assert _agreement(rows, 3 * rows + 1) == 1.0
    other = torch.from_numpy(np.random.default_rng(1).normal(size=(30, 5)))
    assert _agreement(rows, other) < 0.6
