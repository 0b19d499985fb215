"""Stages: the typed steps that a strategy is a list of. They say what happens, not how.

Each starts where the one before it ended. `isthmus.transfer.execution` runs them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Train:
    """Next-item training.

    Attributes:
        name: shown with the progress bar and in the records; names the checkpoint folder, so no
            two stages of a strategy share one.
        reads: domain indices whose training events are read as history.
        weights: weight of each domain's mean loss, [n_domains]; 0 where a domain is not learnt.
        share: of the configured epochs. The shares of a strategy add up to at most 1, so that no
            strategy has a larger budget than another.
        ids: whether items are known by their IDs beside their texts; without, the ID table stays
            as it is.
        rate: learning rate of all weights but ID rows, as a multiple of the configured one.
        frozen: weights that stay as they are, by the start of their names in `CoreModel`, such as
            `users.blocks`; `items.table` stands for the IDs.
    """

    name: str
    reads: tuple[int, ...]
    weights: tuple[float, ...]
    share: float = 1.0
    ids: bool = True
    rate: float = 1.0
    frozen: tuple[str, ...] = ()

    @property
    def learns(self) -> tuple[int, ...]:
        """Domains whose next items are learnt."""
        return tuple(d for d, weight in enumerate(self.weights) if weight > 0)


Stage = Train
