"""What reads the items' texts: one that is given, or the configured language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from isthmus.config import Config
from isthmus.data.dataset import Domain
from isthmus.data.features import ItemFeatures


class Encoder(Protocol):
    """Texts → vectors; see `isthmus.language.TextEncoder`."""

    def encode(self, texts: Sequence[str | None]) -> ItemFeatures:
        """Vectors of texts, in their order; None is masked."""
        ...


def encoder_of(config: Config, given: Encoder | None, domain: str) -> Encoder:
    """The given one; None loads the language model that is configured for the domain.

    Raises:
        LanguageModelError: it cannot be found or run.
    """
    if given is not None:
        return given
    from isthmus.language import TextEncoder

    return TextEncoder.load(config.language.of_domain(domain), device=config.training.device)


def read_catalogues(
    domains: Sequence[Domain], config: Config, given: Encoder | None
) -> list[ItemFeatures]:
    """Text vectors of every domain, by the given encoder or the configured language model.

    Raises:
        LanguageModelError: it cannot be found or run.
    """
    if given is not None:
        return [given.encode(domain.items["text"].to_list()) for domain in domains]
    from isthmus.language.catalogues import encode_catalogues

    return encode_catalogues(domains, config.language, device=config.training.device)
