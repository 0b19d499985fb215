"""What a language model is pretrained on: the items' texts and free corpora, each text once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from isthmus.data.dataset import Domain
from isthmus.errors import TrainingError

MOST_HELD_OUT = 2000
"""Texts to measure on. They are looked at dozens of times in a run, and each is compared with each
where a model is distilled; more would tell no more."""


@dataclass(frozen=True)
class Corpus:
    """Distinct texts, in an order that does not depend on where they stood.

    Attributes:
        training: to learn from.
        held_out: to measure on; chosen by content.
    """

    training: list[str]
    held_out: list[str]

    @classmethod
    def of(cls, texts: Iterable[str | None], held_out: float) -> Corpus:
        """Divide texts; blank ones are left out.

        Args:
            texts: any.
            held_out: share to measure on; no more than `MOST_HELD_OUT` texts.

        Raises:
            TrainingError: one side would be empty.
        """
        distinct = {text for text in texts if text and not text.isspace()}
        placed = sorted((_draw(text), text) for text in distinct)
        apart = min(sum(draw < held_out for draw, _ in placed), MOST_HELD_OUT)
        found = cls([text for _, text in placed[apart:]], [text for _, text in placed[:apart]])
        if not (found.training and found.held_out):
            raise TrainingError(
                f"{len(distinct)} distinct texts are too few to learn from and measure on",
                where="pretraining",
                hint="Map texts (domains.NAME.catalogue.text) or add files to domains.NAME.corpus",
            )
        return found


def texts_of(domains: Sequence[Domain]) -> list[str | None]:
    """Texts of all items, and the domains' corpora."""
    return [
        text for domain in domains for text in (*domain.items["text"].to_list(), *domain.corpus)
    ]


def _draw(text: str) -> float:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=b"held out")
    return int.from_bytes(digest.digest(), "little") / 2.0**64
