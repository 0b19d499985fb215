from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from isthmus.config import ModelConfig, TrainingConfig
from isthmus.data.batches import PackedBatch
from isthmus.data.dataset import Events
from isthmus.data.features import ItemFeatures
from isthmus.model.core import CoreModel
from isthmus.training.loop import train
from isthmus.training.next_item import NextItemTask, Step

SIZES = (6, 9)
OFFSETS = np.array([0, 6, 15])


class Running(nn.Module):
    """A state is the running mean of the items so far, plus what their domains and times say."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("table", torch.randn(15, 4, generator=generator))
        self.turn = nn.Parameter(torch.randn(2, 4, generator=generator))

    def item_vectors(self, rows: Tensor, ids: Tensor | None = None) -> Tensor:
        return 2.0 * (self.table[rows] if ids is None else ids)

    def states(self, items: Tensor, domain: Tensor, time: Tensor, offsets: Tensor) -> Tensor:
        rows = items + 0.1 * domain[:, None] + 0.01 * time.float()[:, None]
        windows = rows.split(offsets.diff().tolist())
        return torch.cat(
            [w.cumsum(0) / torch.arange(1, len(w) + 1)[:, None] for w in windows if len(w)]
        )

    def ask(self, states: Tensor, domain: int) -> Tensor:
        return states * self.turn[domain]

    def id_table(self) -> Tensor:
        return self.table


def _events(histories: list[list[tuple[int, int]]]) -> Events:
    lengths = [len(h) for h in histories]
    pairs = np.array([p for h in histories for p in h], np.int64).reshape(-1, 2)
    return Events.from_columns(
        len(histories),
        np.repeat(np.arange(len(histories)), lengths),
        pairs[:, 0].astype(np.int16),
        pairs[:, 1].astype(np.int32),
        np.arange(len(pairs), dtype=np.float64),
    )


def _histories(seed: int, domains: tuple[int, ...] = (0, 1)) -> list[list[tuple[int, int]]]:
    rng = np.random.default_rng(seed)
    return [
        [(d := int(rng.choice(domains)), int(rng.integers(SIZES[d]))) for _ in range(length)]
        for length in (7, 2, 1, 5, 0, 4)
    ]


def _task(
    histories: list[list[tuple[int, int]]], weights: tuple[float, float] = (1.0, 1.0), **how: object
) -> NextItemTask:
    config = TrainingConfig.model_validate({"batch_events": 1000, "negatives": 5, **how})
    return NextItemTask(
        Running(),
        _events(histories),
        OFFSETS,
        config,
        weights=weights,
        max_length=20,
        device=torch.device("cpu"),
    )


def _slow_loss(task: NextItemTask, histories: list[list[tuple[int, int]]], seed: int) -> float:
    """The same loss token by token, on scalars; it draws the same negatives."""
    rng = np.random.default_rng(seed)
    table = 2.0 * task.rows.table.numpy().astype(np.float64)
    turn = task.module.turn.detach().numpy().astype(np.float64)  # type: ignore[union-attr]
    targets = {d for h in histories for d, _ in h[1:] if task.weights[d] > 0}
    drawn = {
        d: range(OFFSETS[d], OFFSETS[d + 1])
        if task.config.full_softmax
        else rng.integers(OFFSETS[d], OFFSETS[d + 1], task.config.negatives)
        for d in sorted(targets)
    }
    losses: dict[int, list[float]] = {d: [] for d in sorted(targets)}
    clock = 0
    for history in histories:
        state, n = np.zeros(4), 0
        for (d, item), (next_d, next_item) in pairwise(history):
            state = state + table[OFFSETS[d] + item] + 0.1 * d + 0.01 * (clock + n)
            n += 1
            if next_d not in losses:
                continue
            query = state / n * turn[next_d]
            answer = OFFSETS[next_d] + next_item
            own = float(query @ table[answer])
            total = math.exp(own)
            factor = 1.0 if task.config.full_softmax else SIZES[next_d] / task.config.negatives
            for other in drawn[next_d]:
                if other != answer:
                    total += factor * math.exp(float(query @ table[other]))
            losses[next_d].append(math.log(total) - own)
        clock += len(history)
    return sum(task.weights[d] * sum(found) / len(found) for d, found in losses.items())


def _loss(task: NextItemTask, seed: int = 3) -> Tensor:
    (batch,) = task.batches(np.random.default_rng(0))
    return task.loss(batch, np.random.default_rng(seed))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("weights", "domains"),
    [
        ((1.0, 1.0), (0, 1)),
        ((0.25, 2.0), (0, 1)),
        ((1.0, 0.0), (0, 1)),
        ((0.0, 1.0), (0, 1)),
        ((1.0, 1.0), (0,)),
        ((0.5, 0.0), (0,)),
        ((0.0, 1.0), (1,)),
    ],
)
def test_the_loss_is_what_it_says_token_by_token(full, weights, domains):
    histories = _histories(1, domains)
    task = _task(histories, weights, full_softmax=full)
    assert _loss(task).item() == pytest.approx(_slow_loss(task, histories, 3), rel=1e-5)


def test_negatives_that_are_the_answer_do_not_count():
    # Six items and five hundred draws: every answer is drawn many times.
    histories = _histories(2)
    task = _task(histories, negatives=500)
    assert _loss(task).item() == pytest.approx(_slow_loss(task, histories, 3), rel=1e-5)


def test_each_domain_weighs_the_same_however_many_targets_it_has():
    often, seldom = [(0, 1), (0, 2)], [(1, 1), (1, 2)]
    both = _loss(_task([often] * 20 + [seldom])).item()
    once = _loss(_task([often, seldom])).item()
    # Only the clock differs, which the state reads.
    assert both == pytest.approx(once, rel=0.2)
    alone = _loss(_task([often] * 20 + [seldom], (1.0, 0.0))).item()
    assert 0 < alone < both


def test_a_domain_of_weight_zero_is_read_but_not_learnt():
    histories = [[(0, 1), (1, 2), (1, 3)]]
    task = _task(histories, (0.0, 1.0))
    _loss(task).backward()
    (rows, leaf), *_ = task.rows._taken
    gradient = dict(zip(rows.tolist(), leaf.grad.abs().sum(1).tolist(), strict=True))
    assert gradient[1] > 0
    # No negatives were drawn from it either: of its six items only the one read is touched.
    assert [row for row in gradient if row < 6] == [1]


def test_a_batch_without_anything_to_learn_is_left_out():
    short, long = [(1, 0), (1, 2)], [(0, k % 6) for k in range(18)]
    task = _task([short] * 40 + [long] * 3, (1.0, 0.0), batch_events=16)
    batches = list(task.batches(np.random.default_rng(0)))
    assert all((task.domain[b.targets] == 0).any() for b in batches)
    assert sum((task.domain[b.targets] == 0).sum() for b in batches) == 3 * 17
    assert len(batches) < len(list(task.windows.batches(16, np.random.default_rng(0))))


def test_nobody_with_two_events_leaves_the_weights_as_they_were():
    task = _task([[(0, 1)], [], [(1, 2)]])
    assert list(task.batches(np.random.default_rng(0))) == []
    before = task.rows.table.clone()
    log = train(task, lambda: 0.0, TrainingConfig(device="cpu"), seed=0)
    assert [epoch["loss"] for epoch in log.epochs] == [0.0] * len(log.epochs)
    assert torch.equal(task.rows.table, before)


def test_the_only_item_of_a_catalogue_is_no_news():
    table = CoreModel(
        [ItemFeatures(np.ones((1, 2), np.float32), np.ones(1, bool))],
        np.ones(1, np.float32),
        ModelConfig(dim=4, max_length=5),
        seed=0,
    )
    task = NextItemTask(
        table,
        _events([[(0, 0)] * 4]),
        np.array([0, 1]),
        TrainingConfig(negatives=8),
        weights=[1.0],
        max_length=5,
        device=torch.device("cpu"),
    )
    loss = _loss(task)
    loss.backward()
    assert loss.item() == 0
    assert all(torch.isfinite(g).all() for g in task.rows.gradients())


def test_a_step_leaves_the_rows_of_other_items_as_they_are():
    task = _task([[(0, 1), (1, 2), (0, 3)], [(1, 8), (1, 2)]], negatives=1)
    before = task.rows.table.clone()
    generator = np.random.default_rng(3)
    drawn = {int(generator.integers(0, 6, 1)[0]), int(generator.integers(6, 15, 1)[0])}
    touched = drawn | {1, 3, 8, 14}
    _loss(task).backward()
    task.rows.step(0.1)
    moved = (task.rows.table != before).any(1)
    # An item without any gradient may stay, but nothing else may move.
    assert set(np.flatnonzero(moved.numpy()).tolist()) <= touched
    assert moved[[1, 3, 8]].all()
    assert task.rows.steps.nonzero()[:, 0].tolist() == sorted(touched)


def test_a_step_asks_for_the_vectors_of_its_own_items_alone():
    asked: list[int] = []

    class Counting(Running):
        def item_vectors(self, rows: Tensor, ids: Tensor | None = None) -> Tensor:
            asked.append(len(rows))
            return super().item_vectors(rows, ids)

    task = _task([[(0, 1), (1, 2)]], negatives=2)
    task.model = Counting()
    _loss(task)
    assert len(asked) == 1
    assert asked[0] <= 2 + 2


def test_every_event_but_the_first_is_learnt_once_an_epoch():
    histories = _histories(4)
    task = _task(histories, batch_events=16)
    targets = np.concatenate([b.targets for b in task.batches(np.random.default_rng(1))])
    assert len(targets) == len(set(targets.tolist())) == sum(max(len(h) - 1, 0) for h in histories)
    assert task.windows.n_targets == len(targets)


def test_training_learns_a_chain_from_its_rows():
    chain = [[(1, (start + k) % 9) for k in range(6)] for start in range(9)]
    task = _task(chain * 4, batch_events=64, negatives=8)
    before = _loss(_task(chain, full_softmax=True)).item()
    train(
        task,
        lambda: 0.0,
        TrainingConfig(epochs=40, evaluate_every=40, learning_rate=0.02, device="cpu"),
        seed=0,
    )
    learnt = _task(chain, full_softmax=True)
    learnt.model = learnt.module = task.module
    learnt.rows = task.rows
    assert _loss(learnt).item() < 0.8 * before


def test_an_event_counts_by_its_weight_in_its_domain():
    histories = [[(0, 1), (0, 2)], [(0, 3), (0, 4)], [(1, 1), (1, 2)]]

    def loss(*weight: float) -> float:
        task = _task(histories)
        events = replace(_events(histories), weight=np.asarray(weight, np.float32))
        weighted = NextItemTask(
            task.model,
            events,
            OFFSETS,
            task.config,
            weights=(1.0, 1.0),
            max_length=20,
            device=torch.device("cpu"),
        )
        return _loss(weighted).item()

    even = loss(1, 1, 1, 1, 1, 1)
    assert loss(3, 3, 3, 3, 3, 3) == even == _loss(_task(histories)).item()
    # The domain's events weigh 1 on average, whatever the unit.
    assert loss(1, 1, 1, 1, 7, 7) == pytest.approx(even)
    only_first, only_second = loss(1, 2, 1, 0, 1, 1), loss(1, 0, 1, 2, 1, 1)
    assert only_first != pytest.approx(only_second)
    assert (only_first + only_second) / 2 == pytest.approx(even, rel=1e-5)


class Pull(nn.Module):
    """A further loss with a parameter: asks for two rows and pulls them to a point it learns."""

    mark = "pull"

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.ones(4))
        self.steps: list[Step] = []

    def rows(self, batch: PackedBatch, rng: np.random.Generator) -> np.ndarray:
        return np.array([5, 14, 5])

    def forward(self, step: Step) -> Tensor:
        self.steps.append(step)
        asked = torch.searchsorted(step.rows, torch.tensor([5, 14]))
        return ((step.vectors[asked] - self.point) ** 2).sum()


def _pulled(extra: list[Pull], histories: list[list[tuple[int, int]]]) -> NextItemTask:
    config = TrainingConfig(batch_events=1000, negatives=5)
    return NextItemTask(
        Running(),
        _events(histories),
        OFFSETS,
        config,
        weights=(1.0, 1.0),
        max_length=20,
        device=torch.device("cpu"),
        extra=extra,
    )


def test_a_further_loss_sees_the_step_and_is_added():
    histories = _histories(1)
    pull = Pull()
    task = _pulled([pull], histories)
    task.progress = 0.25
    value = _loss(task).item()
    (step,) = pull.steps
    point = 2.0 * task.rows.table[[5, 14]]
    assert value == pytest.approx(_loss(_pulled([], histories)).item() + ((point - 1) ** 2).sum())
    assert step.progress == 0.25
    assert step.rows.tolist() == sorted(set(step.rows.tolist()))
    torch.testing.assert_close(step.vectors, 2.0 * task.rows.table[step.rows])
    read = [(u, d) for u, h in enumerate(histories) for d, _ in h[:-1]]
    assert sorted(zip(step.user.tolist(), step.domain.tolist(), strict=True)) == sorted(read)
    assert len(step.states) == len(read)


def test_items_that_only_a_further_loss_asks_for_learn_and_so_does_the_loss():
    histories = [[(0, 0), (0, 1), (0, 2)]] * 3
    task = _pulled([pull := Pull()], histories)
    task.weights = (0.0, 0.0)
    before, point = task.rows.table.clone(), pull.point.clone()
    train(task, lambda: None, TrainingConfig(epochs=5, learning_rate=0.01, device="cpu"), seed=0)
    moved = (task.rows.table != before).any(1).nonzero().squeeze(1).tolist()
    assert moved == [5, 14]
    assert not torch.equal(pull.point, point)
    assert [step.progress for step in pull.steps] == [0.0, 0.2, 0.4, 0.6, 0.8]


def _epoch(**how: object) -> tuple[NextItemTask, list[PackedBatch]]:
    rng = np.random.default_rng(2)
    histories = [
        [(d := int(rng.integers(2)), int(rng.integers(SIZES[d]))) for _ in range(12)]
        for _ in range(60)
    ]
    task = _task(histories, **{"batch_events": 64, **how})
    return task, list(task.batches(np.random.default_rng(0)))


def _as_new(task: NextItemTask, batch: PackedBatch) -> bool:
    """Whether it shows histories without the one domain that it asks about."""
    asked, read = (set(task.domain[at].tolist()) for at in (batch.targets, batch.inputs))
    return len(asked) == 1 and not asked & read


def test_steps_for_newcomers_come_beside_the_ordinary_ones_and_domains_take_turns():
    plain, ordinary = _epoch()
    assert not any(_as_new(plain, batch) for batch in ordinary)
    for share in (0.5, 1.0):
        task, batches = _epoch(newcomer_steps=share)
        new = [batch for batch in batches if _as_new(task, batch)]
        assert len(new) == pytest.approx(share * len(ordinary), abs=1)
        assert abs(task.batches_per_epoch - len(batches)) <= 2
        turns = [int(task.domain[batch.targets[0]]) for batch in new]
        assert turns[:4] == [0, 1, 0, 1]
        assert len(batches) - len(new) == len(ordinary)
        assert all(torch.isfinite(task.loss(b, np.random.default_rng(0))) for b in new)


def test_nobody_is_new_to_a_domain_that_is_not_learnt_or_stands_alone():
    task, batches = _epoch(newcomer_steps=1.0, weights=(0.0, 1.0))
    assert {int(task.domain[b.targets[0]]) for b in batches if _as_new(task, b)} == {1}
    alone = _task([[(0, 0), (0, 1), (0, 2)]] * 3, newcomer_steps=1.0)
    assert len(list(alone.batches(np.random.default_rng(0)))) == alone.batches_per_epoch == 1
