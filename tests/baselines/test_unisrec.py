from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from baseline_world import dataset_of
from neighbour_world import GEAR, ndcg, one_left, told, two_shops
from numpy.typing import NDArray

from isthmus.baselines.unisrec import InBatchContrast, UniSRec, UniSRecConfig, WhiteningExperts
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Queries, Split, leave_one_out
from isthmus.errors import ConfigError
from isthmus.evaluation.ranks import rank
from isthmus.scoring import Requests

CONFIG = Config.model_validate(
    {
        "model": {"dim": 16, "layers": 1, "heads": 2, "max_length": 20, "dropout": 0.1},
        "training": {
            "epochs": 10,
            "evaluate_every": 5,
            "batch_events": 512,
            "negatives": 64,
            "learning_rate": 6e-3,
            "device": "cpu",
            "threads": 1,
        },
    }
)
SMALL = UniSRecConfig(experts=2, temperature=0.5, ids=False)


def without(dataset: Dataset, split: Split, kept_back: NDArray[np.int64]) -> Split:
    """No training event and no validation question about the gear `kept_back`."""
    events = dataset.events
    gone = (events.domain == GEAR) & np.isin(events.item, kept_back)

    def other(questions: Queries) -> Queries:
        return questions.where(~gone[questions.position])

    return replace(
        split,
        in_train=split.in_train & ~gone,
        stopping=other(split.stopping),
        tuning=other(split.tuning),
        test=split.test.where(gone[split.test.position]),
    )


def place(scorer: UniSRec, dataset: Dataset, split: Split) -> float:
    """Mean place of the answer among all gear: 0 the first, 1 the last, .5 by chance."""
    found = rank(scorer, dataset, split.test, GEAR, config=CONFIG.evaluation, lists=False)
    return float(((found.above + (found.tied - 1) / 2) / (found.candidates - 1)).mean())


def test_items_without_any_event_are_ranked_by_their_texts():
    world = two_shops(1.0)
    dataset, texts = world.dataset, told(world)
    kept_back = np.random.default_rng(0).permutation(120)[:60]
    split = without(dataset, leave_one_out(dataset), kept_back)
    assert len(split.test) > 60
    trained = UniSRec.fit(dataset, split, texts, GEAR, CONFIG, SMALL)
    untaught = CONFIG.override("training.learning_rate=1e-9")
    untrained = UniSRec.fit(dataset, split, texts, GEAR, untaught, SMALL)
    learnt, chance = place(trained, dataset, split), place(untrained, dataset, split)
    assert learnt < 0.35
    assert learnt < chance - 0.1


def gear_alone(dataset: Dataset, split: Split) -> Split:
    """The same split without any event or validation question of the other shop."""
    gear = dataset.events.domain == GEAR
    return replace(
        split,
        in_train=split.in_train & gear,
        stopping=split.stopping.where(gear[split.stopping.position]),
        tuning=split.tuning.where(gear[split.tuning.position]),
    )


def gain(transfer: float, seed: int = 0) -> float:
    """What the other shop adds to NDCG@10 for people with one purchase of gear, as a share."""
    config = CONFIG.override(f"seed={seed}")
    world = two_shops(transfer)
    dataset, texts = world.dataset, told(world)
    split, hidden = leave_one_out(dataset), one_left(dataset)
    both = UniSRec.fit(dataset, split, texts, GEAR, config, SMALL)
    alone = UniSRec.fit(dataset, gear_alone(dataset, split), texts, GEAR, config, SMALL)
    # Alone, it is not served what people did elsewhere either.
    elsewhere = dataset.events.domain != GEAR
    reached = ndcg(both, dataset, split.test, hidden=hidden)
    without_books = ndcg(alone, dataset, split.test, hidden=hidden | elsewhere)
    return reached / without_books - 1


def test_it_gains_by_the_other_shop_where_that_tells_something():
    # Mean of two seeds; .1 to .5 each, and below -.2 where the other shop tells nothing.
    assert np.mean([gain(1.0, seed) for seed in (0, 1)]) > 0.1


def test_it_gains_nothing_where_the_other_shop_tells_nothing():
    assert gain(0.0) < 0.05


def test_tuning_moves_the_experts_alone_unless_it_is_told_otherwise(tmp_path):
    world = two_shops(1.0, n_users=150)
    dataset, texts = world.dataset, told(world)
    split, config = leave_one_out(dataset), CONFIG.override("training.epochs=2")
    frozen = UniSRec.fit(dataset, split, texts, GEAR, config, SMALL, folder=tmp_path / "gear")
    free = UniSRec.fit(
        dataset,
        split,
        texts,
        GEAR,
        config,
        SMALL.model_copy(update={"frozen": False, "ids": True}),
        folder=tmp_path / "free",
    )
    moved = {
        name
        for name, weight in free.model.named_parameters()
        if not torch.equal(weight, frozen.model.get_parameter(name))
    }
    assert any(name.startswith("users.blocks") for name in moved)
    assert free.model.items.use_ids
    assert not frozen.model.items.use_ids
    # Pretraining is found again beside the folder, and what froze is as it left it.
    assert (tmp_path / "unisrec-pretraining").is_dir()
    again = UniSRec.fit(dataset, split, texts, 0, config, SMALL, folder=tmp_path / "books")
    for name, weight in again.model.users.named_parameters():
        assert torch.equal(weight, frozen.model.users.get_parameter(name))
    assert not torch.equal(again.model.items.project.matrix, frozen.model.items.project.matrix)


def test_each_next_item_is_told_from_the_others_of_its_batch():
    dataset = dataset_of([[(0, 0), (1, 1), (0, 2)], [(1, 0), (0, 2)]], (4, 3))
    features = [
        ItemFeatures(
            np.random.default_rng(d).normal(size=(n, 5)).astype(np.float32), np.ones(n, bool)
        )
        for d, n in enumerate((4, 3))
    ]
    split = Split("leave-one-out", np.ones(5, bool), *[Queries(np.zeros(0, np.int64))] * 3)
    config = CONFIG.override("model.dropout=0", "training.epochs=2")
    model = UniSRec.fit(dataset, split, features, 1, config, SMALL).model.eval()
    task = InBatchContrast(
        model,
        dataset.events,
        dataset.item_offsets,
        config.training,
        weights=[1.0, 1.0],
        max_length=20,
        device=torch.device("cpu"),
    )
    batch = task.windows.pack(np.arange(2))
    rng = np.random.default_rng(0)
    with torch.no_grad():
        loss = float(task.loss(batch, rng))
        # Targets are item 1 of the second domain, and item 2 of the first, twice.
        distinct, answer = torch.tensor([2, 5]), torch.tensor([1, 0, 0])
        candidates = model.item_vectors(distinct)
        states = model.states(
            model.item_vectors(torch.tensor([0, 5, 4])),
            torch.tensor([0, 1, 1]),
            torch.full((3,), torch.nan, dtype=torch.float64),
            torch.tensor([0, 2, 3]),
        )
        cosine = torch.nn.functional.normalize(states, dim=1) @ candidates.T
        expected = torch.nn.functional.cross_entropy(cosine / SMALL.temperature, answer)
    assert loss == pytest.approx(float(expected), rel=1e-4)


def test_an_expert_takes_off_its_mean_and_gives_unit_vectors():
    experts = WhiteningExperts(6, 4, 1, torch.Generator().manual_seed(0)).eval()
    text = torch.randn(5, 6)
    with torch.no_grad():
        experts.mean.copy_(torch.randn(1, 6))
        wanted = (text - experts.mean[0]) @ experts.matrix[0]
        given = experts(text)
    np.testing.assert_allclose(given, wanted / wanted.norm(dim=1, keepdim=True), atol=1e-5)


def test_a_request_without_history_has_no_opinion():
    world = two_shops(1.0, n_users=150)
    config = CONFIG.override("training.epochs=2")
    scorer = UniSRec.fit(
        world.dataset, leave_one_out(world.dataset), told(world), GEAR, config, SMALL
    )
    nobody = Requests.of_users(world.dataset, np.arange(3)).keep(
        np.zeros(len(Requests.of_users(world.dataset, np.arange(3)).item), bool)
    )
    assert not scorer.score(nobody, GEAR).total.any()


def test_without_texts_it_says_so():
    dataset = dataset_of([[(0, 0), (1, 1), (0, 2)]] * 2, (4, 3))
    features = [
        ItemFeatures(np.zeros((n, 5), np.float32), np.full(n, d == 0)) for d, n in enumerate((4, 3))
    ]
    split = leave_one_out(dataset)
    with pytest.raises(ConfigError, match=r"it carries over by texts, and no item of d1- has"):
        UniSRec.fit(dataset, split, features, 1, CONFIG)
    with pytest.raises(ConfigError, match=r"no item of any other domain has one.*title column"):
        UniSRec.fit(dataset, split, features, 0, CONFIG)
