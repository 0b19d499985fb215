"""Heads of rating and class, and how they are found by name."""

import numpy as np
import pytest
import torch
from torch import nn

from isthmus.config import TasksConfig
from isthmus.errors import ConfigError
from isthmus.model.task_heads import (
    OrdinalHead,
    ShrunkSums,
    SoftmaxHead,
    SquaredHead,
    TaskNet,
    numbers_of,
    task_heads,
)

FACTS = torch.tensor([[4.0, 2.0], [40.0, 20.0], [0.0, 0.0]])


class Doubtful(nn.Module):
    """Tells every class with the same chance."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.n_classes = n_classes

    def forward(self, read: torch.Tensor, facts: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(read), self.n_classes)

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs, labels, reduction="none")

    def answer(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs.softmax(1)


def test_few_ratings_leave_a_bias_near_zero() -> None:
    sums = ShrunkSums(2)
    few, many, none = sums(FACTS).tolist()
    assert none == 0
    assert 0 < few < many < 0.5 * 2


def test_without_any_facts_a_fresh_head_tells_the_mean() -> None:
    head = SquaredHead(width=4, n_facts=2, mean=3.5)
    told = head.answer(head(torch.randn(3, 4), FACTS)).tolist()
    assert told[2] == pytest.approx(3.5)
    assert told[1] > told[0] > 3.5


def test_chances_of_ratings_add_up_and_liking_shifts_them_up() -> None:
    torch.manual_seed(0)
    head = OrdinalHead(width=4, n_facts=2, levels=[1.0, 2.0, 3.0, 4.0, 5.0])
    outputs = head(torch.zeros(3, 4), FACTS)
    assert outputs.exp().sum(1).detach().numpy() == pytest.approx(np.ones(3), abs=1e-5)
    told = head.answer(outputs).tolist()
    assert told[1] > told[0] > told[2]
    assert head.loss(outputs, torch.tensor([5.0, 5.0, 5.0])).argmin() == 1


@pytest.mark.parametrize("n_classes", [2, 5])
def test_classes_of_any_number_have_chances(n_classes: int) -> None:
    head = SoftmaxHead(width=4, n_classes=n_classes)
    outputs = head(torch.randn(6, 4), FACTS.repeat(2, 1))
    chances = head.answer(outputs)
    assert chances.shape == (6, n_classes)
    assert torch.allclose(chances.sum(1), torch.ones(6))
    assert head.loss(outputs, torch.zeros(6, dtype=torch.int64)).shape == (6,)


def test_the_head_of_another_domain_does_not_matter() -> None:
    torch.manual_seed(0)
    heads = [SquaredHead(8 + numbers_of(2), 2, mean=mean) for mean in (2.0, 4.0)]
    net = TaskNet(4, 2, TasksConfig(hidden=8), heads).eval()
    inputs = torch.randn(3, 4), torch.randn(3, 4), FACTS
    before = net(*inputs, 0)
    with torch.no_grad():
        heads[1].mean += 1
    assert torch.equal(net(*inputs, 0), before)
    assert not torch.equal(net(*inputs, 1), before)


def test_what_comes_in_is_brought_to_one_scale() -> None:
    torch.manual_seed(0)
    head = SoftmaxHead(8 + numbers_of(2), n_classes=2)
    nn.init.normal_(head.tell.weight)
    net = TaskNet(4, 2, TasksConfig(hidden=8), [head]).eval()
    state, item, facts = torch.randn(50, 4), torch.randn(50, 4), torch.randn(50, 2)
    net.settle([(state, item, facts)])
    before = net(state, item, facts, 0)
    # State and item a hundred times as large tell the same, once that is known.
    net.settle([(state * 100, item * 100, facts)])
    assert torch.allclose(net(state * 100, item * 100, facts, 0), before, atol=1e-4)


def test_a_head_of_ones_own_is_found_and_made_with_what_it_asks_for() -> None:
    offered = [{"n_classes": 3, "width": 8, "n_facts": 2}] * 2
    heads = task_heads("click", f"{__name__}:Doubtful", 2, offered)
    assert [head.n_classes for head in heads] == [3, 3]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("softmacks", "Did you mean 'softmax'?"),
        ("isthmus.errors:ConfigError", "is no task head"),
        ("torch.nn:Linear", "is no task head"),
        ("nowhere:Head", "cannot be imported"),
    ],
)
def test_what_is_no_head_is_refused(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        task_heads("click", name, 1, [{}])
