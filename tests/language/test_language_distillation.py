"""A smaller student says of texts what its teacher says."""

import numpy as np
import pytest
import torch

from isthmus.config import DistillationConfig, LanguageConfig
from isthmus.errors import LanguageModelError
from isthmus.language import TextEncoder
from isthmus.language.models import load_torch_model
from isthmus.language.pretraining.corpus import Corpus
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
