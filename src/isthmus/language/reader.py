"""How texts are read: a base model, what was tuned on top of it, and what is cached of it.

Weights tuned inside the model change what the model gives, so each set of them has vectors of its
own in the cache. A side network reads the states of all layers, which are cached for the base model
once and serve every side network on it.
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
        layers: give the pooled states of all layers, not of the last alone.
    """

    name: str
    folder: Path
    facts: ModelFacts
    pooling: Pooling
    tuned: TunedWeights | None = None
    layers: bool = False

    @classmethod
    def find(cls, config: LanguageConfig, memory: Path | None, *, layers: bool = False) -> Reader:
        """Find a model and the weights tuned on it, and check that they belong together.

        Args:
            config: which.
            memory: where facts about folders are remembered; None: nowhere.
            layers: for the states of all layers; tuned weights are then left out.

        Raises:
            LanguageModelError: no such model, not whole, or the weights are of another one.
            CheckpointError: no tuned weights in that folder, or damaged ones.
        """
        folder = find_model(config.model)
        facts = read_facts(folder, memory, pinned=config.model == "embedded")
        pooling = facts.pooling if config.pooling == "auto" else config.pooling
        if config.tuned is None or layers:
            return cls(config.model, folder, facts, pooling, None, layers)
        tuned = TunedWeights.load(config.tuned)
        tuned.check_base(facts, base_name=config.model, where=str(config.tuned))
        if config.pooling not in ("auto", tuned.pooling):
            raise LanguageModelError(
                f"these weights were tuned with pooling {tuned.pooling!r}, not {pooling!r}",
                where=str(config.tuned),
                hint="Set language.pooling = 'auto'",
            )
        side = tuned.config.method == "side"
        return cls(config.model, folder, facts, tuned.pooling, tuned, layers=side)

    @property
    def dim(self) -> int:
        """Width of what comes out in the end."""
        return self.facts.dim if self._side or not self.layers else self.width

    @property
    def width(self) -> int:
        """Width of what the model gives and the cache keeps."""
        return self.facts.dim * (self.facts.layers + 1) if self.layers else self.facts.dim

    @property
    def positions(self) -> int:
        """The longest text, in tokens, that leaves room for virtual tokens."""
        if self.tuned is None or self.tuned.config.method not in ("prefix", "prompt"):
            return self.facts.positions
        return self.facts.positions - self.tuned.config.virtual_tokens

    @property
    def cached(self) -> tuple[object, ...]:
        """What cached vectors depend on, beside the length of texts."""
        base: tuple[object, ...] = (self.facts.content, self.pooling)
        if self.layers:
            return (*base, "layers")
        return base if self.tuned is None else (*base, self.tuned.fingerprint)

    @property
    def _side(self) -> bool:
        return self.tuned is not None and self.layers

    def build(self) -> Any:
        """A module from token ids and mask [batch, length] to [batch, width], on the CPU.

        Raises:
            LanguageModelError: it cannot be loaded.
        """
        from isthmus.language.pooling import LayersModel, PooledModel

        model = load_torch_model(self.folder)
        if self.layers:
            return LayersModel(model, self.pooling)
        if self.tuned is None:
            return PooledModel(model, self.pooling)
        from isthmus.language.tuning.methods import MERGEABLE, Tunable

        tunable = Tunable(model, self.pooling, self.tuned.config)
        tunable.load(self.tuned.tensors())
        if self.tuned.config.method in MERGEABLE:
            return PooledModel(tunable.merged(), self.pooling)
        return tunable

    def head(self) -> Head | None:
        """What turns cached states into vectors; None: they are the vectors."""
        if not self._side or self.tuned is None:
            return None
        from isthmus.language.tuning.side import SideNetwork

        network = SideNetwork(self.facts.layers + 1, self.facts.dim, self.tuned.config.width)
        network.load_state_dict(self.tuned.tensors())
        return network.eval().read
