"""Texts of items that arrived after training → the vectors that each part of a model reads.

The maps are those that the model's own items were put through, found again from what the model
folder holds, when the first arrival needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from isthmus.alignment.domains import FeatureAlignment
from isthmus.alignment.features import Whitening
from isthmus.baselines.content import ContentKNN
from isthmus.data.features import ItemFeatures
from isthmus.recommender import Recommender
from isthmus.recommender.encoding import Encoder


@dataclass(frozen=True)
class Vectors:
    """What the parts read of some new items.

    Attributes:
        aligned: of the transferred neural part.
        own: of the target-only ones.
        whitened: of text similarity; None where no side has that part.
    """

    aligned: ItemFeatures
    own: ItemFeatures
    whitened: ItemFeatures | None


class Arrivals:
    """Reads new items for one model.

    Args:
        recommender: the model.
        encoder: its language model; None: the configured one, loaded when needed.
    """

    def __init__(self, recommender: Recommender, encoder: Encoder | None = None) -> None:
        self._recommender, self._given = recommender, encoder
        self._whitenings: dict[int, Whitening] = {}

    def prepare(self) -> None:
        """Find all maps now, so that the first arrival need not wait for them."""
        for domain, raw in enumerate(self._recommender.raw):
            if raw.present.any():
                self.read(domain, ["item"])

    def read(self, domain: int, texts: Sequence[str | None]) -> Vectors:
        """Vectors of the texts of new items of a domain; None: without a text.

        Raises:
            LanguageModelError: the language model cannot be found or run.
        """
        raw = self._encoder.encode(texts)
        aligned = self._aligned.extend(domain, raw)
        apart = self._own is not self._aligned
        whitened = None
        if (part := self._text_part) is not None:
            if domain not in self._whitenings:
                self._whitenings[domain] = part.whitening(self._recommender.raw[domain])
            told = raw.present & self._recommender.raw[domain].present.any()
            vectors = self._whitenings[domain].transform(raw.vectors, told)
            whitened = ItemFeatures(vectors, told)
        return Vectors(aligned, self._own.extend(domain, raw) if apart else aligned, whitened)

    @cached_property
    def _encoder(self) -> Encoder:
        if self._given is not None:
            return self._given
        from isthmus.language import TextEncoder

        config = self._recommender.config
        return TextEncoder.load(config.language, device=config.training.device)

    @property
    def _text_part(self) -> ContentKNN | None:
        part = self._recommender.system.transferred.parts.get("text")
        return part if isinstance(part, ContentKNN) else None

    @cached_property
    def _aligned(self) -> FeatureAlignment:
        return self._fitted(own=False)

    @cached_property
    def _own(self) -> FeatureAlignment:
        system = self._recommender.system
        return self._aligned if system.own_features is system.features else self._fitted(own=True)

    def _fitted(self, *, own: bool) -> FeatureAlignment:
        """The maps on the items that they were first found on, by which all later ones went."""
        model = self._recommender
        sizes = model.progress.fitted_items or tuple(map(len, model.raw))
        raw = [
            ItemFeatures(r.vectors[:n], r.present[:n])
            for r, n in zip(model.raw, sizes, strict=True)
        ]
        domains = tuple(
            replace(domain, items=domain.items.head(n))
            for domain, n in zip(model.dataset.domains, sizes, strict=True)
        )
        config = model.config
        if own:
            apart = config.alignment.model_copy(update={"features": ["whiten"], "basis": "own"})
            config = config.model_copy(update={"alignment": apart})
        return FeatureAlignment.fit(raw, config, replace(model.dataset, domains=domains))
