"""One seed of a comparison: fit everything, measure it, keep it on disk.

A finished part is a checkpoint folder of its own, so a comparison that was killed goes on with
what is missing and reads the rest back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.blend import GateDecision
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Split
from isthmus.evaluation.evaluate import evaluate
from isthmus.evaluation.result import Evaluation
from isthmus.experiment.baselines import Baseline, Ingredients
from isthmus.experiment.environment import peak_rss_mb
from isthmus.recommender import Recommender
from isthmus.scoring import Scorer
from isthmus.training.checkpoint import read_folder, write_folder
from isthmus.training.versions import never_finished, settle
from isthmus.transfer.sides import Side

KIND = "comparison"

GATED, TRANSFERRED, TARGET_ONLY = "cross-domain, gated", "cross-domain", "target-only"
NEURAL, NEURAL_ALONE = "cross-domain, neural part", "target-only, neural part"


@dataclass
class Measured:
    """What was found out with one seed; everything plain but the evaluations.

    Attributes:
        evaluations: by system, then target.
        gates: per target, weight, confidence, relative change, reason, and by group of people.
        blends: per target, part weights of the two sides.
        curves: per training stage, the log of its epochs.
        seconds: by stage.
        parameters: of the transferred neural part.
        peak_rss_mb: most memory that it took.
    """

    evaluations: dict[str, dict[str, Evaluation]] = field(default_factory=dict)
    gates: dict[str, dict[str, Any]] = field(default_factory=dict)
    blends: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    curves: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    parameters: int = 0
    peak_rss_mb: float = 0.0

    def save(self, folder: Path, fingerprint: str) -> None:
        """Write as one checkpoint folder."""

        def write(into: Path) -> None:
            for system, by_target in self.evaluations.items():
                for target, evaluation in by_target.items():
                    evaluation.save(into / f"{system}@{target}.parquet")

        meta = {k: v for k, v in vars(self).items() if k != "evaluations"}
        meta["systems"] = {s: list(by) for s, by in self.evaluations.items()}
        write_folder(folder, {}, kind=KIND, meta={**meta, "of": fingerprint}, files=[write])

    @classmethod
    def load(cls, folder: Path, fingerprint: str) -> Measured | None:
        """What `save` wrote for the same question, None where there is none."""
        if folder.exists():
            settle(folder)  # which removes what was begun and named by nobody
        if not folder.exists() or never_finished(folder):
            return None
        saved = read_folder(folder, kind=KIND)
        meta = dict(saved.meta)
        if meta.pop("of") != fingerprint:
            return None
        systems = meta.pop("systems")
        evaluations = {
            system: {t: Evaluation.load(saved.file(f"{system}@{t}.parquet")) for t in targets}
            for system, targets in systems.items()
        }
        return cls(evaluations=evaluations, **meta)

    def join(self, other: Measured) -> None:
        """Take in another part of the same seed."""
        self.evaluations |= other.evaluations
        self.seconds |= other.seconds
        self.peak_rss_mb = max(self.peak_rss_mb, other.peak_rss_mb)


@dataclass(frozen=True)
class Exam:
    """What is asked of everybody.

    Attributes:
        dataset: holds the questions' events.
        split: the questions, and which events were there to learn from.
        hidden: bool [n_events], events that no history shows; None: all are shown.
    """

    dataset: Dataset
    split: Split
    hidden: NDArray[np.bool_] | None = None

    def ask(self, scorer: Scorer, target: int, config: Config) -> Evaluation:
        """Measure a scorer on the test questions about `target`."""
        return evaluate(
            scorer, self.dataset, self.split, target, config=config.evaluation, hidden=self.hidden
        )


def measure_systems(
    recommender: Recommender,
    targets: Sequence[int],
    config: Config,
    fitting: float,
    exam: Exam | None = None,
) -> Measured:
    """Ask the test questions of both sides, the gated mix and the neural parts.

    Args:
        recommender: fitted.
        targets: domain indices.
        config: with this seed.
        fitting: seconds that the fit took.
        exam: what to ask; None: the questions of the split it was fitted on.
    """
    dataset, system = recommender.dataset, recommender.system
    exam = exam or Exam(dataset, recommender.split)
    found = Measured()
    start = time.perf_counter()
    for target in targets:
        name = dataset.names[target]
        alone = system.alone.get(target)
        scorers: dict[str, Scorer] = {}
        if len(dataset.domains) > 1:
            scorers |= {
                GATED: system.gated,
                TRANSFERRED: system.transferred.blend,
                NEURAL: system.transferred.neural,
            }
        if alone is not None:
            scorers |= {TARGET_ONLY: alone.blend, NEURAL_ALONE: alone.neural}
        for label, scorer in scorers.items():
            found.evaluations.setdefault(label, {})[name] = exam.ask(scorer, target, config)
        found.gates[name] = _plain_gate(system.gates[target], name)
        sides = {TRANSFERRED: system.transferred, TARGET_ONLY: alone}
        found.blends[name] = {
            label: dict(side.blend.weights[target])
            for label, side in sides.items()
            if side is not None and (label == TARGET_ONLY or len(dataset.domains) > 1)
        }
    found.seconds["evaluate"] = time.perf_counter() - start
    for side in _sides(recommender):
        found.seconds |= side.seconds
        found.curves |= {stage: log.epochs for stage, log in side.logs.items()}
    accounted = sum(s for side in _sides(recommender) for s in side.seconds.values())
    found.seconds["encode and prepare"] = max(0.0, fitting - accounted)
    model = system.transferred.neural.model
    found.parameters = sum(p.numel() for p in model.parameters()) + model.items.table.numel()
    found.peak_rss_mb = peak_rss_mb()
    return found


def measure_baseline(
    name: str,
    baseline: Baseline,
    given: Ingredients,
    targets: Sequence[int],
    folder: Path,
    exam: Exam | None = None,
) -> Measured:
    """Fit a competitor for each target and ask it the test questions.

    Args:
        name: what it is called.
        baseline: how it is fitted.
        given: what it is made of, whatever its target and folder.
        targets: domain indices.
        folder: where its checkpoints go.
        exam: what to ask; None: the questions of the split in `given`.
    """
    exam = exam or Exam(given.dataset, given.split)
    names = given.dataset.names
    start = time.perf_counter()
    found = Measured()
    for target in targets:
        checkpoints = folder / "checkpoints" / f"{name}-{names[target]}"
        fitted = baseline.fit(replace(given, target=target, folder=checkpoints))
        found.evaluations.setdefault(name, {})[names[target]] = exam.ask(
            fitted, target, given.config
        )
    found.seconds[f"baseline {name}"] = time.perf_counter() - start
    found.peak_rss_mb = peak_rss_mb()
    return found


def _sides(recommender: Recommender) -> list[Side]:
    system = recommender.system
    both = [system.transferred, *system.alone.values()]
    return list({id(side): side for side in both}.values())


def _plain_gate(gate: GateDecision, target: str) -> dict[str, Any]:
    """JSON has no NaN; groups of people are told in words."""
    plain = asdict(gate)
    if plain["confidence"] != plain["confidence"]:
        plain["confidence"] = None
    plain["slices"] = [{**asdict(part), "people": part.people(target)} for part in gate.slices]
    return plain
