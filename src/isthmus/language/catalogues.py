"""The texts of every catalogue as vectors, by weights tuned for it where it has its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isthmus.config import LanguageConfig
from isthmus.data.dataset import Domain
from isthmus.data.features import ItemFeatures
from isthmus.language.encoder import TextEncoder


def encode_catalogues(
    domains: Sequence[Domain], config: LanguageConfig, *, device: str = "auto"
) -> list[ItemFeatures]:
    """Vectors of the items' texts, one set for each domain, all of one width.

    Raises:
        LanguageModelError: a model cannot be found or run, or weights are of another model.
        CheckpointError: tuned weights that are absent or damaged.
    """
    shared = TextEncoder.load(config, device=device)
    found = []
    for domain in domains:
        own = config.of_domain(domain.name)
        encoder = shared if own is config else TextEncoder.load(own, device=device)
        found.append(encoder.encode(domain.items["text"].to_list()))
    return found


def cut_texts(domains: Sequence[Domain], features: Sequence[ItemFeatures]) -> dict[str, int]:
    """Different texts of each domain that the model does not see the end of, by its name."""
    return {domain.name: found.truncated for domain, found in zip(domains, features, strict=True)}


def cut_notes(cut: Mapping[str, int], config: LanguageConfig) -> list[str]:
    """A sentence on every domain some of whose texts were cut."""
    return [
        f"{count:,} texts of {name} are longer than language.max_tokens = {config.max_tokens} "
        "and were cut"
        for name, count in cut.items()
        if count
    ]
