"""Representation alignment: losses that draw what is learnt of two domains together.

Each is an `nn.Module` whose `forward(a, b, pairs=None)` takes vectors of the source domain [n, d],
of the other domain [m, d] and the rows that belong together, and gives a scalar. By default only
`b` is drawn: the source side takes no gradient.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Squared widths of the kernel mixture, in multiples of the median squared distance."""


def mmd(a: Tensor, b: Tensor, bandwidths: tuple[float, ...] = BANDWIDTHS) -> Tensor:
    """Unbiased squared maximum mean discrepancy with a mixture of Gaussian kernels.

    The middle width is the median distance of all pairs of rows, which takes no gradient. Source:
    Gretton et al., JMLR 2012.

    Args:
        a: [n, d], at least two rows.
        b: [m, d], at least two rows.
        bandwidths: multiples of the median squared distance.
    """
    n, m = len(a), len(b)
    both = torch.cat([a, b])
    squares = (both * both).sum(1)
    squared = (squares[:, None] + squares[None, :] - 2 * both @ both.T).clamp(min=0)
    different = ~torch.eye(n + m, dtype=torch.bool, device=both.device)
    median = squared.detach()[different].median()
    # Clouds of equal points have no width of their own.
    width = torch.where(median > 0, median, torch.ones_like(median))
    kernel = torch.zeros_like(squared)
    for multiple in bandwidths:
        kernel = kernel + torch.exp(-squared / (multiple * width))
    kernel = kernel * different / len(bandwidths)
    one, other = kernel[:n, :n].sum() / (n * (n - 1)), kernel[n:, n:].sum() / (m * (m - 1))
    return one + other - 2 * kernel[:n, n:].mean()


class MMD(nn.Module):
    """Squared maximum mean discrepancy: both clouds should look alike as a whole.

    Args:
        stop_gradient: whether `a` stands still.
        bandwidths: see `mmd`.
    """

    def __init__(
        self, *, stop_gradient: bool = True, bandwidths: tuple[float, ...] = BANDWIDTHS
    ) -> None:
        super().__init__()
        self.stop_gradient, self.bandwidths = stop_gradient, bandwidths

    def forward(self, a: Tensor, b: Tensor, pairs: Tensor | None = None) -> Tensor:
        """[n, d] and [m, d] → a scalar; `pairs` are not read. Zero with fewer than two rows."""
        if min(len(a), len(b)) < 2:
            return b.sum() * 0
        return mmd(_source(a, self.stop_gradient), b, self.bandwidths)


class CoralLoss(nn.Module):
    """Mean squared difference of the means and of the covariances.

    Source: Sun and Saenko, "Deep CORAL", ECCVW 2016, which has the covariances alone; here they
    are taken relative to the source's variance, so that the loss does not vanish with the size of
    the vectors.

    Args:
        stop_gradient: whether `a` stands still.
    """

    def __init__(self, *, stop_gradient: bool = True) -> None:
        super().__init__()
        self.stop_gradient = stop_gradient

    def forward(self, a: Tensor, b: Tensor, pairs: Tensor | None = None) -> Tensor:
        """[n, d] and [m, d] → a scalar; `pairs` are not read. Zero with fewer than two rows."""
        if min(len(a), len(b)) < 2:
            return b.sum() * 0
        a = _source(a, self.stop_gradient)
        size = a.detach().var(0).mean().clamp(min=torch.finfo(a.dtype).tiny)
        centres = (a.mean(0) - b.mean(0)).square().mean() / size
        spreads = (torch.cov(a.T) - torch.cov(b.T)).square().sum() / (len(a.T) * size**2)
        return centres + spreads


class Adversarial(nn.Module):
    """A discriminator learns to tell the domains apart; what it reads learns to fool it.

    The gradient is reversed on its way from the discriminator to the vectors and grows as
    2 / (1 + exp(-10 p)) - 1 with the share p of training done. Source: Ganin et al.,
    "Domain-Adversarial Training of Neural Networks", JMLR 2016.

    The loss is the discriminator's cross-entropy: log 2 where it can only guess.

    Args:
        dim: width of the vectors, which are measured by the centre and the spread of `a`.
        hidden: width of the discriminator's one hidden layer.
        stop_gradient: whether `a` stands still.

    Attributes:
        progress: share of training done, for whoever trains to set.
    """

    def __init__(self, dim: int, *, hidden: int = 64, stop_gradient: bool = True) -> None:
        super().__init__()
        self.stop_gradient = stop_gradient
        self.progress = 1.0
        self.discriminator = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, a: Tensor, b: Tensor, pairs: Tensor | None = None) -> Tensor:
        """[n, d] and [m, d] → nats; `pairs` are not read. Zero with fewer than two rows."""
        if min(len(a), len(b)) < 2:
            return b.sum() * 0
        strength = 2 / (1 + math.exp(-10 * self.progress)) - 1
        # Vectors start small; the discriminator should not have to wait for them to grow.
        centre = a.detach().mean(0)
        size = (a.detach() - centre).square().mean().sqrt()
        a, b = ((x - centre) / size.clamp(min=1e-6) for x in (_source(a, self.stop_gradient), b))
        one, other = (self.discriminator(_reverse(x, strength)).squeeze(1) for x in (a, b))
        # Each domain counts the same, however many rows it has here.
        return (F.softplus(one).mean() + F.softplus(-other).mean()) / 2


class InfoNCE(nn.Module):
    """Each pair should be closer than either is to the rest, both ways round.

    Source: van den Oord et al., "Representation Learning with Contrastive Predictive Coding",
    2018, symmetric as in CLIP (Radford et al. 2021).

    Args:
        temperature: of the cosines.
        stop_gradient: whether `a` stands still.
    """

    needs_pairs: ClassVar[bool] = True

    def __init__(self, *, temperature: float = 0.1, stop_gradient: bool = True) -> None:
        super().__init__()
        self.temperature, self.stop_gradient = temperature, stop_gradient

    def forward(self, a: Tensor, b: Tensor, pairs: Tensor | None = None) -> Tensor:
        """[n, d], [m, d] and int64 [p, 2] → a scalar in nats. Zero with fewer than two pairs.

        Args:
            a: vectors of the source.
            b: vectors of the other domain.
            pairs: rows that belong together; None: row i of `a` with row i of `b`. The other
                pairs' rows are the negatives, but for those that make a pair with the row too.
        """
        if pairs is None:
            pairs = torch.arange(len(a), device=a.device)[:, None].expand(-1, 2)
        if len(pairs) < 2:
            return b.sum() * 0
        rows, columns = pairs[:, 0], pairs[:, 1]
        one = F.normalize(_source(a, self.stop_gradient).index_select(0, rows), dim=1)
        other = F.normalize(b.index_select(0, columns), dim=1)
        logits = one @ other.T / self.temperature
        cell = rows[:, None] * len(b) + columns
        partners = torch.isin(cell, cell.diagonal())
        partners.fill_diagonal_(fill_value=False)
        logits = logits.masked_fill(partners, -torch.inf)
        answer = torch.arange(len(pairs), device=a.device)
        return (F.cross_entropy(logits, answer) + F.cross_entropy(logits.T, answer)) / 2


class _Reversal(torch.autograd.Function):
    """The identity, whose gradient comes back reversed and scaled."""

    @staticmethod
    def forward(ctx, x: Tensor, strength: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        return -ctx.strength * gradient, None


def _reverse(x: Tensor, strength: float) -> Tensor:
    reversed_: Tensor = _Reversal.apply(x, strength)  # type: ignore[no-untyped-call]
    return reversed_


def _source(a: Tensor, stop_gradient: bool) -> Tensor:
    return a.detach() if stop_gradient else a
