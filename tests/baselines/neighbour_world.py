"""Generated worlds in which one domain tells of another, or does not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.config import EvaluationConfig
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Queries
from isthmus.data.world import DomainSpec, World, WorldConfig, generate_world
from isthmus.evaluation.metrics import per_query
from isthmus.evaluation.ranks import rank
from isthmus.scoring import Scorer

BOOKS, GEAR = 0, 1


def two_shops(transfer: float, *, seed: int = 1, n_users: int = 900) -> World:
    """Books with much behaviour, gear with little."""
    domains = (
        DomainSpec(name="books", n_items=150, events_per_user=16),
        DomainSpec(name="gear", n_items=120, events_per_user=4),
    )
    return generate_world(
        WorldConfig(
            n_users=n_users, n_themes=8, focus=3.0, domains=domains, transfer=transfer, seed=seed
        )
    )


def told(world: World, *, dim: int = 24, noise: float = 0.1) -> list[ItemFeatures]:
    """Text vectors that tell the topic of an item and little else; one in fifty is missing."""
    rng = np.random.default_rng(0)
    topics = rng.normal(size=(world.config.n_topics, dim))
    features = []
    for catalogue in world.catalogues.values():
        vectors = topics[catalogue.topic] + noise * rng.normal(size=(len(catalogue), dim)) + 2.0
        present = rng.random(len(catalogue)) < 0.98
        vectors[~present] = 0.0
        features.append(ItemFeatures(vectors.astype(np.float32), present))
    return features


def ndcg(
    scorer: Scorer,
    dataset: Dataset,
    questions: Queries,
    *,
    newcomers: bool = False,
    hidden: NDArray[np.bool_] | None = None,
) -> float:
    """NDCG@10 of questions about gear; `newcomers` are asked as if they had never bought any."""
    ranking = rank(
        scorer,
        dataset,
        questions,
        GEAR,
        config=EvaluationConfig(cutoffs=[10]),
        hide_target_history=newcomers,
        hidden=hidden,
        lists=False,
    )
    return float(per_query(ranking, [10])["ndcg@10"].mean())


def one_left(dataset: Dataset) -> NDArray[np.bool_]:
    """All gear events but each person's first, bool [n_events]; to hide from histories."""
    hidden = dataset.events.domain == GEAR
    gear = np.flatnonzero(hidden)
    hidden[gear[np.unique(dataset.events.user[gear], return_index=True)[1]]] = False
    return hidden
