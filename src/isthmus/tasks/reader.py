"""Labelled pairs → what a head reads of them: the person's state, the item's vector, and facts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Split
from isthmus.scoring import Requests
from isthmus.tasks.examples import Examples
from isthmus.tasks.facts import N_FACTS, RatingFacts
from isthmus.transfer.system import System

TaskName = Literal["rate", "click"]
TASKS: tuple[TaskName, ...] = ("rate", "click")


@dataclass(frozen=True)
class Inputs:
    """What a head reads of pairs whose items lie in one domain.

    Attributes:
        state: float32 [n, dim] queries; zero for a person without a history.
        item: float32 [n, dim].
        facts: float32 [n, n_facts].
    """

    state: Tensor
    item: Tensor
    facts: Tensor

    def take(self, rows: Tensor) -> Inputs:
        """The pairs at `rows`."""
        return Inputs(self.state[rows], self.item[rows], self.facts[rows])


class Reader:
    """Reads pairs with a fitted system.

    States and item vectors are the transferred side's, which knows every domain. Facts are what is
    known of ratings for `rate`, and what every part of the served blend says of the pair for
    `click`; so the gate holds there as well.
    """

    def __init__(
        self, task: TaskName, dataset: Dataset, split: Split, system: System, config: Config
    ) -> None:
        self.task, self.dataset, self.split = task, dataset, split
        self.system, self.config = system, config

    @property
    def dim(self) -> int:
        """Width of states and item vectors."""
        return int(self.system.transferred.neural.model.items.table.shape[1])

    @property
    def n_facts(self) -> int:
        """Numbers beside state and item."""
        return N_FACTS if self.task == "rate" else len(self.config.blend.parts)

    @cached_property
    def ratings(self) -> RatingFacts:
        """What is known of ratings when."""
        return RatingFacts.of(self.dataset, self.split)

    def read(
        self, examples: Examples, *, in_training: bool = False, requests: Requests | None = None
    ) -> Inputs:
        """What heads read of examples whose items lie in one domain.

        Args:
            examples: pairs; a person of row −1 is somebody new.
            in_training: whether these are learnt from.
            requests: their histories [n]; None: those of the dataset up to each one's end.
        """
        domain = int(examples.domain[0])
        neural = self.system.transferred.neural
        size = self.config.evaluation.batch
        states, parts = [], []
        for start in range(0, len(examples), size):
            rows = np.arange(start, min(start + size, len(examples)))
            some = examples.take(rows)
            asked = self._requests(some) if requests is None else requests.select(rows)
            states.append(neural.queries(asked, domain).cpu())
            if self.task == "click":
                parts.append(self._parts(asked, some, domain))
        item = neural.catalogue(domain).cpu()[torch.from_numpy(examples.item)]
        facts = (
            self.ratings.at(examples, in_training=in_training)
            if self.task == "rate"
            else np.concatenate(parts)
        )
        return Inputs(torch.cat(states).clone(), item.clone(), torch.from_numpy(facts))

    def _requests(self, examples: Examples) -> Requests:
        time = examples.time
        if self.split.cut_times:
            # Without a time a pair is asked about at the end of training, where its history ends.
            time = np.where(np.isnan(time), self.split.cut_times[0], time)
        found = Requests.until(
            self.dataset,
            examples.user,
            examples.end,
            query_time=time,
            max_history=self.config.evaluation.max_history,
        )
        # Where a time is missing, of the pair or in its history, the pair itself may stand there.
        unsure = np.isnan(examples.time)
        unsure[found.rows[np.isnan(found.time)]] = True
        own = (found.domain == examples.domain[found.rows]) & (
            found.item == examples.item[found.rows]
        )
        own &= unsure[found.rows]
        return found.keep(~own) if own.any() else found

    def _parts(self, asked: Requests, examples: Examples, domain: int) -> NDArray[np.float32]:
        """What each part of the served blend says of the pairs, [n, n_parts]."""
        # Several pairs may share a person and a moment, and a catalogue is scored at a time.
        moments = np.column_stack([examples.user, examples.end, np.nan_to_num(examples.time)])
        _, first, inverse = np.unique(moments, axis=0, return_index=True, return_inverse=True)
        if (examples.user < 0).any():
            first = inverse = np.arange(len(examples))
        found = self.system.gated.score(asked.select(first), domain).parts
        row = inverse.reshape(-1)
        return np.column_stack(
            [found[name][row, examples.item] for name in self.config.blend.parts]
        ).astype(np.float32)
