"""Tuned weights on disk: only what the base model does not have, a few MB for most methods.

A checkpoint folder (`training.checkpoint`) that names its base by a hash of weights, tokenizer and
configuration, and is refused for any other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from isthmus.config import TuningConfig
from isthmus.errors import LanguageModelError
from isthmus.language.models import ModelFacts, Pooling
from isthmus.training.checkpoint import State, read_folder, write_folder

if TYPE_CHECKING:
    from torch import Tensor

_KIND = "tuned-language"


@dataclass(frozen=True)
class TunedWeights:
    """What a language model has learnt on top of its base.

    Attributes:
        config: the method, and the sizes that it was tuned with.
        base: `ModelFacts.content` of the base model.
        base_name: how the base was named, for messages.
        pooling: how token states became vectors.
        arrays: tensors by name.
        about: what else is worth keeping: the domains, figures of the run.
    """

    config: TuningConfig
    base: str
    base_name: str
    pooling: Pooling
    arrays: dict[str, NDArray[np.generic]]
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        tensors: dict[str, Tensor],
        config: TuningConfig,
        facts: ModelFacts,
        pooling: Pooling,
        *,
        base_name: str,
        about: dict[str, Any] | None = None,
    ) -> TunedWeights:
        """From a module's tensors."""
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        return cls(config, facts.content, base_name, pooling, arrays, about or {})

    @property
    def fingerprint(self) -> str:
        """The same for weights that give the same vectors of one base."""
        digest = hashlib.blake2b(self.config.method.encode(), digest_size=16)
        for name in sorted(self.arrays):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.arrays[name]).tobytes())
        return digest.hexdigest()

    @property
    def n_bytes(self) -> int:
        """Size of the tensors."""
        return sum(array.nbytes for array in self.arrays.values())

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, copied."""
        import torch

        return {name: torch.from_numpy(array.copy()) for name, array in self.arrays.items()}

    def save(self, folder: Path) -> None:
        """Write a folder, whole or not at all.

        Raises:
            CheckpointError: it cannot be written, or holds other things.
        """
        meta = {
            "config": self.config.model_dump(mode="json"),
            "base": self.base,
            "base_name": self.base_name,
            "pooling": self.pooling,
            "about": self.about,
        }
        write_folder(folder, {"weights": State(self.arrays)}, kind=_KIND, meta=meta)

    @classmethod
    def load(cls, folder: Path) -> TunedWeights:
        """Read a folder that `save` wrote.

        Raises:
            CheckpointError: no such folder, damaged, or of another kind.
        """
        saved = read_folder(folder, kind=_KIND)
        meta = saved.meta
        return cls(
            TuningConfig.model_validate(meta["config"]),
            meta["base"],
            meta["base_name"],
            meta["pooling"],
            saved.state("weights").arrays,
            meta["about"],
        )

    def check_base(self, facts: ModelFacts, *, base_name: str, where: str) -> None:
        """Refuse another base model.

        Raises:
            LanguageModelError: the weights were tuned on another one.
        """
        if self.base != facts.content:
            raise LanguageModelError(
                f"these weights were tuned on {self.base_name!r} ({self.base[:12]}…), and the "
                f"model here is {base_name!r} ({facts.content[:12]}…)",
                where=where,
                hint="Set language.model to the one they were tuned on, or tune this one",
            )
