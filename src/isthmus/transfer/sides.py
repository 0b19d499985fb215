"""A side of the question: everything fitted for one strategy, up to a blended scorer.

Both sides, transferred and target-only, are made by the same code with the same parts, the same
blend and the same budget; they differ only in the events they may read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.baselines.content import ContentKNN, ContentKNNConfig
from isthmus.baselines.cooccurrence import CoOccurrence, CoOccurrenceConfig
from isthmus.baselines.popular import RecentPopular
from isthmus.blend import Blend, FittedWeights, fit_blend
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split
from isthmus.model.core import CoreModel
from isthmus.model.learn import evidence, learn
from isthmus.model.scorer import NeuralScorer
from isthmus.scoring import Scorer
from isthmus.training.loop import Log
from isthmus.transfer.strategies import Strategy


@dataclass(frozen=True)
class Side:
    """One strategy, fitted.

    Attributes:
        name: of the strategy.
        neural: the trained core model.
        parts: everything that is blended, by name.
        blend: their sum.
        fitted: per target index, the weights and what validation said of them.
        logs: training of each stage.
        seconds: by stage.
    """

    name: str
    neural: NeuralScorer
    parts: dict[str, Scorer]
    blend: Blend
    fitted: dict[int, FittedWeights]
    logs: dict[str, Log] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def fit_parts(
    dataset: Dataset,
    split: Split,
    raw: Sequence[ItemFeatures],
    neural: NeuralScorer,
    config: Config,
    *,
    reads: tuple[int, ...],
) -> dict[str, Scorer]:
    """The configured parts of a blend, fitted on the events of the domains in `reads`."""
    events = split.train_events(dataset).only(*reads)
    merged = len(reads) > 1
    makers: dict[str, Callable[[], Scorer]] = {
        "neural": lambda: neural,
        "co-occurrence": lambda: CoOccurrence.fit(
            dataset, events, CoOccurrenceConfig(merged=merged)
        ),
        "text": lambda: ContentKNN.fit(
            dataset,
            events,
            raw,
            ContentKNNConfig(merged=merged),
        ),
        "recent-popular": lambda: RecentPopular.fit(
            dataset, split.known_events(dataset).only(*reads)
        ),
    }
    return {name: makers[name]() for name in config.blend.parts}


def fit_side(
    strategy: Strategy,
    dataset: Dataset,
    split: Split,
    raw: Sequence[ItemFeatures],
    features: Sequence[ItemFeatures],
    config: Config,
    *,
    folder: Path | None = None,
) -> Side:
    """Train a strategy's stages, fit the other parts and weigh them on validation questions.

    Args:
        strategy: what trains on which domains.
        dataset: the snapshot.
        split: training events and validation questions.
        raw: text vectors as the language model gives them, per domain.
        features: the same, aligned.
        config: everything else.
        folder: where checkpoints and curves go; None keeps none.
    """
    weights = tuple(config.training.domain_weights.get(name, 1.0) for name in dataset.names)
    stages = strategy.stages(len(dataset.domains), weights)
    reads = stages[-1].reads
    train_events = split.train_events(dataset).only(*reads)
    model = CoreModel(features, evidence(dataset, train_events), config.model, config.seed)
    logs: dict[str, Log] = {}
    seconds: dict[str, float] = {}
    for stage in stages:
        neural, logs[stage.name] = learn(
            model,
            dataset,
            split,
            config,
            reads=stage.reads,
            weights=stage.weights,
            name="neural",
            label=f"training, {stage.name}",
            folder=folder / "checkpoints" / stage.name if folder else None,
            curves=folder / "curves" / stage.name if folder else None,
        )
        # Counted in the log, so that a resumed run reports what its training took in all.
        seconds[f"train {stage.name}"] = logs[stage.name].seconds
    start = time.perf_counter()
    parts = fit_parts(dataset, split, raw, neural, config, reads=reads)
    targets = [d for d, weight in enumerate(stages[-1].weights) if weight > 0]
    fitted = {
        target: fit_blend(
            parts,
            dataset,
            split.tuning,
            target,
            config.blend,
            batch=config.evaluation.batch,
            max_history=config.evaluation.max_history,
            seed=config.seed,
        )
        for target in targets
    }
    blend = Blend(parts, {d: f.weights for d, f in fitted.items()}, name=strategy.name)
    seconds[f"blend {strategy.name}"] = time.perf_counter() - start
    return Side(strategy.name, neural, parts, blend, fitted, logs, seconds)
