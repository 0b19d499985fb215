"""A language model that learns ratings by what the texts of people and items say."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tasks_world import fresh

from isthmus.config import PretrainingConfig
from isthmus.data.dataset import Dataset
from isthmus.language.pretraining.scratch import write_scratch
from isthmus.recommender import Recommender
from isthmus.tasks.examples import Role, rated_events


def rated_by_a_word(dataset: Dataset) -> Dataset:
    """The same world, where items are liked for a word in their texts, one in each domain."""
    has_word = np.concatenate([with_a_word(domain.items["text"]) for domain in dataset.domains])
    has = has_word[dataset.flat(dataset.events.domain, dataset.events.item)]
    noise = np.random.default_rng(0).normal(0, 0.3, len(has))
    rating = np.where(has, 4.2, 2.2) + noise
    return replace(dataset, events=replace(dataset.events, rating=rating.astype(np.float32)))


def with_a_word(texts: pl.Series) -> np.ndarray:
    """Which texts hold the word that is in about a third of them, [n]."""
    words = [set(re.findall(r"\w+", (text or "").lower())) for text in texts]
    counts = Counter(word for found in words for word in found)
    liked = min(sorted(counts), key=lambda word: abs(counts[word] - len(words) / 3))
    return np.array([liked in found for found in words])


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT from nothing, with a tokenizer of the world's texts."""
    folder = tmp_path_factory.mktemp("bert")
    domains = fresh().dataset.domains
    texts = sorted({text for domain in domains for text in domain.items["text"] if text})
    sizes = PretrainingConfig(scratch="bert", vocabulary=800, dim=32, layers=1, heads=2)
    write_scratch(folder, texts, sizes, seed=0)
    return folder


def test_ratings_are_told_better_than_by_the_mean_of_their_domain(bert: Path) -> None:
    usual = fresh()
    dataset = rated_by_a_word(usual.dataset)
    recommender = Recommender(dataset, usual.config, usual.split, usual.raw, usual.system)
    settings = {
        "model": f"'{bert}'",
        "tune": "full",
        "epochs": 6,
        "patience": 3,
        "batch": 32,
        "most_pairs": 800,
        "history": 1,
        "max_tokens": 48,
        "learning_rate": 3e-3,
    }
    changes = [f"tasks.cross_encoder.{key}={value}" for key, value in settings.items()]
    given = recommender.config.override(*changes, "training.device=cpu")
    reader = recommender.teach_language("rate", config=given)
    examples = rated_events(dataset, recommender.split)
    found = recommender.judge("rate", through=reader).by_domain
    for d, name in enumerate(dataset.names):
        here = examples.take(examples.domain == d)
        truth, mean = here.of(Role.TEST).label, here.of(Role.TRAIN).label.mean()
        assert found[name]["rmse"] < 0.7 * np.sqrt(np.mean((truth - mean) ** 2))
    # What is asked item by item agrees with it.
    items = dataset.domains[1].items
    told = recommender.rate(
        "gear", items["item_id"].to_list(), users=[dataset.user_ids[0]], through=reader
    )["rating"].to_numpy()
    liked = with_a_word(items["text"])
    assert told[liked].mean() > told[~liked].mean() + 1
