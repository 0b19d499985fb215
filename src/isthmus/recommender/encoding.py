"""What reads the items' texts: one that is given, or the configured language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from isthmus.config import Config
from isthmus.data.features import ItemFeatures


class Encoder(Protocol):
    """Texts → vectors; see `isthmus.language.TextEncoder`."""

    def encode(self, texts: Sequence[str | None]) -> ItemFeatures:
        """Vectors of texts, in their order; None is masked."""
        ...


def encoder_of(config: Config, given: Encoder | None) -> Encoder:
    """The given one; None loads the configured language model.

    Raises:
        LanguageModelError: it cannot be found or run.
    """
    if given is not None:
        return given
    from isthmus.language import TextEncoder

    return TextEncoder.load(config.language, device=config.training.device)
