"""Pretraining: what is guessed, what is learnt, and folders that can be read again."""

import hashlib
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from isthmus.config import LanguageConfig, PretrainingConfig
from isthmus.errors import CheckpointError, ConfigError, LanguageModelError, TrainingError
from isthmus.language import TextEncoder
from isthmus.language.learning import Pace
from isthmus.language.models import load_headed_model, load_tokenizer, read_facts
from isthmus.language.pretraining import objectives
from isthmus.language.pretraining.corpus import MOST_HELD_OUT, Corpus, texts_of
from isthmus.language.pretraining.objectives import Guesser, Guesses, held_out_nats, nats
from isthmus.language.pretraining.pretrain import pretrain
from isthmus.language.pretraining.scratch import _word_pieces, write_scratch
from isthmus.language.tokens import tokenize

NOUNS = ["coffee", "grinder", "skillet", "telescope", "mat", "shoes"]
KINDS = ["dark", "firm", "burr", "cast", "star"]
TEXTS = [f"{a} {b} for {a} {n}" for a in KINDS for b in NOUNS for n in NOUNS]
QUICK = {"steps": 60, "head_steps": 20, "batch_tokens": 400, "learning_rate": 3e-3, "held_out": 0.2}


def small(**changes) -> PretrainingConfig:
    sizes = {"vocabulary": 320, "dim": 32, "layers": 2, "heads": 2, "positions": 32}
    return PretrainingConfig(**{**QUICK, **sizes, **changes})


@pytest.mark.parametrize(("kind", "objective"), [("bert", "mlm"), ("gpt", "clm")])
def test_a_model_from_nothing_learns_its_texts_and_is_read_as_a_folder(kind, objective, tmp_path):
    corpus = Corpus.of(TEXTS, 0.2)
    folder = tmp_path / "own"
    found = pretrain(corpus, LanguageConfig(), small(scratch=kind), folder, device="cpu")
    assert (found.objective, found.head_steps) == (objective, 0)
    assert found.perplexity_after < 0.5 * found.perplexity_before
    assert not list(folder.rglob("*.bin"))
    encoder = TextEncoder.load(
        LanguageConfig(model=str(folder), cache=tmp_path / "cache", runtime="torch"), device="cpu"
    )
    assert encoder.pooling == "mean"
    assert np.isfinite(encoder.encode(TEXTS[:5]).vectors).all()
    # Going on from it needs no new head, and begins where it stopped.
    again = LanguageConfig(model=str(folder))
    more = pretrain(corpus, again, small(steps=1), tmp_path / "more", device="cpu")
    assert more.head_steps == 0
    assert more.perplexity_before == pytest.approx(found.perplexity_after, rel=1e-3)


PRINT_HASHES = """
import sys
from test_pretraining import hashes
for kind in ("bert", "gpt"):
    print(hashes(kind))
"""


def hashes(kind: str) -> str:
    """Of every file of a model from nothing."""
    texts = [f"{text} {i * 7919 % 1000}" for i, text in enumerate(TEXTS)]
    with tempfile.TemporaryDirectory() as folder:
        write_scratch(Path(folder), texts, small(scratch=kind), seed=0)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return " ".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)


def test_a_model_from_nothing_is_the_same_in_every_process():
    """A killed run finds its checkpoints by it."""
    printed = subprocess.run(
        [sys.executable, "-c", PRINT_HASHES],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.split("\n")[:2] == [hashes("bert"), hashes("gpt")]


def test_pieces_within_words_are_not_special():
    texts = [f"{word}{ending}" for word in ("bake", "brew", "climb") for ending in ("r", "d", "s")]
    tokenizer = _word_pieces(texts, small(scratch="bert"))
    assert len(tokenizer.all_special_tokens) == 5
    assert "##s" in tokenizer.get_vocab()
    assert tokenizer.tokenize("##s") == ["[UNK]", "[UNK]", "s"]


def test_chinese_texts_get_a_tokenizer_of_their_own(tmp_path):
    texts = [f"{a}{b}的{c}" for a in "猫狗鱼鸟马" for b in "吃看听说" for c in "饭书歌话"]
    corpus = Corpus.of(texts, 0.2)
    pretrain(corpus, LanguageConfig(), small(scratch="gpt", steps=2), tmp_path / "own")
    tokenizer = load_tokenizer(tmp_path / "own")
    ids = tokenizer("猫吃的饭")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "猫吃的饭"
    assert len(ids) <= 6 + 2


def test_a_new_head_is_fitted_with_the_body_frozen_before_anything_is_measured(bert, tmp_path):
    headed, is_new = load_headed_model(bert, "mlm", seed=0)
    assert is_new
    body = {name: value.clone() for name, value in headed.base_model.state_dict().items()}
    from isthmus.language.pretraining.pretrain import _Run

    tokenizer = masked(bert, tmp_path)
    tokens = tokenize(tokenizer, TEXTS, 20)
    guesser = Guesser("mlm", tokenizer, len(tokenizer), 0.15)
    cpu = torch.device("cpu")
    run = _Run(headed, guesser, tokens, tokens, small(), cpu, Pace(rate=3e-3))
    before = run.held_out_nats()
    run.fit_head()
    assert run.held_out_nats() < before - 0.1
    for name, value in headed.base_model.state_dict().items():
        assert torch.equal(value, body[name]), name
    assert all(parameter.requires_grad for parameter in headed.parameters())


def masked(folder, tmp_path):
    """The folder's tokenizer with a mask token, which it comes without."""
    tokenizer = load_tokenizer(folder)
    tokenizer.mask_token = "[UNK]"
    return tokenizer


def test_masks_hit_a_share_of_real_tokens_in_three_ways(bert, tmp_path):
    tokenizer = masked(bert, tmp_path)
    tokens = tokenize(tokenizer, TEXTS * 5, 20)
    guesser = Guesser("mlm", tokenizer, len(tokenizer), 0.3)
    rows = np.arange(len(tokens.lengths))
    plain, mask = tokens.padded(rows)
    found = guesser.of(tokens, rows, np.random.default_rng(0))
    ids, asked = found.ids.numpy(), found.asked.numpy()
    special = np.isin(plain, tokenizer.all_special_ids)
    assert not (asked & (special | (mask == 0))).any()
    assert asked.sum() / (~special & (mask == 1)).sum() == pytest.approx(0.3, abs=0.02)
    np.testing.assert_array_equal(found.answers.numpy(), plain[asked])
    np.testing.assert_array_equal(ids[~asked], plain[~asked])
    shares = (ids[asked] == tokenizer.mask_token_id).mean(), (ids[asked] == plain[asked]).mean()
    assert shares[0] == pytest.approx(0.8, abs=0.03)
    assert shares[1] == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_the_head_on_chosen_states_gives_the_whole_models_loss(objective, bert, gpt2, tmp_path):
    folder = bert if objective == "mlm" else gpt2
    model, _ = load_headed_model(folder, objective, seed=0)
    tokenizer = masked(folder, tmp_path) if objective == "mlm" else load_tokenizer(folder)
    tokens = tokenize(tokenizer, TEXTS[:7], 20)
    guesses = Guesser(objective, tokenizer, len(tokenizer), 0.4).of(
        tokens, np.arange(7), np.random.default_rng(0)
    )
    with torch.no_grad():
        found = nats(model, guesses, torch.device("cpu"))
        logits = model(input_ids=guesses.ids, attention_mask=guesses.mask).logits
        labels = torch.full(guesses.ids.shape, -100)
        labels[guesses.asked] = guesses.answers
        expected = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels)
    assert float(found.mean()) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("kind", ["bert", "gpt"])
def test_a_killed_run_goes_on_to_the_same_model(kind, tmp_path, monkeypatch):
    corpus = Corpus.of(TEXTS, 0.2)
    config = small(scratch=kind, steps=24)

    def run(name, checkpoints):
        return pretrain(
            corpus, LanguageConfig(), config, tmp_path / name, checkpoints=checkpoints, device="cpu"
        )

    whole = run("whole", None)
    from isthmus.training import loop

    epochs = loop._Run.epoch

    def stopping(self, validate):
        if len(self.log.epochs) == 5:
            raise KeyboardInterrupt
        return epochs(self, validate)

    with monkeypatch.context() as patch:
        patch.setattr("isthmus.training.loop.time.monotonic", Clock())
        patch.setattr(loop._Run, "epoch", stopping)
        with pytest.raises(KeyboardInterrupt):
            run("parts", tmp_path / "kept")
    resumed = run("parts", tmp_path / "kept")
    assert resumed.perplexity_after == whole.perplexity_after
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]


class Clock:
    """Jumps a minute at every look, so that every checkpoint is due."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 60
        return self.now


def test_held_out_texts_depend_on_content_alone():
    one, other = Corpus.of(TEXTS, 0.2), Corpus.of([None, " ", *TEXTS[::-1], *TEXTS], 0.2)
    assert one == other
    assert not set(one.training) & set(one.held_out)
    assert len(one.held_out) / len(TEXTS) == pytest.approx(0.2, abs=0.07)
    with pytest.raises(TrainingError, match="too few"):
        Corpus.of(["one"], 0.5)


def test_items_and_corpora_are_read():
    import polars as pl

    from isthmus.data.dataset import Domain

    items = pl.DataFrame({"item_id": ["a", "b"], "text": ["red", None]})
    assert texts_of([Domain("x", items, corpus=("news", "more"))]) == ["red", None, "news", "more"]


def test_perplexity_is_that_of_a_uniform_guess_for_a_model_that_knows_nothing(tmp_path):
    corpus = Corpus.of(TEXTS, 0.2)
    pretrain(corpus, LanguageConfig(), small(scratch="gpt", steps=1), tmp_path / "own")
    model, _ = load_headed_model(tmp_path / "own", "clm", seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    tokenizer = load_tokenizer(tmp_path / "own")
    tokens = tokenize(tokenizer, corpus.held_out, 20)
    guesser = Guesser("clm", tokenizer, len(tokenizer), 0.15)
    found = held_out_nats(model, guesser, tokens, batch_tokens=100, device=torch.device("cpu"))
    assert math.exp(found) == pytest.approx(read_facts(tmp_path / "own", None).vocabulary, rel=1e-4)


def test_what_cannot_be_meant_is_refused(bert, gpt2, tmp_path):
    corpus = Corpus.of(TEXTS, 0.2)
    with pytest.raises(LanguageModelError, match="no mask token"):
        pretrain(corpus, LanguageConfig(model=str(bert)), small(), tmp_path / "a")
    with pytest.raises(LanguageModelError, match="decoder, which learns by clm, not mlm"):
        pretrain(corpus, LanguageConfig(model=str(gpt2)), small(objective="mlm"), tmp_path / "a")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="other things"):
        pretrain(corpus, LanguageConfig(), small(scratch="gpt"), tmp_path / "full")
    from isthmus.config import Config

    with pytest.raises(ConfigError, match="a gpt learns by clm"):
        Config.parse({"pretraining": {"scratch": "gpt", "objective": "mlm"}})
    with pytest.raises(ConfigError, match="do not divide"):
        Config.parse({"pretraining": {"dim": 10, "heads": 4}})


def test_a_decoder_without_a_padding_token_is_pretrained(gpt2, tmp_path):
    corpus = Corpus.of(TEXTS, 0.2)
    assert load_tokenizer(gpt2).pad_token is None
    found = pretrain(
        corpus, LanguageConfig(model=str(gpt2)), small(steps=40), tmp_path / "own", device="cpu"
    )
    assert found.perplexity_after < found.perplexity_before
    assert json.loads((tmp_path / "own" / "config.json").read_text())["model_type"] == "gpt2"


def test_long_texts_are_divided_and_counted(tmp_path):
    long = ["long " * 60 + text for text in TEXTS[:9]]
    corpus = Corpus.of([*TEXTS, *long], 0.2)
    found = pretrain(corpus, LanguageConfig(), small(scratch="gpt", steps=1), tmp_path / "own")
    assert found.divided == len(set(long) & set(corpus.training)) > 0
    assert found.divided + found.truncated == 9
    assert found.windows > found.texts + found.divided
    plain = pretrain(
        Corpus.of(TEXTS, 0.2), LanguageConfig(), small(scratch="gpt", steps=1), tmp_path / "plain"
    )
    assert (plain.divided, plain.truncated, plain.windows) == (0, 0, plain.texts)


def test_the_end_of_a_long_text_teaches(gpt2, tmp_path):
    """Words that only stand behind the limit are guessed better afterwards."""
    end = " telescope astronomy chart"
    articles = [f"{text} " + "and coffee " * 30 + end * 3 for text in TEXTS[:60]]
    corpus = Corpus(training=articles, held_out=[end.strip(), *TEXTS[60:70]])
    language = LanguageConfig(model=str(gpt2), max_tokens=24)
    own = small(steps=40, batch_tokens=600)
    pretrain(corpus, language, own, tmp_path / "own", device="cpu")
    tokenizer = load_tokenizer(gpt2)
    tokens = tokenize(tokenizer, [end * 3], 24)
    guesser = Guesser("clm", tokenizer, len(tokenizer), 0.15)
    begin = {"batch_tokens": 100, "device": torch.device("cpu")}
    model, _ = load_headed_model(tmp_path / "own", "clm", seed=0)
    assert held_out_nats(model, guesser, tokens, **begin) < 2.5


def test_however_many_texts_there_are_few_are_measured_on():
    many = Corpus.of([f"title {i}" for i in range(9000)], 0.5)
    assert len(many.held_out) == MOST_HELD_OUT
    assert len(many.training) == 9000 - MOST_HELD_OUT
    # Those that a smaller share would hold out, and never those that it would not.
    fewer = Corpus.of([f"title {i}" for i in range(9000)], 0.1)
    assert len(fewer.held_out) < MOST_HELD_OUT
    assert set(fewer.held_out) < set(many.held_out)


SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
SIZES |= {"vocab_size": 50, "num_hidden_layers": 2, "num_key_value_heads": 2}
HEADED = {
    "granite": lambda: transformers.GraniteForCausalLM(
        transformers.GraniteConfig(**SIZES, logits_scaling=8.0)
    ),
    "cohere": lambda: transformers.CohereForCausalLM(
        transformers.CohereConfig(**SIZES, logit_scale=0.1, bos_token_id=1, eos_token_id=2)
    ),
    "gemma2": lambda: transformers.Gemma2ForCausalLM(
        transformers.Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=3.0)
    ),
    "xlm": lambda: transformers.XLMWithLMHeadModel(
        transformers.XLMConfig(vocab_size=50, emb_dim=16, n_layers=2, n_heads=2)
    ),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SIZES)),
}


@pytest.mark.parametrize("kind", HEADED)
def test_logits_that_a_model_scales_or_caps_are_its_own(kind):
    torch.manual_seed(0)
    model = HEADED[kind]().eval()
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(20.0)
    ids = torch.randint(3, 50, (3, 9))
    asked = torch.ones(3, 9, dtype=torch.bool)
    asked[:, -1] = False
    guesses = Guesses(ids, torch.ones_like(ids), asked, ids.roll(-1, 1)[asked])
    with torch.no_grad():
        found = nats(model, guesses, torch.device("cpu"))
        logits = model(input_ids=ids, attention_mask=guesses.mask).logits[asked]
    expected = torch.nn.functional.cross_entropy(logits, guesses.answers, reduction="none")
    torch.testing.assert_close(found, expected)
    assert objectives._HEAD_ALONE[model] == (kind == "qwen2")
