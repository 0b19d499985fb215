"""Task heads: a person's state and an item's vector in, a rating or a class out.

One head per task and domain; what they read of state and item is shared by all domains. A head of
one's own is a `torch.nn.Module` with `forward(read, facts)`, `loss(outputs, labels)` and
`answer(outputs)`; it is made with those of `hidden`, `n_facts`, `n_classes`, `levels` and `mean`
that it asks for by name, and `tasks.rate.head` or `tasks.click.head` takes it by its dotted path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isthmus.errors import ConfigError
from isthmus.settings import asked_for, component

HEADS = {
    "rate": {
        "squared": "isthmus.model.task_heads:SquaredHead",
        "ordinal": "isthmus.model.task_heads:OrdinalHead",
    },
    "click": {"softmax": "isthmus.model.task_heads:SoftmaxHead"},
}
_SAID = ("forward", "loss", "answer")


class ShrunkSums(nn.Module):
    """Sums of deviations, each divided by n + k: a mean that few examples leave near zero.

    How much is few (k) and how much each mean counts are learnt.

    Args:
        n_facts: twice the number of sums.
    """

    def __init__(self, n_facts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((n_facts // 2,), 0.5))
        self.log_k = nn.Parameter(torch.full((n_facts // 2,), 1.0))

    def forward(self, facts: Tensor) -> Tensor:
        """Alternating sums and counts [n, n_facts] → their weighted shrunk means, added up [n]."""
        means = facts[:, 0::2] / (facts[:, 1::2] + self.log_k.exp())
        biases: Tensor = (means * self.weight).sum(1)
        return biases


class SquaredHead(nn.Module):
    """A rating: the domain's mean, the biases of person and item, and what state and item add.

    Facts are sums of deviations and how many, in turn (`isthmus.tasks.facts`). Source of the
    biases: Koren, "Factorization meets the neighborhood", KDD 2008; here k is learnt.
    """

    def __init__(self, hidden: int, n_facts: int, mean: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(float(mean)))
        self.biases = ShrunkSums(n_facts)
        self.add = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.add.weight)

    def forward(self, read: Tensor, facts: Tensor) -> Tensor:
        """[n, hidden], [n, n_facts] → ratings [n, 1]."""
        rating: Tensor = (self.mean + self.biases(facts))[:, None] + self.add(read)
        return rating

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Squared error of each, [n]."""
        return (outputs[:, 0] - labels) ** 2

    def answer(self, outputs: Tensor) -> Tensor:
        """The ratings, [n]."""
        return outputs[:, 0]


class OrdinalHead(nn.Module):
    """A chance for every rating that occurs, by cumulative logits; told as its expected value.

    Source: McCullagh, "Regression models for ordinal data", JRSS B 1980. For recommendation: Koren
    and Sill, "OrdRec", RecSys 2011.
    """

    levels: Tensor

    def __init__(self, hidden: int, n_facts: int, levels: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32))
        self.first = nn.Parameter(torch.tensor(-2.0))
        self.steps = nn.Parameter(torch.zeros(max(len(levels) - 2, 0)))
        self.biases = ShrunkSums(n_facts)
        self.add = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.add.weight)

    def forward(self, read: Tensor, facts: Tensor) -> Tensor:
        """[n, hidden], [n, n_facts] → log-chances of the levels [n, n_levels]."""
        liking = self.biases(facts) * 2 + self.add(read)[:, 0]
        thresholds = torch.cat([self.first[None], self.first + F.softplus(self.steps).cumsum(0)])
        below = torch.sigmoid(thresholds[None] - liking[:, None])
        edges = F.pad(F.pad(below, (1, 0), value=0.0), (0, 1), value=1.0)
        return edges.diff(dim=1).clamp(min=1e-6).log()

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """−log of the chance of the level nearest to each rating, [n]."""
        nearest = (labels[:, None] - self.levels).abs().argmin(1)
        return -outputs.gather(1, nearest[:, None])[:, 0]

    def answer(self, outputs: Tensor) -> Tensor:
        """Expected ratings, [n]."""
        chances = outputs.exp()
        expected: Tensor = (chances * self.levels).sum(1) / chances.sum(1)
        return expected


class SoftmaxHead(nn.Module):
    """Chances of classes by cross-entropy; facts count directly as well as through what is read."""

    def __init__(self, hidden: int, n_facts: int, n_classes: int) -> None:
        super().__init__()
        self.read = nn.Linear(hidden, n_classes)
        self.direct = nn.Linear(n_facts, n_classes, bias=False)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.direct.weight)

    def forward(self, read: Tensor, facts: Tensor) -> Tensor:
        """[n, hidden], [n, n_facts] → logits [n, n_classes]."""
        logits: Tensor = self.read(read) + self.direct(facts)
        return logits

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each, nats, [n]; labels are int64 class indices."""
        return F.cross_entropy(outputs, labels, reduction="none")

    def answer(self, outputs: Tensor) -> Tensor:
        """Probabilities, [n, n_classes]."""
        return outputs.softmax(1)


class TaskNet(nn.Module):
    """What all domains share of reading a pair, and a head for each.

    Args:
        dim: width of states and item vectors.
        n_facts: further numbers of each pair.
        hidden: width of what is read.
        dropout: on it.
        heads: one per domain.
    """

    def __init__(
        self, dim: int, n_facts: int, hidden: int, dropout: float, heads: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.shared = nn.Sequential(
            nn.Linear(3 * dim + 1 + n_facts, hidden), nn.GELU(), nn.Dropout(dropout)
        )
        self.heads = nn.ModuleList(heads)

    def forward(self, state: Tensor, item: Tensor, facts: Tensor, domain: int) -> Tensor:
        """Outputs of one domain's head.

        Args:
            state: [n, dim] queries of the people.
            item: [n, dim] vectors of the items.
            facts: [n, n_facts] raw.
            domain: index of the domain of all these items.
        """
        score = (state * item).sum(1, keepdim=True)
        inward = torch.cat([state, self.norm(item), state * item, score, _squashed(facts)], dim=1)
        outputs: Tensor = self.heads[domain](self.shared(inward), facts)
        return outputs


def _squashed(facts: Tensor) -> Tensor:
    """Numbers of any size brought near 1, their signs kept."""
    return facts.sign() * facts.abs().log1p()


def task_heads(
    task: str, name: str, n_domains: int, offered: Sequence[Mapping[str, Any]]
) -> list[nn.Module]:
    """One head per domain, each made with what it asks for by name.

    Args:
        task: `rate` or `click`.
        name: of the head, or its dotted path.
        n_domains: how many.
        offered: what a head may ask for, by domain.

    Raises:
        ConfigError: a class that cannot be found, or that is no head.
    """
    where = f"tasks.{task}.head"
    kind: Any = component(name, HEADS[task], where=where)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)) or not all(
        callable(getattr(kind, method, None)) for method in _SAID
    ):
        raise ConfigError(
            f"{name!r} is no task head",
            where=where,
            hint="A head is a torch.nn.Module with forward, loss and answer",
        )
    return [kind(**asked_for(kind, offered[d])) for d in range(n_domains)]
