"""Stages: the typed steps that a strategy is a list of. They say what happens, not how.

Each starts where the one before it ended. `isthmus.transfer.execution` runs them.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        width: makes it a model of its own, that many times as wide, for a later stage to learn
            from; None trains the model that is going to serve.
    """

    name: str
    reads: tuple[int, ...]
    weights: tuple[float, ...]
    share: float = 1.0
    ids: bool = True
    rate: float = 1.0
    frozen: tuple[str, ...] = ()
    width: float | None = None

    @property
    def learns(self) -> tuple[int, ...]:
        """Domains whose next items are learnt."""
        return tuple(d for d, weight in enumerate(self.weights) if weight > 0)


@dataclass(frozen=True)
class Reptile(Train):
    """Meta-training: every domain that is learnt, with every group of people, is a task.

    Attributes:
        groups: how many groups of like taste people are divided into.
        inner_steps: ordinary steps on one task.
        outer_rate: how far the weights then go towards where these led; 1 is all the way.
    """

    groups: int = 4
    inner_steps: int = 5
    outer_rate: float = 0.5


@dataclass(frozen=True)
class Distil(Train):
    """Training that follows a teacher's lists beside the events themselves.

    Attributes:
        teacher: name of the stage before it whose model teaches, as it was after that stage.
        top: length of the teacher's lists.
        strength: of the loss against the lists, beside that of the next item.
        temperature: above 1 the items of a list count more evenly.
    """

    teacher: str = ""
    top: int = 10
    strength: float = 0.5
    temperature: float = 1.0


@dataclass(frozen=True)
class PseudoLabel:
    """Confident next items become weighted events for the stages after it.

    Nothing is trained. Each such stage labels anew, from the training events alone.

    Attributes:
        name: as of `Train`.
        domains: where labels are given.
        fewer_than: events of that domain that make a history long enough to be left alone.
        confidence: least share of the probability of the ten likeliest items that the first has.
        most: labels in a domain, as a multiple of its training events; the surest are kept.
        weight: of a label in the loss, times its confidence; an event weighs 1.
    """

    name: str
    domains: tuple[int, ...]
    fewer_than: int = 3
    confidence: float = 0.3
    most: float = 0.5
    weight: float = 1.0


Stage = Train | Reptile | Distil | PseudoLabel


def epochs_by_stage(stages: Sequence[Stage], epochs: int) -> dict[str, int]:
    """Epochs of each stage that trains, by its name: the budget, cut where the shares add up.

    Rounding each share by itself could give two halves of 3 epochs 2 each. Each stage gets one at
    least.

    Args:
        stages: in turn.
        epochs: the budget, at least one for each stage that trains.
    """
    training = [stage for stage in stages if isinstance(stage, Train)]
    found: dict[str, int] = {}
    done, share = 0, 0.0
    for place, stage in enumerate(training, start=1):
        share += stage.share
        # What comes after needs one each.
        last = epochs - (len(training) - place)
        end = min(max(round(epochs * share), done + 1), last)
        found[stage.name] = end - done
        done = end
    return found
