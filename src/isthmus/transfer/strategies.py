"""Strategies: what trains on which domains, in which order, from which start.

A strategy gives a list of `Stage`s; whoever runs them knows nothing else of it. A new strategy is
a small class with a name and `stages`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Stage:
    """One stretch of training.

    Attributes:
        name: shown with the progress bar and in the records.
        reads: domain indices whose events are read as history.
        weights: weight of each domain's mean loss, [n_domains]; 0 where a domain is not learnt.
    """

    name: str
    reads: tuple[int, ...]
    weights: tuple[float, ...]


class Strategy(Protocol):
    """A way to use several domains."""

    @property
    def name(self) -> str:
        """How it is called in reports."""
        ...

    def stages(self, n_domains: int, weights: tuple[float, ...]) -> list[Stage]:
        """What to train in turn; every stage starts where the one before ended.

        Args:
            n_domains: how many domains there are.
            weights: the configured weight of each domain's mean loss, [n_domains].
        """
        ...


@dataclass(frozen=True)
class TargetOnly:
    """The target's own events alone: what transfer is measured against."""

    target: int
    name: str = "target-only"

    def stages(self, n_domains: int, weights: tuple[float, ...]) -> list[Stage]:
        """One stage that neither reads nor learns any other domain."""
        only = tuple(w if d == self.target else 0.0 for d, w in enumerate(weights))
        return [Stage(self.name, (self.target,), only)]


@dataclass(frozen=True)
class Joint:
    """All domains at once: merged histories, the sum of per-domain mean losses."""

    name: str = "joint"

    def stages(self, n_domains: int, weights: tuple[float, ...]) -> list[Stage]:
        """One stage that reads and learns everything."""
        return [Stage(self.name, tuple(range(n_domains)), weights)]
