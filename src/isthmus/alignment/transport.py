"""Sinkhorn: one domain carried onto another as a whole, at least cost, without any pair.

Sources: Cuturi, "Sinkhorn Distances", NeurIPS 2013 (entropic transport); Courty et al., "Optimal
Transport for Domain Adaptation", PAMI 2017 (barycentric map); Pooladian and Niles-Weed, "Entropic
estimation of optimal transport maps", 2021 (the map for vectors that were not in the fit).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.alignment.sampling import content_sample

CHUNK = 2048
_CHECK_EVERY = 10


@dataclass(frozen=True)
class Plan:
    """An entropic transport plan between two uniform clouds, by its potentials.

    The plan itself is exp((f_i + g_j - c_ij) / ε) / (n m) and is never kept.

    Attributes:
        f: float64 [n] potential of the first cloud.
        g: float64 [m] potential of the second.
        epsilon: the regularisation, in units of the cost.
        gap: how far the row sums of the plan are from uniform, summed, between 0 and 2.
    """

    f: Tensor
    g: Tensor
    epsilon: float
    gap: float


def sinkhorn(
    cost: Tensor, epsilon: float, *, tolerance: float = 1e-3, iterations: int = 1000
) -> Plan:
    """Solve entropic transport with uniform weights in the log domain.

    Args:
        cost: float64 [n, m].
        epsilon: regularisation, in units of the cost; reached in halving steps from the cost's
            largest value, which takes far fewer iterations than starting with it.
        tolerance: largest `gap` at which it stops.
        iterations: most updates of both potentials.
    """
    n, m = cost.shape
    f, g = cost.new_zeros(n), cost.new_zeros(m)
    level = max(float(cost.max()), epsilon)
    gap = math.inf
    for step in range(iterations):
        f = _soft_minimum(cost, g, level, 1) + level * math.log(m)
        g = _soft_minimum(cost.T, f, level, 1) + level * math.log(n)
        if level > epsilon:
            level = max(epsilon, level / 2)
        elif step % _CHECK_EVERY == 0 or step == iterations - 1:
            exact = _soft_minimum(cost, g, level, 1) + level * math.log(m)
            gap = float((torch.exp((f - exact) / level) - 1).abs().mean())
            if gap <= tolerance:
                break
    return Plan(f, g, epsilon, gap)


def _soft_minimum(cost: Tensor, potential: Tensor, epsilon: float, dim: int) -> Tensor:
    """-ε log Σ_j exp((g_j - c_ij) / ε) for every row."""
    return -epsilon * torch.logsumexp((potential[None, :] - cost) / epsilon, dim)


@dataclass(frozen=True)
class Sinkhorn:
    """The barycentric map of an entropic transport plan.

    A vector goes to the mean of the vectors that its mass is sent to. The plan is solved between
    at most `points` vectors of each domain, chosen by content, so that memory and time are bounded
    by points × points whatever the catalogues' size; every vector, of the sample or not, is then
    mapped by the potential of the domain that stands still, in chunks.

    Attributes:
        support: float32 [m, d] vectors that mass is sent to.
        potential: float64 [m] of these.
        epsilon: regularisation, in units of the squared distance.
        gap: of the plan; see `Plan`.
    """

    support: NDArray[np.float32]
    potential: NDArray[np.float64]
    epsilon: float
    gap: float

    @classmethod
    def fit(
        cls,
        a: NDArray[np.float32],
        b: NDArray[np.float32],
        pairs: NDArray[np.int64] | None = None,
        *,
        epsilon: float = 0.01,
        points: int = 2000,
        tolerance: float = 1e-3,
    ) -> Self:
        """Find the map from a [n, d] to b [m, d].

        Args:
            a: vectors of the domain that moves.
            b: vectors of the domain that stands still.
            pairs: unused; transport needs none.
            epsilon: regularisation as a share of the mean squared distance. Less follows single
                items, more blurs them into one mean.
            points: most vectors of each domain that the plan is solved for.
            tolerance: see `sinkhorn`.
        """
        some, support = (x[content_sample(x, points)] for x in (a, b))
        cost = _squared_distances(some, support)
        scale = epsilon * max(float(cost.mean()), np.finfo(np.float64).tiny)
        plan = sinkhorn(cost, scale, tolerance=tolerance)
        return cls(support, plan.g.numpy(), scale, plan.gap)

    def transform(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of the first domain [n, d] → float32 [n, d] among those of the second."""
        moved = np.empty((len(vectors), self.support.shape[1]), np.float32)
        support, potential = torch.from_numpy(self.support), torch.from_numpy(self.potential)
        for start in range(0, len(vectors), CHUNK):
            rows = vectors[start : start + CHUNK]
            cost = _squared_distances(rows, self.support)
            weights = torch.softmax((potential[None, :] - cost) / self.epsilon, 1)
            moved[start : start + CHUNK] = (weights @ support.double()).numpy()
        return moved


def _squared_distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> Tensor:
    """float64 [n, m]."""
    one, other = (torch.from_numpy(np.ascontiguousarray(x)).double() for x in (a, b))
    return torch.cdist(one, other, compute_mode="use_mm_for_euclid_dist").square_()
