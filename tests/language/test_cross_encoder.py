"""A language model that reads two texts at once: what it learns, keeps and refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus.config import CrossEncoderConfig, TrainingConfig
from isthmus.errors import CheckpointError, ConfigError, LanguageModelError, TrainingError
from isthmus.evaluation.labels import accuracy, rmse
from isthmus.language.cross_encoder import CrossEncoder
from isthmus.language.cross_encoder_tokens import pair_tokens
from isthmus.language.cross_encoder_tuning import LabelledPairs, PairTask, usual_rate
from isthmus.language.models import load_tokenizer, load_torch_model

COFFEE = ["dark roast espresso beans", "burr grinder for espresso", "whole bean coffee"]
BREAD = ["cast iron skillet for bread", "silicone baking mat", "steak skillet"]
QUICK = TrainingConfig(device="cpu", threads=1)


def pairs(n: int = 160, seed: int = 0) -> LabelledPairs:
    """1 where both texts are about one thing; group 1 is a third of group 0."""
    rng = np.random.default_rng(seed)
    topics = (COFFEE, BREAD)
    one, other = rng.integers(0, 2, n), rng.integers(0, 2, n)
    return LabelledPairs(
        [rng.choice(topics[t]) for t in one],
        [rng.choice(topics[t]) for t in other],
        (one == other).astype(float),
        (np.arange(n) % 4 == 0).astype(np.int64),
    )


def config(**settings: object) -> CrossEncoderConfig:
    usual = {"tune": "full", "epochs": 12, "patience": 12, "batch": 16, "learning_rate": 3e-3}
    return CrossEncoderConfig.model_validate({**usual, **settings})


def tuned(folder: Path, **settings: object) -> CrossEncoder:
    return CrossEncoder.fit(
        pairs(),
        pairs(60, seed=1),
        classes=("apart", "together"),
        base=str(folder),
        config=config(**settings),
        training=QUICK,
    )


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("tune", ["full", "last"])
def test_it_learns_what_neither_text_says_alone(
    kind: str, tune: str, request: pytest.FixtureRequest
) -> None:
    encoder = tuned(request.getfixturevalue(kind), tune=tune, layers=2)
    test = pairs(80, seed=2)
    chances = encoder.tell(test.first, test.second)
    assert chances.shape == (80, 2)
    assert chances.sum(1) == pytest.approx(np.ones(80))
    assert accuracy(test.label.astype(int), chances.argmax(1)) >= 0.8


def test_numbers_are_told_in_their_own_unit(bert: Path) -> None:
    learn, test = pairs(), pairs(60, seed=2)
    stars = replace(learn, label=3.0 + 1.5 * learn.label)
    encoder = CrossEncoder.fit(
        stars, replace(stars), base=str(bert), config=config(), training=QUICK
    )
    told = encoder.tell(test.first, test.second)
    assert told.shape == (60,)
    truth = 3.0 + 1.5 * test.label
    assert rmse(truth, told) < 0.6 * truth.std()


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_what_was_saved_tells_the_same(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    encoder = tuned(request.getfixturevalue(kind), tune="last", layers=1, epochs=1)
    test = pairs(40, seed=2)
    told = encoder.tell(test.first, test.second)
    encoder.save(tmp_path / "tuned")
    again = CrossEncoder.load(tmp_path / "tuned", device="cpu")
    assert np.array_equal(again.tell(test.first, test.second), told)
    assert again.classes == ("apart", "together")


QUICK_RATES = {"adapter": 0.03, "lora": 0.03, "dora": 0.03, "adalora": 0.05, "ia3": 0.05}


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("tune", ["adapter", "lora", "dora", "adalora", "ia3", "prefix", "prompt"])
def test_few_weights_learn_and_are_all_that_is_saved(
    kind: str, tune: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(kind)
    encoder = tuned(
        folder, tune=tune, rank=4, bottleneck=8, virtual_tokens=4, epochs=12,
        learning_rate=QUICK_RATES.get(tune, 0.05),
    )  # fmt: skip
    test = pairs(80, seed=2)
    chances = encoder.tell(test.first, test.second)
    assert accuracy(test.label.astype(int), chances.argmax(1)) >= LEARNT.get(tune, 0.8)
    encoder.save(tmp_path / "tuned")
    again = CrossEncoder.load(tmp_path / "tuned", device="cpu")
    assert np.array_equal(again.tell(test.first, test.second), chances)
    (file,) = (tmp_path / "tuned").rglob("tuned.safetensors")
    (whole,) = folder.rglob("model.safetensors")
    assert file.stat().st_size < 0.5 * whole.stat().st_size
    base = load_torch_model(folder).get_input_embeddings().weight
    assert any(torch.equal(w, base) for w in encoder.model.parameters() if w.shape == base.shape)


LEARNT = {"ia3": 0.7, "prefix": 0.6, "prompt": 0.6}
"""Least accuracy; a random model answers to little that stands in front of a text."""


def test_a_way_that_reads_one_text_alone_is_none(bert: Path) -> None:
    with pytest.raises(ValueError, match="nothing is called 'side'"):
        config(tune="side")
    assert config(tune="last-layers").tune == "last"
    assert usual_rate("lora") == 1e-3
    assert usual_rate("last") == usual_rate("full") == usual_rate("my.own:way") == 1e-4


def test_virtual_tokens_need_room(bert: Path) -> None:
    with pytest.raises(LanguageModelError, match=r"reads 48 tokens, and virtual ones leave 3"):
        tuned(bert, tune="prompt", virtual_tokens=45)


def test_a_model_that_a_way_does_not_suit(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_given: object) -> None:
        raise ValueError("Please specify `target_modules`")

    monkeypatch.setattr("peft.get_peft_model", without)
    with pytest.raises(
        LanguageModelError, match=r"tasks\.cross_encoder\.tune: 'lora' does not suit"
    ):
        tuned(bert, tune="lora")


def test_frozen_weights_stay_and_are_not_saved(bert: Path, tmp_path: Path) -> None:
    encoder = tuned(bert, tune="last", layers=1, epochs=1)
    ours, theirs = encoder.model.model.state_dict(), load_torch_model(bert).state_dict()
    assert set(ours) == set(theirs)
    changed = {name for name, weight in theirs.items() if not torch.equal(ours[name], weight)}
    assert changed
    assert all(name.startswith("encoder.layer.1.") for name in changed)
    first = "model.encoder.layer.0.attention.self.query.weight"
    last = "model.encoder.layer.1.attention.self.query.weight"
    assert last.removeprefix("model.") in changed
    encoder.save(tmp_path / "tuned")
    from safetensors.numpy import load_file

    (file,) = (tmp_path / "tuned").rglob("tuned.safetensors")
    kept = set(load_file(file))
    assert last in kept
    assert first not in kept


def test_the_joint_loss_is_the_sum_of_the_two_domains_means(bert: Path) -> None:
    encoder = tuned(bert, epochs=1)
    encoder.model.double()
    whole = pairs(41)

    def loss(some: LabelledPairs) -> float:
        task = PairTask(
            encoder.model,
            encoder.model.own(),
            encoder.losses,
            some,
            encoder.tokens(some.first, some.second),
            size=len(some),
            weights={},
            device=torch.device("cpu"),
        )
        (batch,) = task.batches(np.random.default_rng(0))
        with torch.inference_mode():
            value = task.loss(batch, np.random.default_rng(0)).item()
        assert value == pytest.approx(task.mean_loss(), abs=1e-6)
        return value

    def of(group: int) -> LabelledPairs:
        rows = np.flatnonzero(whole.group == group)
        return LabelledPairs(
            [whole.first[i] for i in rows],
            [whole.second[i] for i in rows],
            whole.label[rows],
            whole.group[rows],
        )

    assert len(of(0)) != len(of(1))
    assert loss(whole) == pytest.approx(loss(of(0)) + loss(of(1)), abs=1e-6)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_of_a_long_history_the_oldest_part_goes(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer = load_tokenizer(request.getfixturevalue(kind))
    long, item = " ".join(COFFEE * 20), BREAD[0]
    made = pair_tokens(tokenizer, [long, "espresso"], [item, item], 24)
    assert made.tokens.lengths[0] == 24
    assert made.tokens.truncated.tolist() == [True, False]
    ids = made.tokens.ids[: made.tokens.offsets[1]].tolist()
    whole = tokenizer(item, add_special_tokens=False)["input_ids"]
    at = int(made.second[0])
    assert ids[at : at + len(whole)] == whole
    end = tokenizer(long, add_special_tokens=False)["input_ids"][-3:]
    marks = 0 if at == 0 else 1
    assert ids[at - marks - 3 : at - marks] == end


def test_missing_texts_are_read_as_empty(bert: Path) -> None:
    encoder = tuned(bert, epochs=1)
    told = encoder.tell([None, "", "espresso"], ["bread", "bread", None])
    assert np.isfinite(told).all()
    assert told[0] == pytest.approx(told[1])


def test_an_answer_does_not_depend_on_its_neighbours(bert: Path) -> None:
    encoder = tuned(bert, epochs=1)
    test = pairs(30, seed=3)
    together = encoder.tell(test.first, test.second)
    alone = [encoder.tell([a], [b])[0] for a, b in zip(test.first, test.second, strict=True)]
    assert together == pytest.approx(np.array(alone), abs=1e-5)


def test_weights_tuned_for_another_model_are_refused(
    bert: Path, gpt2: Path, tmp_path: Path
) -> None:
    tuned(bert, epochs=1).save(tmp_path / "tuned")
    with pytest.raises(CheckpointError, match="tuned for another model") as caught:
        CrossEncoder.load(tmp_path / "tuned", base=str(gpt2))
    assert "fingerprint" in str(caught.value)


def test_unknown_ways_of_tuning_and_unknown_models(bert: Path) -> None:
    with pytest.raises(ValueError, match="nothing is called 'lats'"):
        config(tune="lats")
    with pytest.raises(ConfigError, match="cannot be imported"):
        tuned(bert, tune="nowhere:function")
    with pytest.raises(LanguageModelError, match="no such folder"):
        tuned(Path("/nowhere/at/all"))


def test_a_way_of_tuning_of_ones_own(bert: Path) -> None:
    encoder = tuned(bert, tune=f"{__name__}:norms_alone", epochs=1)
    learnt = {n for n, w in encoder.model.named_parameters() if w.requires_grad}
    assert all("LayerNorm" in name or name.startswith("head.") for name in learnt)


def norms_alone(model: torch.nn.Module, layers: int) -> None:
    for name, weight in model.named_parameters():
        weight.requires_grad_("LayerNorm" in name)


def test_out_of_memory_names_what_to_lower(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_given: object) -> torch.Tensor:
        return torch.empty(1 << 60)

    monkeypatch.setattr(PairTask, "loss", greedy)
    with pytest.raises(TrainingError, match=r"Lower tasks\.cross_encoder\.batch, or tasks\.cross"):
        tuned(bert)


def test_a_killed_tuning_goes_on_to_the_same_weights(bert: Path, tmp_path: Path) -> None:
    program = """
import sys
sys.path.insert(0, sys.argv[1])
import os, signal, test_cross_encoder as t
from pathlib import Path
from isthmus.language.cross_encoder import CrossEncoder
from isthmus.language.cross_encoder_tuning import PairTask
steps, real = [], PairTask.loss
def loss(self, *given):
    steps.append(1)
    if len(steps) == 25:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, *given)
PairTask.loss = loss
t.checkpointed(Path(sys.argv[2]), Path(sys.argv[3]))
"""
    folder = tmp_path / "checkpoints"
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", program, here, str(bert), str(folder)],
        check=False,
        env=os.environ,
    )
    assert done.returncode == -9
    assert folder.is_dir()
    resumed, whole = checkpointed(bert, folder), checkpointed(bert, None)
    assert len(resumed.log.epochs) == len(whole.log.epochs)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name])


def test_other_pairs_to_stop_by_are_another_tuning(bert: Path, tmp_path: Path) -> None:
    checkpointed(bert, tmp_path)
    begun, whole = (checkpointed(bert, f, stop_by=2).log.epochs for f in (tmp_path, None))
    assert [e["validation"] for e in begun] == [e["validation"] for e in whole]


def checkpointed(base: Path, folder: Path | None, stop_by: int = 1) -> CrossEncoder:
    return CrossEncoder.fit(
        pairs(),
        pairs(60, seed=stop_by),
        classes=("apart", "together"),
        base=str(base),
        config=config(epochs=4),
        training=QUICK.model_copy(update={"checkpoint_seconds": 0}),
        folder=folder,
    )
