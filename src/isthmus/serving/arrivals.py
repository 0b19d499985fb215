"""Texts of items that arrived after training → the vectors that each part of a model reads.

The maps are those that the model's own items were put through, found again from what the model
folder holds, when the first arrival needs them. A domain that joined has maps of its own, which
were found when it did, beside those of the domains that the model was fitted to.
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
from isthmus.recommender.encoding import Encoder, encoder_of
from isthmus.transfer.joining import founding_alignment


@dataclass(frozen=True)
class Vectors:
    """What the parts read of some new items.

    Attributes:
        aligned: of the neural parts of the transferred side and of joined domains.
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
        self._encoders: dict[str, Encoder] = {}
        self._whitenings: dict[int, Whitening] = {}
        self._joined: dict[int, FeatureAlignment] = {}

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
        raw = self._encoder(domain).encode(texts)
        aligned, own = self._mapped(domain, raw)
        whitened = None
        if (part := self._text_part) is not None:
            if domain not in self._whitenings:
                self._whitenings[domain] = part.whitening(self._recommender.raw[domain])
            told = raw.present & self._recommender.raw[domain].present.any()
            vectors = self._whitenings[domain].transform(raw.vectors, told)
            whitened = ItemFeatures(vectors, told)
        return Vectors(aligned, own, whitened)

    def _mapped(self, domain: int, raw: ItemFeatures) -> tuple[ItemFeatures, ItemFeatures]:
        """As the transferred and as the target-only neural parts read them."""
        model, n_founding = self._recommender, self._n_founding
        if domain < n_founding:
            aligned = self._aligned.extend(domain, raw)
            apart = self._own is not self._aligned
            return aligned, self._own.extend(domain, raw) if apart else aligned
        if domain not in self._joined:
            founding = founding_alignment(model.system, model.dataset, model.raw, model.config)
            self._joined[domain] = founding.with_domain(model.raw[domain])
        alignment = self._joined[domain]
        # No target-only part knows of a domain that joined.
        aligned = alignment.extend(len(alignment.features) - 1, raw)
        return aligned, aligned

    @property
    def _n_founding(self) -> int:
        return self._recommender.system.transferred.n_domains

    def _encoder(self, domain: int) -> Encoder:
        config, name = self._recommender.config, self._recommender.dataset.names[domain]
        shared = name not in config.language.tuned_by_domain
        key = "" if shared else name
        if key not in self._encoders:
            self._encoders[key] = encoder_of(config, self._given, name)
        return self._encoders[key]

    @property
    def _text_part(self) -> ContentKNN | None:
        part = self._recommender.system.transferred.parts.get("text")
        return part if isinstance(part, ContentKNN) else None

    @cached_property
    def _aligned(self) -> FeatureAlignment:
        system = self._recommender.system
        # A system of one side knows texts as target-only sides do.
        return self._fitted(own=any(s is system.transferred for s in system.alone.values()))

    @cached_property
    def _own(self) -> FeatureAlignment:
        system = self._recommender.system
        return self._aligned if system.own_features is system.features else self._fitted(own=True)

    def _fitted(self, *, own: bool) -> FeatureAlignment:
        """The maps on the items that they were first found on, by which all later ones went."""
        model = self._recommender
        founding = slice(self._n_founding)
        sizes = model.progress.fitted_items or tuple(map(len, model.raw[founding]))
        raw = [
            replace(r, vectors=r.vectors[:n], present=r.present[:n])
            for r, n in zip(model.raw[founding], sizes, strict=True)
        ]
        domains = tuple(
            replace(domain, items=domain.items.head(n))
            for domain, n in zip(model.dataset.domains[founding], sizes, strict=True)
        )
        config = model.config
        if own:
            apart = config.alignment.model_copy(update={"features": ["whiten"], "basis": "own"})
            config = config.model_copy(update={"alignment": apart})
        return FeatureAlignment.fit(raw, config, replace(model.dataset, domains=domains))
