"""How well a fitted system answers the questions of its split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, Split
from isthmus.evaluation.evaluate import QueryName, evaluate
from isthmus.evaluation.result import Evaluation
from isthmus.scoring import Scorer
from isthmus.tasks.reranking import Reranked
from isthmus.transfer.system import System

if TYPE_CHECKING:
    from isthmus.language.cross_encoder import CrossEncoder


def measured(
    dataset: Dataset,
    split: Split,
    system: System,
    domain: int,
    config: Config,
    queries: QueryName,
    systems: Mapping[str, Scorer] | None,
    *,
    rerank: CrossEncoder | None = None,
    most: int | None = None,
) -> dict[str, Evaluation]:
    """Evaluations of one target by name.

    Args:
        dataset: the snapshot.
        split: holds the questions.
        system: gives the usual scorers.
        domain: index of the target.
        config: protocol and seed.
        queries: which questions.
        systems: other scorers by name; None: `gated`, `transferred` and `target-only`, of which
            the last two are there as far as the system has them.

    Raises:
        DataError: no question is about this target.
    """

    if most is not None:
        asked = getattr(split, queries).position
        asked = asked[dataset.events.domain[asked] == domain]
        drawn = drawn_at_random(asked, most, config.seed)
        split, queries = replace(split, test=Queries(drawn)), "test"

    def ask(name: str, scorer: Scorer) -> Evaluation:
        found = evaluate(
            scorer,
            dataset,
            split,
            domain,
            config=config.evaluation,
            queries=queries,
            seed=config.seed,
        )
        return replace(found, system=name)

    again: dict[str, Scorer] = {}
    if rerank is not None:
        again["reranked"] = Reranked(system.gated, rerank, dataset)
    if systems is not None:
        return {name: ask(name, scorer) for name, scorer in {**systems, **again}.items()}
    behind, before = system.sides(domain)
    sides: dict[str, Scorer] = {}
    if before is not behind:
        sides["transferred"] = behind.blend
    if before is not None:
        sides["target-only"] = before.blend
    found = {name: ask(name, scorer) for name, scorer in sides.items()}
    weight = system.gates[domain].everywhere if before is not None else 1.0
    # A gate that is wide open or shut for all serves one side as it is: no need to ask again.
    one_side: dict[float | None, str] = {1.0: "transferred", 0.0: "target-only"}
    same = one_side.get(weight)
    served = replace(found[same], system="gated") if same in found else ask("gated", system.gated)
    return {"gated": served, **found, **{name: ask(name, each) for name, each in again.items()}}


def drawn_at_random(position: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """At most so many of the questions, rising."""
    return np.sort(np.random.default_rng(seed).permutation(position)[:most])
