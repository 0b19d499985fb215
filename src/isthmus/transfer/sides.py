"""A side of the question: everything fitted for one strategy, up to a blended scorer.

Both sides, transferred and target-only, are made by the same code with the same parts, the same
blend and the same budget; they differ only in the events they may read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.baselines.content import ContentKNN, ContentKNNConfig
from isthmus.baselines.cooccurrence import CoOccurrence, CoOccurrenceConfig
from isthmus.baselines.fading import fit_fading
from isthmus.baselines.popular import RecentPopular
from isthmus.blend import Blend, FittedWeights, fit_blend
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split
from isthmus.model.scorer import NeuralScorer
from isthmus.scoring import Requests, Scorer, Scores
from isthmus.training.loop import Log
from isthmus.training.tracking import Tracker
from isthmus.transfer.execution import run_stages
from isthmus.transfer.judges import judges
from isthmus.transfer.rehearsal import rehearsed_weights
from isthmus.transfer.stages import Train
from isthmus.transfer.strategies import Roles, Strategy


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

    @property
    def n_domains(self) -> int:
        """Domains that it knows: those that were there when it was made, the first by index."""
        return len(self.neural.model.bounds) - 1


@dataclass(frozen=True)
class Joined:
    """What answers for a domain that joined a fitted model.

    Attributes:
        arrived: as it joined; its events are counted as what sold and what follows what, and
            teach nothing else.
        adapted: learnt from its events; None where there are none, or too few to judge it by.
    """

    arrived: Side
    adapted: Side | None = None


TREND_POWER = 0.25
"""Of co-occurrence in a blend: what sold in those days is counted by another part already.

Cross-fitted on validation, NDCG@10 against none and .5: Food–Kitchen .0882 (.0862, .0874) and .0502
(.0493, .0503), cut in time .0888 (.0867, .0875) and .0563 (.0536, .0564); the generated world,
where little is a matter of days, .1105 (.1126, .1064) and .1792 (.1796, .1731).
"""
FADES_TO = 0.2
"""Of co-occurrence in a blend: what an old pair counts beside a new one, where pairs fade.

Cross-fitted on validation behind a cut, NDCG@10 against pairs that do not: Food–Kitchen of both
-.2 %, +7.4 %, alone +1.6 %, +2.1 %; a third or a ninth, and 10 or 40 days, give nearly as much. In
one of the two categories of Ciao it would cost a third of NDCG@10; there they are found not to.
"""


def fit_parts(
    dataset: Dataset,
    split: Split,
    raw: Sequence[ItemFeatures],
    neural: NeuralScorer,
    config: Config,
    *,
    reads: tuple[int, ...],
    asks: tuple[int, ...],
    company: CoOccurrenceConfig | None = None,
) -> dict[str, Scorer]:
    """The configured parts of a blend.

    They are fitted on the events of the domains in `reads`, and look at the history in those in
    `asks` when a question comes. Counts go on after training, as updates let them, and answer as of
    a question's time. Co-occurrence counts as `company` says, or else as suits held-back questions.
    """
    events = split.train_events(dataset).only(*reads)
    known = split.known(dataset) & np.isin(dataset.events.domain, reads)
    merged = len(asks) > 1

    def count_company() -> CoOccurrence:
        if company is None:
            ours = CoOccurrenceConfig(merged=merged, trend_power=TREND_POWER)
            return fit_fading(
                dataset, split, ours, config, reads=reads, domains=reads, fades_to=FADES_TO
            )
        counted, learnt = dataset.events.keep(known), split.in_train[known]
        return CoOccurrence.fit(dataset, counted, company, learnt=learnt)

    makers: dict[str, Callable[[], Scorer]] = {
        "neural": lambda: neural,
        "co-occurrence": count_company,
        "text": lambda: ContentKNN.fit(
            dataset,
            events,
            raw,
            ContentKNNConfig(merged=merged),
        ),
        "recent-popular": lambda: RecentPopular.fit(dataset, dataset.events.keep(known)),
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
    target: int | None = None,
    folder: Path | None = None,
    watch: Tracker | None = None,
) -> Side:
    """Train a strategy's stages, fit the other parts and weigh them on validation questions.

    A target that the strategy leaves out on purpose is read at the question, known by its texts,
    and gets part weights found on the other domains; its validation questions only judge them.

    Args:
        strategy: what trains on which domains.
        dataset: the snapshot.
        split: training events and validation questions.
        raw: text vectors as the language model gives them, per domain.
        features: the same, aligned.
        config: everything else.
        target: index of the one domain that is asked about; None where there are several.
        folder: where checkpoints and curves go; None keeps none.
        watch: takes the figures of every epoch, and may raise to break off.

    Raises:
        ConfigError: the strategy suits neither the domains nor the configuration.
    """
    roles = roles_of(dataset, config, target)
    stages = strategy.stages(roles)
    trained = run_stages(
        stages, dataset, split, features, config, raw=raw, folder=folder, watch=watch
    )
    start = time.perf_counter()
    last = stages[-1]
    assert isinstance(last, Train), "run_stages has checked it"
    left_out = target if roles.leaves_out_target(last) else None
    reads = last.reads if left_out is None else (*last.reads, left_out)
    neural = NeuralScorer(trained.model, reads)
    parts = fit_parts(dataset, split, raw, neural, config, reads=last.reads, asks=reads)
    blind: Mapping[str, Scorer] = parts
    if left_out is not None:
        blind = {name: _Reading(part, last.reads) for name, part in parts.items()}
    fitted = {d: _weighed(blind, dataset, split, d, config) for d in last.learns}
    if left_out is not None:
        unread = NeuralScorer(trained.model, last.reads)
        rehearsed = rehearsed_weights(
            unread, blind, dataset, split, features, config, last.learns, newcomers=False
        )
        given = {**prior_weights(fitted, parts), **(rehearsed or {})}
        fitted[left_out] = _weighed(parts, dataset, split, left_out, config, given)
    blend = blend_of(parts, fitted, strategy.name)
    seconds = trained.seconds | {f"blend {strategy.name}": time.perf_counter() - start}
    return Side(strategy.name, neural, parts, blend, fitted, trained.logs, seconds)


def _weighed(
    parts: Mapping[str, Scorer],
    dataset: Dataset,
    split: Split,
    domain: int,
    config: Config,
    given: Mapping[str, float] | None = None,
) -> FittedWeights:
    """Weights of the parts, found on a domain's validation questions; or `given`, and judged."""
    return fit_blend(
        parts,
        dataset,
        judges(split, dataset, domain, config.blend),
        domain,
        config.blend,
        batch=config.evaluation.batch,
        max_history=config.evaluation.max_history,
        seed=config.seed,
        exclude_seen=config.evaluation.exclude_seen,
        given=given,
    )


class _Reading:
    """A scorer that is shown the history in some domains only."""

    def __init__(self, scorer: Scorer, domains: tuple[int, ...]) -> None:
        self.scorer, self.domains, self.name = scorer, domains, scorer.name

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """See `Scorer`."""
        seen = requests.among(self.domains)
        return self.scorer.score(seen, domain, items)


def roles_of(dataset: Dataset, config: Config, target: int | None) -> Roles:
    """The domains of a snapshot and their configured weights."""
    weights = tuple(config.training.domain_weights.get(name, 1.0) for name in dataset.names)
    return Roles(dataset.names, weights, target)


def blend_of(
    parts: Mapping[str, Scorer],
    fitted: Mapping[int, FittedWeights],
    name: str,
    *,
    others: Iterable[int] = (),
) -> Blend:
    """The parts with what was fitted, and for the `others` the mean of what was fitted elsewhere.

    Args:
        parts: scorers by name.
        fitted: per domain index.
        name: of the blend.
        others: domain indices that nothing was fitted for, or without a question to fit it on.
    """
    weights = {d: f.weights for d, f in fitted.items()}
    newcomers = {d: w for d, f in fitted.items() if (w := f.newcomer_weights) is not None}
    for d in others:
        weights[d] = prior_weights(fitted, parts)
        if newcomers:
            newcomers[d] = _mean_weights(list(newcomers.values()), parts)
    return Blend(parts, weights, newcomers=newcomers, name=name)


def prior_weights(
    fitted: Mapping[int, FittedWeights], parts: Mapping[str, Scorer]
) -> dict[str, float]:
    """Mean part weights of the domains that had validation questions; 1 where none had."""
    return _mean_weights([f.weights for f in fitted.values() if len(f.gain)], parts)


def _mean_weights(
    informed: Sequence[Mapping[str, float]], parts: Mapping[str, Scorer]
) -> dict[str, float]:
    return {
        name: sum(w[name] for w in informed) / len(informed) if informed else 1.0 for name in parts
    }
