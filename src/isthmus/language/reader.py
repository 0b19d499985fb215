"""How texts are read: a base model, what was tuned on top of it, and what is cached of it.

Weights tuned inside the model change what the model gives, so each set of them has vectors of its
own in the cache. A side network reads the base model's vectors, which are cached once and serve
every side network on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.config import LanguageConfig
from isthmus.errors import LanguageModelError
from isthmus.language.models import (
    ModelFacts,
    Pooling,
    find_model,
    load_torch_model,
    read_facts,
)
from isthmus.language.tuning.weights import TunedWeights

Head = Callable[[NDArray[np.float16]], NDArray[np.float32]]


@dataclass(frozen=True)
class Reader:
    """A language model as it is read.

    Attributes:
        name: as the configuration names the base model.
        folder: of the base model.
        facts: what it holds.
        pooling: how token states become a vector; 'auto' resolved.
        tuned: weights on top of it, or None.
        hidden: layers whose mean states are cached behind the final ones.
    """

    name: str
    folder: Path
    facts: ModelFacts
    pooling: Pooling
    tuned: TunedWeights | None = None
    hidden: tuple[int, ...] = ()

    @classmethod
    def find(cls, config: LanguageConfig, memory: Path | None) -> Reader:
        """Find a model and the weights tuned on it, and check that they belong together.

        Args:
            config: which.
            memory: where facts about folders are remembered; None: nowhere.

        Raises:
            LanguageModelError: no such model, not whole, or the weights are of another one.
            CheckpointError: no tuned weights in that folder, or damaged ones.
        """
        folder = find_model(config.model)
        facts = read_facts(folder, memory, pinned=config.model == "embedded")
        pooling = facts.pooling if config.pooling == "auto" else config.pooling
        if config.tuned is None:
            return cls(config.model, folder, facts, pooling, hidden=tuple(config.layers))
        tuned = TunedWeights.load(config.tuned)
        tuned.check_base(facts, base_name=config.model, where=str(config.tuned))
        if config.pooling not in ("auto", tuned.pooling):
            raise LanguageModelError(
                f"these weights were tuned with pooling {tuned.pooling!r}, not {pooling!r}",
                where=str(config.tuned),
                hint="Set language.pooling = 'auto'",
            )
        below = tuple(tuned.config.hidden_layers) if tuned.config.method == "side" else ()
        return cls(config.model, folder, facts, tuned.pooling, tuned, below)

    @property
    def side(self) -> TunedWeights | None:
        """Weights of a side network, which reads what the base model gives; None: there is none."""
        tuned = self.tuned
        return tuned if tuned is not None and tuned.config.method == "side" else None

    @property
    def positions(self) -> int:
        """The longest text, in tokens, that leaves room for virtual tokens."""
        if self.tuned is None or self.tuned.config.method not in ("prefix", "prompt"):
            return self.facts.positions
        return self.facts.positions - self.tuned.config.virtual_tokens

    @property
    def width(self) -> int:
        """Of the vectors that are cached."""
        return self.facts.dim * (1 + len(self.hidden))

    @property
    def cached(self) -> tuple[object, ...]:
        """What cached vectors depend on, beside the length of texts."""
        base: tuple[object, ...] = (self.facts.content, self.pooling)
        if self.hidden:
            base = (*base, "hidden means", self.hidden)
        if self.tuned is None or self.side is not None:
            return base
        return (*base, self.tuned.fingerprint)

    def build(self) -> Any:
        """A module from token ids and mask [batch, length] to [batch, dim], on the CPU.

        Raises:
            LanguageModelError: it cannot be loaded, or has no such hidden layer.
        """
        from isthmus.language.pooling import PooledModel

        model = load_torch_model(self.folder)
        if self.tuned is None or self.side is not None:
            self._check_hidden(model)
            return PooledModel(model, self.pooling, self.hidden)
        from isthmus.language.tuning.methods import MERGEABLE, Tunable

        tunable = Tunable(model, self.pooling, self.tuned.config)
        tunable.load(self.tuned.tensors())
        if self.tuned.config.method in MERGEABLE:
            return PooledModel(tunable.merged(), self.pooling)
        return tunable

    def _check_hidden(self, model: Any) -> None:
        """Refuse layers that the model does not have."""
        n = int(getattr(model.config, "num_hidden_layers", 0))
        beyond = [layer for layer in self.hidden if not -n - 1 <= layer <= n]
        if beyond:
            raise LanguageModelError(
                f"{self.name!r} has {n} blocks and no layer {beyond[0]}",
                where="tuning.hidden_layers" if self.side else "language.layers",
                hint=f"Name some of 0 (before the first block) to {n} (behind the last)",
            )

    def head(self) -> Head | None:
        """What turns cached vectors into those that are given out; None: they are these."""
        if self.side is None:
            return None
        from isthmus.language.tuning.side import SideNetwork

        network = SideNetwork(self.facts.dim, self.side.config.width, len(self.hidden))
        network.load_state_dict(self.side.tensors())
        return network.eval().read
