"""Which items and people the losses get to see in a step of training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.alignment.representations import Losses, RepresentationAlignment
from isthmus.data.batches import PackedBatch
from isthmus.training.next_item import Step

BOUNDS = (0, 4, 9, 12)
NO_BATCH = PackedBatch(np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))


class Seen(nn.Module):
    """Remembers what it was given."""

    needs_pairs = True

    def __init__(self, needs_pairs: bool = True) -> None:
        super().__init__()
        self.needs_pairs = needs_pairs
        self.progress = -1.0
        self.calls: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def forward(self, a: Tensor, b: Tensor, pairs: Tensor | None = None) -> Tensor:
        self.calls.append((a, b, pairs))
        return a.sum() * 0 + b.sum() * 0 + 1.0


def _aligned(
    items: dict[int, nn.Module] | None = None,
    people: dict[int, nn.Module] | None = None,
    *,
    pairs: dict[int, list[list[int]]] | None = None,
    warmup: float = 0.0,
    most: int = 100,
) -> RepresentationAlignment:
    levels = [
        {d: Losses({loss: 2.0}, most) for d, loss in (level or {}).items()}
        for level in (items, people)
    ]
    given = {d: np.array(rows, np.int64).reshape(-1, 2) for d, rows in (pairs or {}).items()}
    return RepresentationAlignment(
        BOUNDS, 0, *levels, pairs=given, warmup=warmup, most=most, mark=""
    )


def _step(rows: list[int], progress: float = 0.5) -> Step:
    """Item i has the vector [i, 0]; token t of user u in domain d the state [t, u]."""
    user = torch.tensor([3, 3, 3, 5, 5, 8])
    domain = torch.tensor([0, 1, 1, 0, 0, 1])
    vectors = torch.tensor([[float(r), 0.0] for r in rows])
    states = torch.stack([torch.arange(6.0), user.float()], 1)
    return Step(torch.tensor(rows), vectors, states, domain, user, progress, NO_BATCH)


def test_a_loss_on_items_sees_the_touched_ones_of_both_domains_and_their_pairs():
    seen = {1: Seen(), 2: Seen()}
    aligned = _aligned(seen, pairs={1: [[0, 1], [3, 4], [3, 0], [1, 2]], 2: [[3, 2], [2, 0]]})
    value = aligned(_step([0, 2, 3, 4, 5, 8, 9, 11]))
    ((a, b, pairs),) = seen[1].calls
    assert a[:, 0].tolist() == [0, 2, 3]
    assert b[:, 0].tolist() == [4, 5, 8]
    # Local (0, 1), (3, 4) and (3, 0) are flat (0, 5), (3, 8) and (3, 4); item 1 is not touched.
    assert [(a[i, 0].item(), b[j, 0].item()) for i, j in pairs] == [(0, 5), (3, 8), (3, 4)]
    # One pair of domain 2 is touched whole, and is nothing to tell from others.
    assert not (seen[2].calls and len(seen[2].calls[0][2]) < 2)  # type: ignore[arg-type]
    assert float(value) == 2.0 * (1 + len(seen[2].calls))


def test_it_asks_for_items_of_pairs_and_no_more_than_it_may():
    pairs = {1: [[i % 4, i % 5] for i in range(20)], 2: [[1, 1]]}
    aligned = _aligned({1: Seen()}, pairs=pairs, most=3)
    rows = aligned.rows(NO_BATCH, np.random.default_rng(0)).reshape(-1, 2)
    assert len(rows) == 4
    asked = {(int(i), int(j)) for i, j in rows}
    assert asked <= {(i % 4, 4 + i % 5) for i in range(20)} | {(1, 10)}
    assert len(_aligned({1: Seen()}).rows(NO_BATCH, np.random.default_rng(0))) == 0


def test_a_loss_on_people_sees_mean_states_and_who_is_in_both():
    seen = Seen()
    _aligned(people={1: seen})(_step([0, 4]))
    ((a, b, pairs),) = seen.calls or [(None, None, None)]
    # Only user 3 is in both: one pair is nothing to tell from others, so it is not even called.
    assert a is None
    anyone = Seen(needs_pairs=False)
    _aligned(people={1: anyone})(_step([0, 4]))
    ((a, b, pairs),) = anyone.calls
    assert a.tolist() == [[0.0, 3.0], [3.5, 5.0]]
    assert b.tolist() == [[1.5, 3.0], [5.0, 8.0]]
    assert pairs is None


def test_many_rows_are_sampled_and_few_are_left_alone():
    seen = Seen(needs_pairs=False)
    _aligned({1: seen}, most=2)(_step([0, 1, 2, 3, 4, 5, 6]))
    ((a, b, _),) = seen.calls
    assert len(a) == len(b) == 2
    assert set(a[:, 0].tolist()) <= {0, 1, 2, 3}
    lonely = Seen(needs_pairs=False)
    assert float(_aligned({1: lonely})(_step([0, 1, 4]))) == 0
    assert not lonely.calls


def test_weights_rise_with_training_and_the_share_done_is_passed_on():
    seen = Seen(needs_pairs=False)
    aligned = _aligned({1: seen}, warmup=0.4)
    found = [float(aligned(_step([0, 1, 4, 5], p))) for p in (0.0, 0.1, 0.4, 1.0)]
    assert found == [0.0, 0.5, 2.0, 2.0]
    assert seen.progress == 1.0


def test_of_many_pairs_whole_rows_of_the_anchor_are_drawn():
    """(2, 0) is no negative because it was not drawn: no pair of a row that was is left out."""
    seen, known = Seen(), torch.tensor([[i, j] for i in range(8) for j in range(1 + i % 3)])
    losses = Losses({seen: 1.0}, most=6)
    for _ in range(20):
        losses(torch.ones(8, 2), torch.ones(3, 2), known, 0.5)
        drawn = seen.calls[-1][2]
        assert drawn is not None
        assert 4 <= len(drawn) <= 6
        whole = known[torch.isin(known[:, 0], drawn[:, 0])]
        assert sorted(drawn.tolist()) == whole.tolist()
    alone = torch.tensor([[0, j] for j in range(9)])
    losses(torch.ones(8, 2), torch.ones(9, 2), alone, 0.5)
    assert len(seen.calls[-1][2]) == 6  # type: ignore[arg-type]
