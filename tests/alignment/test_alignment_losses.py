from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from isthmus.alignment.losses import MMD, Adversarial, CoralLoss, InfoNCE, mmd

DIM = 24
PLAIN = {"mmd": MMD, "coral": CoralLoss, "infonce": InfoNCE}


def _clouds(n: int = 60) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(n, DIM, generator=generator)
    b = 2 * torch.randn(n, DIM, generator=generator) + 3
    return a, b


def _trained(loss: nn.Module, steps: int = 400, rate: float = 0.05) -> tuple[list[float], Tensor]:
    """Values of the loss while the second cloud's points are moved to bring it down."""
    a, b = _clouds()
    b = b.requires_grad_()
    optimiser = torch.optim.Adam([b, *loss.parameters()], lr=rate)
    values = []
    for _ in range(steps):
        value = loss(a, b)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(value.item())
    return values, b.detach()


@pytest.mark.parametrize("name", PLAIN)
def test_each_loss_falls_to_about_zero_on_two_clouds(name):
    values, _ = _trained(PLAIN[name]())
    assert values[-1] < 0.03 * values[0]
    assert values[-1] == pytest.approx(0, abs=0.05)


def test_an_adversary_ends_up_guessing():
    torch.manual_seed(0)
    loss = Adversarial(DIM)
    move = nn.Linear(DIM, DIM)
    nn.init.eye_(move.weight)
    nn.init.zeros_(move.bias)
    # What is moved must be slower than the one that judges it.
    rates = [{"params": move.parameters(), "lr": 1e-3}, {"params": loss.parameters(), "lr": 1e-2}]
    optimiser = torch.optim.Adam(rates)
    before, values = 0.0, []
    for step in range(800):
        a, b = torch.randn(128, DIM), 1.3 * torch.randn(128, DIM) + 0.5
        before = before or mmd(a, b).item()
        loss.progress = step / 800
        value = loss(a, move(b))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert min(values) < 0.5 * math.log(2)
    assert sum(values[-50:]) / 50 == pytest.approx(math.log(2), abs=0.07)
    assert mmd(a, move(b)).item() < 0.2 * before


def test_the_gradient_comes_back_reversed_and_grows_with_training():
    a, b = _clouds(20)
    torch.manual_seed(0)
    loss = Adversarial(DIM, stop_gradient=False)
    gradients = {}
    for progress in (0.0, 0.1, 1.0):
        loss.progress = progress
        x = b.clone().requires_grad_()
        loss.zero_grad()
        loss(a, x).backward()
        gradients[progress] = x.grad.clone()  # type: ignore[union-attr]
    x = b.clone().requires_grad_()
    straight = loss.discriminator((x - a.mean(0)) / (a - a.mean(0)).square().mean().sqrt())
    nn.functional.softplus(-straight).mean().div(2).backward()
    assert not gradients[0.0].any()
    ramp = 2 / (1 + math.exp(-1)) - 1
    torch.testing.assert_close(gradients[0.1], -ramp * x.grad)
    torch.testing.assert_close(gradients[1.0], -x.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("name", [*PLAIN, "adversarial"])
def test_the_source_takes_a_gradient_only_where_it_may(name, stop):
    a, b = (x.requires_grad_() for x in _clouds(30))
    torch.manual_seed(0)
    if name == "adversarial":
        loss: nn.Module = Adversarial(DIM, stop_gradient=stop)
    else:
        loss = PLAIN[name](stop_gradient=stop)
    loss(a, b).backward()
    assert (a.grad is None) == stop
    assert b.grad is not None
    assert b.grad.abs().sum() > 0


def test_infonce_is_the_cross_entropy_of_each_pair_among_all():
    a, b = _clouds(12)
    pairs = torch.tensor([[3, 1], [4, 5], [7, 2], [9, 11]])
    one, two = (nn.functional.normalize(x[pairs[:, i]], dim=1) for i, x in enumerate((a, b)))
    logits = (one @ two.T / 0.2).double()
    slow = 0.0
    for i in range(4):
        slow -= float(logits[i, i] - logits[i].exp().sum().log()) / 8
        slow -= float(logits[i, i] - logits[:, i].exp().sum().log()) / 8
    assert float(InfoNCE(temperature=0.2)(a, b, pairs)) == pytest.approx(slow, rel=1e-5)


def test_partners_of_one_item_are_no_negatives_of_each_other():
    a, b = _clouds(8)
    loss = InfoNCE()
    # Item 0 belongs to both 1 and 2, and nothing else is there to compare with.
    assert float(loss(a, b, torch.tensor([[0, 1], [0, 2]]))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("size", [2, 10])
def test_groups_of_which_each_belongs_to_each_are_no_negatives_of_each_other(size):
    """(0, 0), (0, 1), (1, 0) and (1, 1) are pairs: so nothing else is there to compare with."""
    a = torch.eye(DIM)[:2].repeat_interleave(torch.tensor([size, 1]), dim=0)
    group = [(i, j) for i in range(size) for j in range(size)]
    pairs = torch.tensor([*group, (size, size)])
    assert float(InfoNCE()(a, a, pairs)) < 0.01


@pytest.mark.parametrize("name", [*PLAIN, "adversarial"])
def test_nothing_to_compare_is_zero_with_a_gradient_of_zero(name):
    loss = Adversarial(DIM) if name == "adversarial" else PLAIN[name]()
    b = torch.zeros(0, DIM, requires_grad=True)
    value = loss(torch.zeros(0, DIM), b)
    value.backward()
    assert value.item() == 0


def test_equal_points_do_not_break_the_kernel():
    a, b = torch.ones(4, DIM), torch.ones(5, DIM, requires_grad=True)
    value = MMD()(a, b)
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(b.grad).all()  # type: ignore[arg-type]
