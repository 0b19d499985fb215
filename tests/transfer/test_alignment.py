"""Alignment on the generated world: distances fall, and training with losses resumes exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transfer_world import BOOKS, GEAR, settings, texts, world

from isthmus.alignment.distance import DomainDistance
from isthmus.alignment.domains import align_features, item_pairs, pairs_of_texts
from isthmus.alignment.losses import MMD, CoralLoss, InfoNCE
from isthmus.alignment.pairs import Pairs
from isthmus.alignment.representations import mean_states, representation_alignment
from isthmus.data.batches import PackedBatch
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split, global_cut
from isthmus.errors import ConfigError, DataError
from isthmus.model import learn as learning
from isthmus.training.next_item import NextItemTask, Step
from isthmus.transfer.learned import learned_distances
from isthmus.transfer.sides import Side, fit_side
from isthmus.transfer.strategies import Distilled, Joint, TargetOnly
from isthmus.transfer.system import fit_system

QUICK = ("training.epochs=4", "blend.parts=['neural']", "alignment.pair_cosine=0.3")
LONGER = ("training.epochs=8", "training.patience=8", "alignment.warmup=0")
Given = tuple[Dataset, Split, list[ItemFeatures]]


@pytest.fixture(scope="module")
def small() -> Given:
    dataset = world(1.0, n_users=200)
    return dataset, global_cut(dataset), texts(dataset)


@pytest.fixture(scope="module")
def trained(small: Given) -> Side:
    """With no alignment of representations."""
    return _joint(small, *LONGER)


def _joint(given: Given, *overrides: str, strategy=None, folder=None) -> Side:  # type: ignore[no-untyped-def]
    dataset, split, raw = given
    config = settings(*QUICK, *overrides)
    features = align_features(raw, config, dataset)
    return fit_side(strategy or Joint(), dataset, split, raw, features, config, folder=folder)


def _weights(side: Side) -> dict[str, torch.Tensor]:
    return side.neural.model.state_dict()


@pytest.mark.parametrize(
    ("before", "step", "measure", "share"),
    [
        ([], "whiten", "mmd", 0.2),
        ([], "coral", "coral", 0.5),
        ([], "sinkhorn", "mmd", 0.2),
        ([], "procrustes", "pairs", 0.95),
        (["whiten"], "procrustes", "pairs", 0.9),
    ],
)
def test_each_map_brings_its_own_distance_down(small, before, step, measure, share):
    dataset, _, raw = small
    pairs = item_pairs(raw, settings(*QUICK), dataset, BOOKS, GEAR)
    assert len(pairs) > 20
    found = []
    for maps in (before, [*before, step]):
        config = settings(*QUICK, f"alignment.features={maps}", "alignment.basis=own")
        aligned = align_features(raw, config, dataset)
        one, other = (f.vectors[f.present] for f in aligned)
        rows = pairs_of_texts(pairs, *aligned)
        found.append(getattr(DomainDistance.measure(one, other, rows), measure))
    assert found[1] < share * found[0]


def _items_apart(side: Side, name: str, pairs: Pairs) -> float:
    """Distance of the learned item vectors, by the loss itself or, of an adversary, by MMD."""
    a, b = (side.neural.catalogue(d) for d in (BOOKS, GEAR))
    losses = {"coral": CoralLoss(), "infonce": InfoNCE()}
    return float(losses.get(name, MMD())(a, b, torch.from_numpy(pairs)))


@pytest.mark.parametrize(
    ("name", "weight"), [("mmd", 20.0), ("coral", 1.0), ("adversarial", 3.0), ("infonce", 1.0)]
)
def test_each_loss_brings_learned_item_vectors_together(small, trained, name, weight):
    dataset, _, raw = small
    pairs = item_pairs(raw, settings(*QUICK), dataset, BOOKS, GEAR)
    drawn = _joint(small, *LONGER, f"alignment.representations={{{name}={weight}}}")
    assert _items_apart(drawn, name, pairs) < 0.7 * _items_apart(trained, name, pairs)


@pytest.mark.parametrize("level", ["representations", "user_representations"])
def test_every_loss_joins_a_teacher_wider_than_the_model(small, level):
    losses = f"alignment.{level}={{adversarial=0.1, mmd=0.1, coral=0.1, infonce=0.1}}"
    side = _joint(small, losses, "training.epochs=2", strategy=Distilled())
    assert Distilled().options.width > 1
    assert set(side.logs) == {"teacher", "student"}


def test_distances_of_learned_vectors_are_measured_before_training_and_after(small):
    dataset, split, raw = small
    loss = "alignment.representations={mmd=20.0}"
    measured = {}
    for name, how in (("off", ()), ("on", (loss,))):
        config = settings(*QUICK, *LONGER, *how)
        system = fit_system(dataset, split, raw, config, targets=[GEAR])
        (measured[name],) = learned_distances(dataset, raw, system, config)
        # The same weights that training began with.
        untaught = config.override("training.learning_rate=1e-12")
        still = fit_system(dataset, split, raw, untaught, targets=[GEAR])
        (nothing_learnt,) = learned_distances(dataset, raw, still, untaught)
        assert nothing_learnt.trained.mmd == pytest.approx(measured[name].initial.mmd, abs=1e-6)
    off, on = measured["off"], measured["on"]
    assert (off.a, off.b) == (BOOKS, GEAR)
    assert off.pairs == len(item_pairs(raw, settings(*QUICK), dataset, BOOKS, GEAR))
    assert (off.texts, off.aligned, off.initial) == (on.texts, on.aligned, on.initial)
    assert off.aligned.mmd < off.texts.mmd
    assert on.trained.mmd < 0.5 * off.trained.mmd
    assert on.trained.pairs is not None


class Look(torch.nn.Module):
    """A further loss that adds nothing and keeps what it saw."""

    mark = ""
    step: Step | None = None

    def rows(self, batch: PackedBatch, rng: np.random.Generator) -> np.ndarray:
        return np.zeros(0, np.int64)

    def forward(self, step: Step) -> torch.Tensor:
        self.step = step
        return step.states.new_zeros(())


def _people_apart(given: Given, side: Side) -> float:
    """InfoNCE of the same people's mean states in both domains, in evaluation mode."""
    dataset, split, _ = given
    look, config = Look(), settings("training.batch_events=1000000")
    task = NextItemTask(
        side.neural.model,
        split.train_events(dataset),
        dataset.item_offsets,
        config.training,
        weights=(1.0, 1.0),
        max_length=20,
        device=torch.device("cpu"),
        extra=[look],
    )
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for batch in task.batches(rng):
            task.loss(batch, rng)
    assert look.step is not None
    (a, who), (b, whom) = (mean_states(look.step, d) for d in (BOOKS, GEAR))
    return float(InfoNCE()(a, b, (who[:, None] == whom[None, :]).nonzero()))


def test_the_same_person_is_drawn_together_across_domains(small, trained):
    drawn = _joint(small, *LONGER, "alignment.user_representations={infonce=1.0}")
    assert _people_apart(small, drawn) < 0.8 * _people_apart(small, trained)


def test_a_run_with_a_discriminator_that_was_cut_off_ends_at_the_same_weights(
    small, tmp_path, monkeypatch
):
    how = (
        "alignment.representations={adversarial=0.5, mmd=0.5, infonce=0.2}",
        "alignment.user_representations={adversarial=0.5}",
        "alignment.step_rows=16",
        "training.evaluate_every=1",
        "training.checkpoint_seconds=0",
    )
    straight = _joint(small, *how)
    looks = iter(range(100))
    real = learning.mean_ndcg

    def cut_off(*args, **options):  # type: ignore[no-untyped-def]
        # A look ends each epoch: the second is within the second epoch.
        if next(looks) == 1:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(learning, "mean_ndcg", cut_off)
    with pytest.raises(KeyboardInterrupt):
        _joint(small, *how, folder=tmp_path)
    monkeypatch.setattr(learning, "mean_ndcg", real)
    resumed = _joint(small, *how, folder=tmp_path)
    assert next(looks) == 2
    for name, weight in _weights(straight).items():
        torch.testing.assert_close(_weights(resumed)[name], weight, rtol=0, atol=0)
    losses = [
        [epoch["loss"] for epoch in side.logs["joint"].epochs] for side in (straight, resumed)
    ]
    assert losses[0] == losses[1]
    # Another weight is another run: nothing of the checkpoint is taken.
    other = _joint(small, how[0].replace("0.2", "0.3"), *how[1:], folder=tmp_path)
    assert other.logs["joint"].epochs[0]["loss"] != losses[0][0]


def test_losses_are_no_part_of_the_saved_model_and_leave_a_target_alone_as_it_was(small):
    switched = "alignment.representations={adversarial=1.0}"
    plain, with_loss = (_joint(small, *how, strategy=TargetOnly(GEAR)) for how in ((), (switched,)))
    for name, weight in _weights(plain).items():
        assert torch.equal(weight, _weights(with_loss)[name])
    joint = _joint(small, switched, "training.epochs=1")
    assert _weights(joint).keys() == _weights(plain).keys()
    assert joint.neural.state().arrays.keys() == plain.neural.state().arrays.keys()


def test_the_target_only_side_reads_its_texts_in_its_own_axes(small):
    dataset, split, raw = small
    shared = settings(*QUICK, "training.epochs=1", "alignment.basis=shared")
    own = settings(*QUICK, "training.epochs=1", "alignment.basis=own")
    found, plain = (
        fit_system(dataset, split, raw, config, targets=[GEAR]) for config in (shared, own)
    )
    text = found.alone[GEAR].neural.model.items.text
    assert torch.equal(text, plain.alone[GEAR].neural.model.items.text)
    assert not torch.equal(text, found.transferred.neural.model.items.text)
    assert plain.own_features is plain.features


def test_pairs_that_are_not_there_are_said_before_training(small, tmp_path):
    dataset, split, raw = small
    infonce = "alignment.representations={infonce=1.0}"
    with pytest.raises(DataError, match=r"alignment\.pair_cosine: no text of .* nearest"):
        _joint(small, infonce, "alignment.pair_cosine=1.0")
    path = tmp_path / "pairs.csv"
    path.write_text("domain_a,item_a,domain_b,item_b\n")
    with pytest.raises(DataError, match="no pair joins 'books' and 'gear'"):
        _joint(small, infonce, f"alignment.pairs={path}")
    blank = [raw[0], ItemFeatures(raw[1].vectors * 0, np.zeros(len(raw[1]), bool))]
    with pytest.raises(DataError, match="no item of 'gear' has a text, and pairing by text"):
        _joint((dataset, split, blank), infonce)
    events = dataset.events
    # Everybody keeps to one domain.
    apart = replace(dataset, events=events.keep(events.domain == events.user % 2))
    with pytest.raises(DataError, match="not two people have training events in both"):
        _joint((apart, global_cut(apart), raw), "alignment.user_representations={infonce=1.0}")


def test_one_domain_has_nothing_to_be_aligned_with(small):
    dataset, _, raw = small
    alone = replace(dataset, domains=dataset.domains[:1], events=dataset.events.only(BOOKS))
    config = settings(*QUICK, "alignment.representations={mmd=1.0}")
    with pytest.raises(ConfigError, match=r"alignment\.representations: there is one domain"):
        representation_alignment(alone, alone.events, raw[:1], config, [0], 16)
