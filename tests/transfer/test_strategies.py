from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from transfer_world import BOOKS, GEAR, settings, texts, world

import isthmus.transfer.execution as execution
from isthmus.alignment.domains import align_features
from isthmus.config import Config
from isthmus.data.batches import Windows
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, Split, global_cut
from isthmus.errors import ConfigError, DataError
from isthmus.model.core import CoreModel
from isthmus.scoring import Requests
from isthmus.transfer.execution import run_stages
from isthmus.transfer.sides import fit_side
from isthmus.transfer.stages import PseudoLabel, Stage, Train, epochs_by_stage
from isthmus.transfer.strategies import (
    Joint,
    PretrainFinetune,
    Roles,
    Strategy,
    TargetOnly,
    ZeroShot,
    chosen_strategy,
)
from isthmus.transfer.system import fit_system

QUICK = ("training.epochs=2", "alignment.basis=shared")
ROLES = Roles(("books", "gear"), (1.0, 1.0), GEAR)
EVERYTHING = (BOOKS, GEAR)


@pytest.fixture(scope="module")
def small() -> tuple[Dataset, Split]:
    dataset = world(1.0, n_users=150)
    return dataset, global_cut(dataset)


def run(small, stages: Sequence[Stage], *overrides: str, folder=None) -> CoreModel:
    dataset, split = small
    config = settings(*QUICK, *overrides)
    raw = texts(dataset)
    features = align_features(raw, config, dataset)
    return run_stages(stages, dataset, split, features, config, raw=raw, folder=folder).model


def weights(model: CoreModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def start(small, *overrides: str) -> dict[str, torch.Tensor]:
    """Weights before any training."""
    dataset, _ = small
    config = settings(*QUICK, *overrides)
    features = align_features(texts(dataset), config, dataset)
    return weights(CoreModel(features, np.ones(dataset.n_items, np.float32), config.model, 0))


def far(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in a if not torch.equal(a[name], b[name])}


# Stages


def test_a_stage_without_ids_leaves_their_table_as_it_was(small):
    texts_only, with_ids = PretrainFinetune().stages(ROLES)
    assert (texts_only.ids, with_ids.ids) == (False, True)
    before = start(small)
    still = replace(with_ids, frozen=("items.table",))
    moved = far(weights(run(small, [texts_only, still])), before)
    assert "items.project.weight" in moved
    assert "items.table" not in moved
    assert "items.table" in far(weights(run(small, [texts_only, with_ids])), before)


def test_frozen_weights_stay_and_the_others_move(small):
    stage = Train("stage", EVERYTHING, (1.0, 1.0), frozen=("users.blocks", "items.project"))
    moved = far(weights(run(small, [stage])), start(small))
    assert "users.place.weight" in moved
    assert "items.table" in moved
    assert not [n for n in moved if n.startswith(("users.blocks", "items.project"))]


def test_after_a_stage_everything_can_learn_again(small):
    first = Train("first", EVERYTHING, (1.0, 1.0), share=0.5, frozen=("users", "items.table"))
    second = Train("second", EVERYTHING, (1.0, 1.0), share=0.5)
    moved = far(weights(run(small, [first, second])), start(small))
    assert {"users.blocks.0.qkv.weight", "items.table", "items.project.weight"} <= moved


def test_the_rate_of_a_stage_is_for_all_weights_but_ids(small):
    one_step = ("training.batch_events=100000", "training.epochs=1", "training.weight_decay=0")
    stage = Train("stage", EVERYTHING, (1.0, 1.0))
    before = start(small)
    steps = {}
    for rate in (1.0, 0.1):
        after = weights(run(small, [replace(stage, rate=rate)], *one_step))
        steps[rate] = {n: (after[n] - before[n]).abs().max().item() for n in after}
    dense = "users.blocks.0.qkv.weight"
    assert steps[0.1][dense] == pytest.approx(0.1 * steps[1.0][dense], rel=0.02)
    assert steps[0.1]["items.table"] == pytest.approx(steps[1.0]["items.table"], rel=0.02)


def test_stages_share_the_epochs_and_differ_in_their_batches(small, tmp_path):
    dataset, split = small
    config = settings("training.epochs=8", "training.patience=8")
    features = align_features(texts(dataset), config, dataset)
    side = fit_side(PretrainFinetune(), dataset, split, texts(dataset), features, config)
    assert {name: len(log.epochs) for name, log in side.logs.items()} == {
        "pretrain": 4,
        "finetune": 4,
    }
    assert set(side.seconds) == {"train pretrain", "train finetune", "blend pretrain-finetune"}
    assert execution._settings(config, Train("b", (0,), (1.0,)), 1, 4).seed != config.seed
    assert execution._settings(config, Train("a", (0,), (1.0,)), 0, 4).seed == config.seed


MANY = ["pretrain-finetune", "distil", "meta", "pseudo-label"]


@pytest.mark.parametrize("name", MANY)
def test_no_strategy_trains_longer_than_the_budget(name):
    stages = chosen(f"transfer.strategy={name}").stages(ROLES)
    for epochs in range(2, 40):
        found = list(epochs_by_stage(stages, epochs).values())
        assert sum(found) == epochs, (epochs, found)
        assert min(found) >= 1
    first = 0.7 if name == "meta" else 0.5
    for epochs in (10, 30):
        found = list(epochs_by_stage(stages, epochs).values())
        assert found == [round(epochs * first), round(epochs * (1 - first))]


def test_a_small_share_of_few_epochs_is_one_and_a_part_of_them_stays_a_part():
    first, second = (Train(name, EVERYTHING, (1.0, 1.0), share=0.01) for name in "ab")
    assert epochs_by_stage([first, replace(second, share=0.99)], 3) == {"a": 1, "b": 2}
    assert epochs_by_stage([replace(first, share=0.99), second], 3) == {"a": 2, "b": 1}
    assert epochs_by_stage([replace(first, share=0.5)], 30) == {"a": 15}
    labels = PseudoLabel("labels", (GEAR,))
    assert epochs_by_stage([first, labels, replace(second, share=0.5)], 4) == {"a": 1, "b": 1}


@pytest.mark.parametrize("name", MANY)
def test_fewer_epochs_than_stages_are_refused(small, name):
    dataset, split = small
    config = settings("training.epochs=1", f"transfer.strategy={name}")
    with pytest.raises(ConfigError, match=r"training\.epochs: 1 for 2 stages that train.*Set it"):
        fit_system(dataset, split, texts(dataset), config, targets=[GEAR])


def test_pretraining_on_the_sources_alone_reads_no_target():
    config = settings("transfer.strategy=pretrain-finetune", "transfer.pretrain.domains=sources")
    pretrain, finetune = chosen_strategy(config.transfer, ROLES).stages(ROLES)
    assert (pretrain.reads, pretrain.weights, pretrain.ids) == ((BOOKS,), (1.0, 0.0), False)
    assert (finetune.reads, finetune.weights, finetune.ids) == (EVERYTHING, (1.0, 1.0), True)
    assert finetune.rate == config.transfer.pretrain.rate == 0.1


def test_a_domain_no_stage_has_touched_is_read_and_asked_like_the_others(small):
    model = run(small, [Train("books", (BOOKS,), (1.0, 0.0))])
    users = model.users
    assert torch.equal(users.domain.weight[GEAR], users.domain.weight[BOOKS])
    states = torch.randn(5, users.norm.normalized_shape[0])
    assert not torch.allclose(users.ask(states, BOOKS), states)
    assert torch.allclose(users.ask(states, GEAR), users.ask(states, BOOKS), atol=1e-5)


# Resuming


@dataclass
class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3])
def test_a_killed_strategy_goes_on_within_the_stage_it_was_in(small, tmp_path, monkeypatch, after):
    how = ("training.epochs=4", "training.evaluate_every=1", "training.checkpoint_seconds=0")
    stages = PretrainFinetune().stages(ROLES)
    whole = weights(run(small, stages, *how))
    from isthmus.training.loop import _Run

    epoch, done = _Run.epoch, []

    def until_killed(self, validate):
        if len(done) == after:
            raise Killed
        done.append(1)
        return epoch(self, validate)

    with monkeypatch.context() as patched:
        patched.setattr(_Run, "epoch", until_killed)
        with pytest.raises(Killed):
            run(small, stages, *how, folder=tmp_path)
    counted: list[int] = []
    monkeypatch.setattr(_Run, "epoch", lambda s, v: (counted.append(1), epoch(s, v))[1])
    again = weights(run(small, stages, *how, folder=tmp_path))
    assert len(counted) == 4 - after
    assert not far(whole, again)
    # And once more: nothing is left to do.
    counted.clear()
    assert not far(whole, weights(run(small, stages, *how, folder=tmp_path)))
    assert not counted


def test_a_stage_is_not_taken_over_where_the_one_before_it_was_another(small, tmp_path):
    first, second = PretrainFinetune().stages(ROLES)
    run(small, [first, second], folder=tmp_path)
    other = replace(first, reads=(BOOKS,), weights=(1.0, 0.0))
    resumed = weights(run(small, [other, second], folder=tmp_path))
    assert not far(resumed, weights(run(small, [other, second])))


# Zero-shot


def without_target_training(dataset: Dataset, split: Split) -> tuple[Dataset, Split]:
    """The same data after all training events of the target have gone; questions stay."""
    kept = ~(split.in_train & (dataset.events.domain == GEAR))
    place = np.cumsum(kept) - 1
    moved = {
        name: Queries(place[getattr(split, name).position])
        for name in ("stopping", "tuning", "test")
    }
    fewer = replace(dataset, events=dataset.events.keep(kept))
    return fewer, replace(split, in_train=split.in_train[kept], **moved)


def with_other_target_training(dataset: Dataset, split: Split) -> tuple[Dataset, Split]:
    """The same data, the training events of the target being on other items."""
    item = dataset.events.item.copy()
    of_target = split.in_train & (dataset.events.domain == GEAR)
    item[of_target] = np.random.default_rng(0).permutation(item[of_target])
    return replace(dataset, events=replace(dataset.events, item=item)), split


@pytest.mark.parametrize("change", [without_target_training, with_other_target_training])
def test_no_target_event_enters_the_training_of_zero_shot(small, change):
    dataset, split = small
    raw, config = texts(dataset), settings(*QUICK)
    features = align_features(raw, config, dataset)
    sides = [
        fit_side(ZeroShot(), *data, raw, features, config, target=GEAR)
        for data in (small, change(dataset, split))
    ]
    one, other = (weights(side.neural.model) for side in sides)
    assert not far(one, other)
    evidence = sides[0].neural.model.items.evidence
    assert not evidence[dataset.item_offsets[GEAR] :].any()
    assert evidence[: dataset.item_offsets[GEAR]].any()
    # Nor that of the other parts, nor the weights of the blend.
    asked = Requests.at(dataset, split.test.position[:30])
    for name, part in sides[0].parts.items():
        theirs = sides[1].parts[name].score(asked, GEAR).total
        np.testing.assert_array_equal(part.score(asked, GEAR).total, theirs)
    assert sides[0].fitted[GEAR].weights == sides[1].fitted[GEAR].weights


def test_zero_shot_borrows_weights_and_is_judged_all_the_same(small):
    dataset, split = small
    raw, config = texts(dataset), settings(*QUICK)
    side = fit_side(
        ZeroShot(), dataset, split, raw, align_features(raw, config, dataset), config, target=GEAR
    )
    borrowed, trained_on = side.fitted[GEAR].weights, side.fitted[BOOKS].weights
    # Books are asked about as if they were new; what needs events to speak keeps their weight.
    assert {"neural", "text"} == {n for n in borrowed if borrowed[n] != trained_on[n]}
    assert borrowed["neural"] / borrowed["text"] < trained_on["neural"] / trained_on["text"]
    asked = (dataset.events.domain[split.validation.position] == GEAR).sum()
    assert len(side.fitted[GEAR].gain) == asked > 0
    # At the question, what somebody did in the target is read.
    assert side.neural.reads == (BOOKS, GEAR)
    scores = side.parts["co-occurrence"].score(Requests.at(dataset, split.test.position[:9]), GEAR)
    assert not scores.total.std(axis=1).any()


def test_a_gate_stands_between_zero_shot_and_the_target_alone(small):
    dataset, split = small
    config = settings(*QUICK, "transfer.strategy=zero-shot")
    system = fit_system(dataset, split, texts(dataset), config, targets=[GEAR])
    assert system.transferred.name == "zero-shot"
    assert system.gates[GEAR].confidence >= 0
    assert GEAR in system.alone


# Choosing


@dataclass(frozen=True)
class Own:
    """A strategy of a user's own."""

    rate: float = 1.0
    name: str = "own"

    def stages(self, roles: Roles) -> list[Stage]:
        return [Train("own", roles.everything, roles.weights, rate=self.rate)]


def chosen(*overrides: str, roles: Roles = ROLES) -> Strategy:
    return chosen_strategy(Config().override(*overrides).transfer, roles)


def test_strategies_are_chosen_by_name_or_by_path():
    assert chosen() == Joint()
    assert chosen("transfer.strategy=zero-shot") == ZeroShot()
    assert chosen("transfer.strategy=target-only") == TargetOnly(GEAR, "target-only-gear")
    own = chosen("transfer.strategy=test_strategies:Own", "transfer.options.rate=0.5")
    assert own.stages(ROLES) == [Train("own", EVERYTHING, (1.0, 1.0), rate=0.5)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["transfer.strategy=zero-shoot"], "no strategy is called 'zero-shoot'.*'zero-shot'"),
        (["transfer.strategy=test_strategies:Owned"], "cannot be imported.*'Owned'"),
        (["transfer.strategy=test_strategies:Killed"], "test_strategies:Killed is no strategy"),
        (["transfer.strategy=no_such.module:Own"], "'no_such.module:Own' cannot be imported"),
        (["transfer.strategy=:Own"], "cannot be imported"),
        (
            ["transfer.strategy=test_strategies:Own", "transfer.options.speed=2"],
            r"transfer\.options: .*'speed'",
        ),
        (["transfer.options.rate=2"], "'joint' is none"),
        (["transfer.pretrain.share=1"], r"transfer\.pretrain\.share"),
        (["transfer.pretrain.part=1"], "unknown key 'transfer.pretrain.part'"),
    ],
)
def test_what_cannot_be_chosen_is_explained(overrides, message):
    with pytest.raises(ConfigError, match=message):
        chosen(*overrides)


@pytest.mark.parametrize(
    "name", ["zero-shot", "target-only", "pretrain-finetune"], ids=lambda name: name
)
def test_a_strategy_for_one_target_says_so_where_there_are_several(small, name):
    dataset, split = small
    config = settings(*QUICK, f"transfer.strategy={name}", "transfer.pretrain.domains=sources")
    with pytest.raises(ConfigError, match=r"one domain it is for.*books, gear"):
        fit_system(dataset, split, texts(dataset), config)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "no stage"),
        ([Train("a", (0,), (1.0, 0.0)), Train("a", (0,), (1.0, 0.0))], "two stages"),
        ([Train("a", (0, 2), (1.0, 1.0))], "reads .0, 2. and weighs 2"),
        ([Train("a", (0,), (1.0,))], "weighs 1 domains"),
        ([Train("a", (0,), (0.0, 1.0))], "learns no domain that it reads"),
        ([Train("a", (0,), (1.0, 0.0), share=0.0)], "out of range"),
        (
            [Train("a", (0,), (1.0, 0.0), share=0.7), Train("b", (0,), (1.0, 0.0), share=0.7)],
            "more than 1",
        ),
        ([Train("a", (0,), (1.0, 0.0), ids=False)], "last stage leaves IDs out"),
        ([Train("a", (0,), (1.0, 0.0), frozen=("user.blocks",))], "'users.blocks'"),
        ([Train("a", (0,), (1.0, 0.0), frozen=("users", "items"))], "freezes everything"),
    ],
)
def test_stages_that_cannot_be_meant_are_refused(small, stages, message):
    with pytest.raises(ConfigError, match=message):
        run(small, stages)


def test_a_stage_without_ids_needs_texts(small):
    with pytest.raises(ConfigError, match=r"model\.use_text is off"):
        run(small, PretrainFinetune().stages(ROLES), "model.use_text=false")


def test_a_model_without_ids_may_end_without_them(small):
    stages = [Train("a", EVERYTHING, (1.0, 1.0), ids=False)]
    assert not run(small, stages, "model.use_ids=false").items.use_ids


def test_target_only_serves_the_target_alone(small):
    dataset, split = small
    config = settings(*QUICK, "transfer.strategy=target-only")
    system = fit_system(dataset, split, texts(dataset), config, targets=[GEAR])
    assert system.alone[GEAR] is system.transferred
    assert system.gates[GEAR].weight == 0
    silent = replace(split, in_train=split.in_train & (dataset.events.domain == BOOKS))
    with pytest.raises(DataError, match="gear has no training event"):
        fit_system(dataset, silent, texts(dataset), config, targets=[GEAR])


@pytest.mark.parametrize("name", ["pretrain-finetune", "zero-shot"])
def test_one_domain_has_nothing_to_transfer_by_any_strategy(small, name):
    dataset, _ = small
    events = dataset.events.only(GEAR)
    gear = replace(
        dataset,
        domains=(dataset.domains[GEAR],),
        events=replace(events, domain=np.zeros_like(events.domain)),
    )
    config = settings(*QUICK, f"transfer.strategy={name}")
    system = fit_system(gear, global_cut(gear), texts(gear), config)
    assert system.gates[0].weight == 0
    assert system.alone[0] is system.transferred


# The penalty on attention across domains


def test_the_penalty_lowers_the_share_of_attention_across_domains(small):
    dataset, split = small
    longer = ("training.epochs=6", "training.evaluate_every=6", "training.batch_events=64")
    joint = [Train("joint", EVERYTHING, (1.0, 1.0))]
    share = {}
    for penalty in (1e-9, 50.0):
        model = run(small, joint, *longer, f"model.cross_attention_penalty={penalty}").train()
        assert model.users.watched
        events = split.train_events(dataset)
        batch = Windows.cut(events, 20).pack(np.arange(40))
        flat = dataset.flat(events.domain, events.item)
        model.states(
            model.item_vectors(torch.from_numpy(flat[batch.inputs])),
            torch.from_numpy(events.domain[batch.inputs].astype(np.int64)),
            torch.from_numpy(events.time[batch.inputs]),
            torch.from_numpy(batch.offsets),
        )
        share[penalty] = model.users.foreign_attention().item()
    print(share)
    assert share[50.0] < 0.8 * share[1e-9]


def test_the_penalty_leaves_a_side_of_one_domain_as_it_was(small):
    alone = TargetOnly(GEAR).stages(ROLES)
    plain = weights(run(small, alone))
    penalised = weights(run(small, alone, "model.cross_attention_penalty=5"))
    assert not far(plain, penalised)


def test_null_space_fusion_trains_by_any_strategy(small):
    for strategy in (Joint(), PretrainFinetune()):
        model = run(small, strategy.stages(ROLES), "model.fusion=null-space")
        told = model.items.text_dim
        assert not model.items.table[:, :told].any()
        assert model.items.table[:, told:].any()
