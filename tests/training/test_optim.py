from itertools import pairwise

import pytest
import torch

from isthmus.training.optim import RowAdam, warmup_cosine


def test_rows_that_are_always_touched_move_as_under_torch_adam():
    table = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    reference = table.clone().requires_grad_()
    adam = torch.optim.Adam([reference], lr=0.01, betas=(0.9, 0.98))
    rows = RowAdam(table)
    everything = torch.arange(6)
    for step in range(5):
        leaf = rows.take(everything)
        ((leaf - step) ** 3).sum().backward()
        rows.step(0.01)
        adam.zero_grad()
        ((reference - step) ** 3).sum().backward()
        adam.step()
    assert torch.allclose(table, reference.detach(), atol=1e-6)


def test_other_rows_and_their_moments_stay_untouched():
    table = torch.ones(5, 2)
    rows = RowAdam(table)
    leaf = rows.take(torch.tensor([1, 3]))
    leaf.sum().backward()
    rows.step(0.1)
    assert torch.equal(table[[0, 2, 4]], torch.ones(3, 2))
    assert (table[[1, 3]] < 1).all()
    assert rows.first[[0, 2, 4]].abs().sum() == 0
    assert rows.steps.tolist() == [0, 1, 0, 1, 0]


def test_moments_resume_to_the_same_updates():
    def steps(rows: RowAdam, n: int) -> None:
        for k in range(n):
            leaf = rows.take(torch.tensor([0, 2]))
            (leaf * (k + 1)).sum().backward()
            rows.step(0.05)

    straight = torch.zeros(3, 2)
    steps(RowAdam(straight), 4)
    resumed = torch.zeros(3, 2)
    first = RowAdam(resumed)
    steps(first, 2)
    second = RowAdam(resumed)
    second.load({name: value.clone() for name, value in first.state().items()})
    for k in (2, 3):
        leaf = second.take(torch.tensor([0, 2]))
        (leaf * (k + 1)).sum().backward()
        second.step(0.05)
    assert torch.allclose(straight, resumed, atol=1e-7)


def test_schedule_rises_then_falls_to_its_floor():
    factors = [warmup_cosine(s, 100, 0.1) for s in range(120)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == pytest.approx(1.0)
    assert factors.index(max(factors)) in (9, 10)
    assert all(a >= b for a, b in pairwise(factors[10:]))
    assert factors[-1] == pytest.approx(0.05)
