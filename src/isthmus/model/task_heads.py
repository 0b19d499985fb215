"""Task heads: a person's state and an item's vector in, a rating or a class out.

One head per task and domain; what they read of state and item is shared by all domains. A head of
one's own is a `torch.nn.Module` with `forward(read, facts)`, `loss(outputs, labels)` and
`answer(outputs)`; it is made with those of `width` (of what is read), `n_facts`, `n_classes`,
`levels` and `mean` that it asks for by name, and `tasks.rate.head` or `tasks.click.head` takes it
by its dotted path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isthmus.config import TasksConfig
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

    def __init__(self, width: int, n_facts: int, mean: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(float(mean)))
        self.biases = ShrunkSums(n_facts)
        self.add = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.add.weight)

    def forward(self, read: Tensor, facts: Tensor) -> Tensor:
        """[n, width], [n, n_facts] → ratings [n, 1]."""
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

    def __init__(self, width: int, n_facts: int, levels: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32))
        self.first = nn.Parameter(torch.tensor(-2.0))
        self.steps = nn.Parameter(torch.zeros(max(len(levels) - 2, 0)))
        self.biases = ShrunkSums(n_facts)
        self.add = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.add.weight)

    def forward(self, read: Tensor, facts: Tensor) -> Tensor:
        """[n, width], [n, n_facts] → log-chances of the levels [n, n_levels]."""
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
    """Chances of classes by cross-entropy."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.tell = nn.Linear(width, n_classes)
        nn.init.zeros_(self.tell.weight)

    def forward(self, read: Tensor, facts: Tensor) -> Tensor:
        """[n, width], [n, n_facts] → logits [n, n_classes]."""
        logits: Tensor = self.tell(read)
        return logits

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each, nats, [n]; labels are int64 class indices."""
        return F.cross_entropy(outputs, labels, reduction="none")

    def answer(self, outputs: Tensor) -> Tensor:
        """Probabilities, [n, n_classes]."""
        return outputs.softmax(1)


class TaskNet(nn.Module):
    """What all domains share of reading a pair, and a head for each.

    Numbers (the score of state and item, and the facts) tell most, and few examples are enough for
    them; the entries of state and item tell the rest, and many. So the entries are hidden at most
    steps and pass through a narrow layer. On a sample of Beauty and Toys (1,220 pairs to learn
    from) validation loss was 1.186 by numbers alone, 1.181 so, and 1.237 with all entries in one
    layer.

    Args:
        dim: width of states and item vectors.
        n_facts: further numbers of each pair.
        settings: widths and dropout.
        heads: one per domain.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self, dim: int, n_facts: int, settings: TasksConfig, heads: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        self.dim, self.n_facts = dim, n_facts
        n_numbers = numbers_of(n_facts)
        width = 3 * dim + n_numbers
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.entries = nn.Sequential(
            nn.Dropout(settings.entry_dropout), nn.Linear(3 * dim, settings.entries)
        )
        self.shared = nn.Sequential(
            nn.Linear(settings.entries + n_numbers, settings.hidden),
            nn.GELU(),
            nn.Dropout(settings.dropout),
        )
        self.heads = nn.ModuleList(heads)

    @torch.no_grad()
    def settle(self, pairs: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Take centre and scale of what comes in from (state, item, facts) to learn from."""
        inward = torch.cat([_inward(*pair) for pair in pairs])
        self.centre.copy_(inward.mean(0))
        self.scale.copy_(inward.std(0, unbiased=False).clamp(min=1e-6))

    def forward(self, state: Tensor, item: Tensor, facts: Tensor, domain: int) -> Tensor:
        """Outputs of one domain's head.

        Args:
            state: [n, dim] queries of the people.
            item: [n, dim] vectors of the items.
            facts: [n, n_facts] raw.
            domain: index of the domain of all these items.
        """
        inward = (_inward(state, item, facts) - self.centre) / self.scale
        numbers = inward[:, 3 * self.dim :]
        narrow = torch.cat([self.entries(inward[:, : 3 * self.dim]), numbers], dim=1)
        read = torch.cat([self.shared(narrow), numbers], dim=1)
        outputs: Tensor = self.heads[domain](read, facts)
        return outputs


def numbers_of(n_facts: int) -> int:
    """How many numbers beside the entries of state and item are read."""
    return 1 + 2 * n_facts


def _inward(state: Tensor, item: Tensor, facts: Tensor) -> Tensor:
    """Entries, the score, and the facts as they are and brought near 1, [n, width]."""
    score = (state * item).sum(1, keepdim=True)
    near = facts.sign() * facts.abs().log1p()
    return torch.cat([state, item, state * item, score, facts, near], dim=1)


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
