"""A domain joins a fitted system: it is recommended from by its texts alone, as zero-shot does.

What is there stays the very object that it was, so no score of an earlier domain changes. The
domain that joins gets a side of its own: the transferred neural part, which reads and asks about
the domain like the mean of those it was trained on and knows its items by their texts; the other
parts, which know no event of it yet; and part weights found on the other domains (`rehearsal.py`).
Parts that count events get their weight as there are events to count (`HALF_COUNTED`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from isthmus.alignment.domains import FeatureAlignment
from isthmus.blend import Blend, GateDecision
from isthmus.blend.fitting import LEAST_WEIGHT
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Queries, Split
from isthmus.model.core import CoreModel
from isthmus.model.growth import with_domains
from isthmus.model.scorer import NeuralScorer
from isthmus.scoring import Scorer
from isthmus.transfer.rehearsal import rehearsed_weights
from isthmus.transfer.sides import Joined, Side, blend_of, fit_parts
from isthmus.transfer.system import System

ARRIVED = "as it joined"

HALF_COUNTED = {"co-occurrence": 300, "recent-popular": 100}
"""Events of a domain at which a part that counts them has half of its weight elsewhere.

Parts are standardised, so an item that has sold twice where the others have not stands out as far
as a bestseller does elsewhere. Asked what comes next after 10 to 100 events, NDCG@10 changes by
−.001 to +.025 over that of a domain whose events are history alone (by hand, four generated worlds;
kitchenware that joins food: +.001 to +.013); with whole weights from the first event on by −.027 to
+.003 (two of them), with a quarter and a half of them throughout by −.010 to +.025.
"""


def join(
    system: System,
    dataset: Dataset,
    split: Split,
    raw: Sequence[ItemFeatures],
    config: Config,
    domain: int,
) -> System:
    """The system with a side for one domain more, or for one that had no behaviour when fitted.

    Args:
        system: fitted.
        dataset: the grown snapshot.
        split: of `dataset`.
        raw: text vectors as the language model gives them, of every domain.
        config: as the system was fitted.
        domain: index of the domain; of one that joins, the last.

    Raises:
        DataError: a map of `alignment.features` needs texts or pairs, and there are none.
    """
    features = system.features
    if domain == len(features):
        features = [*features, founding_alignment(system, dataset, raw, config).join(raw[-1])]
    same = system.own_features is system.features
    own = features if same else system.own_features
    grown = replace(system, features=features, own_features=own)
    side = _arrived(grown, dataset, split, raw, config, domain)
    reason = (
        f"{dataset.names[domain]} has no behaviour to validate on; it is served by its texts, with "
        "part weights found on the other domains."
    )
    return grown.with_joined(domain, Joined(side), GateDecision(1.0, reason=reason))


def counting(
    system: System, side: Side, parts: dict[str, Scorer], domain: int, n: int | None
) -> Side:
    """The side of a domain that joined, with `parts` that have counted `n` events of it.

    A service goes on counting what is popular, so however few were counted, a part keeps weight
    enough to rank for somebody of whom no other part knows anything. Where there is no text that
    counts could drown, `n` is None, and they keep the weight that they have elsewhere.
    """
    prior = blend_of(parts, system.transferred.fitted, side.name, others=[domain])

    def weighed(known: Mapping[str, float], usual: Mapping[str, float]) -> dict[str, float]:
        counted = {
            part: usual[part] if n is None else max(n / (n + half) * usual[part], LEAST_WEIGHT)
            for part, half in HALF_COUNTED.items()
            if part in usual
        }
        return {**known, **counted}

    before = side.blend
    weights = {domain: weighed(before.weights[domain], prior.weights[domain])}
    newcomers = {d: weighed(known, prior.newcomers[d]) for d, known in before.newcomers.items()}
    blend = Blend(parts, weights, newcomers=newcomers, name=before.name)
    return replace(side, parts=parts, blend=blend)


def extended_model(
    system: System,
    dataset: Dataset,
    split: Split,
    domain: int,
    n_domains: int,
    evidence: NDArray[np.float32] | None = None,
) -> CoreModel:
    """The transferred neural model for the first `n_domains` domains; see `with_domains`."""
    read, asked = trained_domains(system, dataset, split, domain)
    model, features = system.transferred.neural.model, system.features[:n_domains]
    return with_domains(model, features, read=read, asked=asked, evidence=evidence)


def trained_domains(
    system: System, dataset: Dataset, split: Split, domain: int
) -> tuple[list[int], list[int]]:
    """Domains that the transferred side was trained to read and to be asked about, but `domain`."""
    side = system.transferred
    behaved = set(np.unique(split.train_events(dataset).domain).tolist())
    trained = behaved - {*system.joined, domain}
    return sorted(trained & set(side.neural.reads)), sorted(trained & set(side.fitted))


def founding_alignment(
    system: System, dataset: Dataset, raw: Sequence[ItemFeatures], config: Config
) -> FeatureAlignment:
    """What brings a domain's text vectors to those that the transferred side was trained on."""
    n_founding = system.transferred.n_domains
    founding: Dataset | None = replace(dataset, domains=dataset.domains[:n_founding])
    known = list(raw[:n_founding])
    lone = [d for d, side in system.alone.items() if side is system.transferred]
    if lone:
        # It knows texts in its one domain's own axes, which are the shared ones of that alone.
        plain = {"features": ["whiten"], "basis": "shared", "anchor": None}
        known, founding = [raw[lone[0]]], None
        alignment = config.alignment.model_copy(update=plain)
        config = config.model_copy(update={"alignment": alignment})
    return FeatureAlignment.fit(known, config, founding)


def _arrived(
    system: System,
    dataset: Dataset,
    split: Split,
    raw: Sequence[ItemFeatures],
    config: Config,
    domain: int,
) -> Side:
    n_domains = len(system.features)
    reads = tuple(sorted({*system.transferred.neural.reads, *system.joined, domain}))
    model = extended_model(system, dataset, split, domain, n_domains)
    nothing = np.zeros(len(dataset.events), bool)
    none = Queries(np.zeros(0, np.int64))
    untaught = Split(split.name, nothing[:0], none, none, none)
    parts = fit_parts(
        replace(dataset, events=dataset.events.keep(nothing)),
        untaught,
        raw,
        NeuralScorer(model, reads),
        config,
        reads=reads,
        asks=reads,
    )
    side = system.transferred
    prior = blend_of(parts, side.fitted, ARRIVED, others=[domain])
    weights = {domain: prior.weights[domain]}
    newcomers = {domain: prior.newcomers[domain]} if domain in prior.newcomers else {}
    trained = trained_domains(system, dataset, split, domain)[1]
    known = system.features[: side.n_domains]
    rehearsed = rehearsed_weights(
        side.neural, parts, dataset, split, known, config, trained, newcomers=True
    )
    if rehearsed is not None:
        weights, newcomers = {domain: {**prior.weights[domain], **rehearsed}}, {}
    blend = Blend(parts, weights, newcomers=newcomers, name=ARRIVED)
    neural = parts.get("neural", NeuralScorer(model, reads))
    assert isinstance(neural, NeuralScorer)
    return counting(system, Side(ARRIVED, neural, parts, blend, {}), parts, domain, 0)
