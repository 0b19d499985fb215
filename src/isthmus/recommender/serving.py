"""Who answers for a domain, and how an answer says what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.recommender.asking import Asked, Origin
from isthmus.recommender.ranking import Top
from isthmus.scoring import Requests
from isthmus.transfer.sides import Side
from isthmus.transfer.system import System

POPULAR = "recent-popular"


@dataclass(frozen=True)
class Served:
    """What answers for some people in one domain.

    Attributes:
        side: the one behind the gate, unless it is shut for them; reasons are read off it.
        weights: of the side's parts.
        rows: int64 [n] who of the batch is meant.
    """

    side: Side
    weights: Mapping[str, float]
    rows: NDArray[np.int64]

    @classmethod
    def each(cls, system: System, domain: int, requests: Requests) -> list[Served]:
        """Who answers for `domain`, for the requests let through by the gate and for the others."""
        behind, before = system.sides(domain)
        shut = system.gated.weights(requests, domain) == 0
        return [
            cls(side, side.blend.weights[domain], np.flatnonzero(mask))
            for mask, side in ((~shut, behind), (shut, before or behind))
            if mask.any()
        ]

    @property
    def reads(self) -> tuple[int, ...]:
        """Domain indices whose histories make a difference."""
        return self.side.neural.reads


def bases(
    names: Sequence[str], asked: Asked, domain: int, k: int, served: Served, top: Top
) -> list[str]:
    """One plain sentence for each request: what its ranking rests on.

    Args:
        names: domain names in index order.
        asked: the batch.
        domain: index of the target.
        k: items that were asked for.
        served: who answered.
        top: the answers.
    """
    present = np.zeros((len(asked), len(names)), bool)
    present[asked.visible.rows, asked.visible.domain] = True
    nobody = np.zeros(len(asked), bool)
    personal = np.logical_or.reduce(
        [spoke for name, spoke in top.opinion.items() if name != POPULAR] or [nobody]
    )
    # With a negative weight what is popular goes last.
    liked = served.weights.get(POPULAR, 0.0) > 0
    popular = top.opinion.get(POPULAR, nobody) & liked
    facts = np.column_stack([present, personal, popular, asked.origin]).tolist()
    sentences: dict[tuple[int, ...], str] = {}
    for row in facts:
        if (kind := tuple(row)) not in sentences:
            sentences[kind] = _sentence(
                names,
                domain,
                set(served.reads),
                [d for d in range(served.side.n_domains) if row[d]],
                [d for d in range(served.side.n_domains, len(names)) if row[d]],
                personal=bool(row[-3]),
                popular=bool(row[-2]),
                origin=Origin(row[-1]),
            )
    return [
        sentences[tuple(row)] + (f"; only {n} could be offered" if n < k else "")
        for row, n in zip(facts, top.n_offered.tolist(), strict=True)
    ]


def _sentence(
    names: Sequence[str],
    domain: int,
    reads: set[int],
    present: list[int],
    later: list[int],
    *,
    personal: bool,
    popular: bool,
    origin: Origin,
) -> str:
    fallback = "what is popular now" if popular else "nothing to rank by, in any order"
    if origin is Origin.STRANGER:
        return f"unknown user, no history: {fallback}"
    if not present and later:
        # What joined after the side was made is no history to it.
        where = _listed([names[d] for d in later])
        return f"history in {where} only, which joined later and is not read here: {fallback}"
    if not present:
        return f"no history: {fallback}"
    # The target goes first, then the others in the dataset's order.
    read = sorted(reads.intersection(present), key=lambda d: (d != domain, d))
    kept_out = _listed([names[d] for d in present if d not in reads])
    if not read:
        return f"history in {kept_out} only, kept out of {names[domain]} by the gate: {fallback}"
    where = _listed([names[d] for d in read])
    given = "given " if origin is Origin.GIVEN else ""
    if not personal:
        return f"{given}history in {where} tells no item from another: {fallback}"
    if read[0] != domain:
        return f"{given}history in {where} only: new to {names[domain]}"
    closing = f"; {kept_out} kept out by the gate" if kept_out else ""
    return f"{given or 'own '}history in {where}{closing}"


def _listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([part for part in (", ".join(words[:-1]), *words[-1:]) if part])
