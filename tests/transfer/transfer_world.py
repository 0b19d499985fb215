"""A small generated world with word vectors instead of a language model, for tests nearby."""

from __future__ import annotations

from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.evaluation.metrics import per_query
from isthmus.evaluation.ranks import rank
from isthmus.scoring import Scorer
from word_encoder import WordEncoder

BOOKS, GEAR = 0, 1


def world(transfer: float, *, n_users: int = 900, seed: int = 1) -> Dataset:
    """Books with much behaviour, gear with little."""
    domains = (
        DomainSpec(name="books", n_items=150, events_per_user=16),
        DomainSpec(name="gear", n_items=120, events_per_user=4),
    )
    return generate_world(
        WorldConfig(
            n_users=n_users, n_themes=8, focus=3.0, domains=domains, transfer=transfer, seed=seed
        )
    ).dataset


def texts(dataset: Dataset) -> list[ItemFeatures]:
    """Vectors of the texts by domain."""
    encoder = WordEncoder()
    return [encoder.encode(domain.items["text"].to_list()) for domain in dataset.domains]


def settings(*overrides: str) -> Config:
    """A narrow model that learns fast."""
    usual = {
        "model": {"dim": 16, "layers": 1, "heads": 2, "max_length": 20, "adapter_rank": 2},
        "training": {
            "epochs": 10,
            "evaluate_every": 2,
            "batch_events": 512,
            "negatives": 64,
            "learning_rate": 6e-3,
            "device": "cpu",
        },
        "evaluation": {"cutoffs": [10]},
        "language": {"whiten_dim": 16},
    }
    return Config.model_validate(usual).override(*overrides)


def ndcg(scorer: Scorer, dataset: Dataset, split: Split, domain: int) -> float:
    """NDCG@10 of the test questions about a domain."""
    ranking = rank(scorer, dataset, split.test, domain, config=settings().evaluation)
    return float(per_query(ranking, [10])["ndcg@10"].mean())
