"""Does the other domain help, by how much, and for whom? One call, one run folder, one record.

Fits the transferred and the target-only side and every baseline, asks each the same test
questions, and writes `runs/NAME/`. Finished parts are kept, so a killed comparison goes on.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from isthmus.config import Config
from isthmus.data.build import build_dataset
from isthmus.data.check import check_dataset
from isthmus.data.cleaning import CleaningReport
from isthmus.data.dataset import Dataset
from isthmus.evaluation.compare import compare as differences
from isthmus.evaluation.result import Evaluation, pool
from isthmus.experiment.baselines import chosen
from isthmus.experiment.environment import library_versions, peak_rss_mb
from isthmus.experiment.pictures import data_facts, example_users, item_map
from isthmus.experiment.records import write_run
from isthmus.experiment.schema import (
    Cost,
    Curve,
    Estimate,
    GateReport,
    GateSlice,
    RunRecord,
    Stage,
    Verdict,
    metric_table,
)
from isthmus.experiment.schema import System as SystemRow
from isthmus.experiment.seed_run import (
    GATED,
    NEURAL,
    NEURAL_ALONE,
    TARGET_ONLY,
    TRANSFERRED,
    Measured,
    measure_baseline,
    measure_systems,
)
from isthmus.experiment.verdict import most_for, verdict
from isthmus.recommender import Recommender

ABOUT = {
    GATED: ("gated", "Both sides mixed by the gate: what is served."),
    TRANSFERRED: ("transferred", "Learnt from all domains, blended."),
    TARGET_ONLY: ("target-only", "The same architecture, blend and budget, target alone."),
    NEURAL: ("baseline", "The transferred side's neural part by itself."),
    NEURAL_ALONE: ("baseline", "The target-only side's neural part by itself."),
}


@dataclass(frozen=True)
class Comparison:
    """What `compare` gives back.

    Attributes:
        record: everything measured, as written to the run folder.
        recommender: the first seed's, ready to serve.
    """

    record: RunRecord
    recommender: Recommender


def compare(
    config: Config,
    *,
    dataset: Dataset | None = None,
    targets: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    baselines: Sequence[str] | None = None,
    folder: Path = Path("runs"),
    tell: Callable[[str], None] = lambda _line: None,
) -> Comparison:
    """Fit, measure and record.

    Args:
        config: the run; `config.name` names its folder below `folder`.
        dataset: tables already read; None builds them from the configuration.
        targets: domains to answer for; None: `config.target`, or every domain.
        seeds: training seeds; figures are pooled over them.
        baselines: names from `experiment.baselines.BASELINES`; None: all.
        folder: parent of the run folder.
        tell: called with a line when a stage begins.

    Raises:
        ConfigError: an unknown baseline.
        RequestError: an unknown target.
    """
    competitors = chosen(baselines)
    cleaning = CleaningReport()
    if dataset is None:
        tell("reading tables")
        dataset, cleaning = build_dataset(config)
    wanted = targets or ([config.target] if config.target else list(dataset.names))
    indices = [dataset.domain_index(name) for name in wanted]
    run = folder / config.name
    mark = _fingerprint(config, dataset, wanted)

    measured: list[Measured] = []
    first: Recommender | None = None
    for seed in seeds:
        place = run / "parts" / f"seed-{seed}"
        wanted_parts = {n: b for n, b in competitors.items() if b.seeded or seed == seeds[0]}
        found = Measured.load(place / "systems", mark)
        parts: dict[str, Measured | None] = {
            name: Measured.load(place / "baselines" / name, mark) for name in wanted_parts
        }
        if first is None or found is None or None in parts.values():
            settings = config.model_copy(update={"seed": seed})
            began = time.perf_counter()
            tell(f"seed {seed}: fitting both sides")
            recommender = Recommender.fit(dataset, settings, targets=wanted, folder=place)
            first = first or recommender
            fitting = time.perf_counter() - began
            if found is None:
                tell(f"seed {seed}: measuring both sides")
                found = measure_systems(recommender, indices, settings, fitting)
                found.save(place / "systems", mark)
            for name, baseline in wanted_parts.items():
                if parts[name] is None:
                    tell(f"seed {seed}: {name}")
                    fresh = measure_baseline(name, baseline, recommender, indices, place)
                    fresh.save(place / "baselines" / name, mark)
                    parts[name] = fresh
        for part in parts.values():
            assert part is not None, "it was measured above"
            found.evaluations |= part.evaluations
            found.seconds |= part.seconds
        measured.append(found)
    assert first is not None, "there is at least one seed"

    record = _record(config, dataset, cleaning, wanted, list(seeds), measured, first)
    write_run(run, record)
    return Comparison(record, first)


def _record(
    config: Config,
    dataset: Dataset,
    cleaning: CleaningReport,
    targets: Sequence[str],
    seeds: Sequence[int],
    measured: Sequence[Measured],
    recommender: Recommender,
) -> RunRecord:
    metrics, pooled = _figures(dataset, targets, seeds, measured)
    rows = metric_table(metrics)
    stages: dict[str, float] = {}
    for found in measured:
        for name, seconds in found.seconds.items():
            stages[name] = stages.get(name, 0.0) + seconds
    split = recommender.split
    return RunRecord(
        name=config.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        split=split.name,
        protocol=next(iter(next(iter(pooled.values())).values())).protocol,
        systems=[
            SystemRow(name=name, role=ABOUT[name][0], about=ABOUT[name][1])
            if name in ABOUT
            else SystemRow(name=name, about=chosen([name])[name].about)
            for name in pooled
        ],
        verdicts=[_verdict(rows, dataset, target, measured) for target in targets],
        metrics=rows,
        gates=[_gate(target, measured) for target in targets],
        curves=_curves(dataset, measured[0]),
        examples=example_users(recommender, targets),
        item_map=item_map(dataset, recommender.raw, recommender.system.features),
        data=data_facts(check_dataset(dataset, cleaning)),
        cost=Cost(
            stages=[Stage(name=name, seconds=seconds) for name, seconds in stages.items()],
            seconds=sum(stages.values()),
            peak_rss_mb=peak_rss_mb(),
            parameters=measured[0].parameters,
            device=str(recommender.system.transferred.neural.model.items.table.device),
        ),
        versions=library_versions(),
        config=config.model_dump(mode="json"),
        notes=list(dataset.notes),
    )


def _figures(
    dataset: Dataset, targets: Sequence[str], seeds: Sequence[int], measured: Sequence[Measured]
) -> tuple[pl.DataFrame, dict[str, dict[str, Evaluation]]]:
    """Rows of each seed, pooled over seeds and paired; and the pooled evaluations."""
    frames: list[pl.DataFrame] = []
    pooled: dict[str, dict[str, Evaluation]] = {}
    for target in targets:
        sources = [name for name in dataset.names if name != target]
        for system in measured[0].evaluations:
            each = [
                (seed, found.evaluations[system][target])
                for seed, found in zip(seeds, measured, strict=True)
                if target in found.evaluations.get(system, {})
            ]
            if not each:
                continue
            used = sources if _reads_sources(system) else []
            pooled.setdefault(system, {})[target] = pool([evaluation for _, evaluation in each])
            frames.append(pooled[system][target].records(system=system, sources=used))
            if len(seeds) > 1:
                frames += [e.records(system=system, sources=used, seed=s) for s, e in each]
        frames += [
            differences(
                pooled[ours][target],
                theirs[target],
                system=ours,
                against=name,
                sources=sources,
            )
            for ours in ((GATED, TRANSFERRED) if sources else (TARGET_ONLY,))
            for name, theirs in pooled.items()
            if target in theirs and name not in (ours, GATED, TRANSFERRED, NEURAL, NEURAL_ALONE)
        ]
    return pl.concat(frames), pooled


def _reads_sources(system: str) -> bool:
    if system in ABOUT:
        return system in (GATED, TRANSFERRED, NEURAL)
    return chosen([system])[system].merged


def _verdict(
    rows: pl.DataFrame, dataset: Dataset, target: str, measured: Sequence[Measured]
) -> Verdict:
    """The headline for one target: the transferred side against the target alone."""
    sources = [name for name in dataset.names if name != target]
    if not sources:
        alone = f"There is one domain, {target}: nothing to transfer, so it is served alone."
        return Verdict(target=target, sources=[], helps="undecided", sentence=alone)
    paired = rows.filter(
        pl.col("target") == target,
        pl.col("system") == TRANSFERRED,
        pl.col("against") == TARGET_ONLY,
    )
    overall = paired.filter(pl.col("slice") == "all", pl.col("metric") == "ndcg@10")
    gate = _gate(target, measured)
    if not overall.height:
        return verdict(target, sources, None, gate_weight=gate.weight)
    row = overall.row(0, named=True)
    return verdict(
        target,
        sources,
        row["relative"],
        row["rel_low"],
        row["rel_high"],
        gate.weight,
        most_for=most_for(paired, target),
        slices=gate.slices,
    )


def _gate(target: str, measured: Sequence[Measured]) -> GateReport:
    """Gate and blend weights, averaged over seeds; the reason is the first seed's."""
    slices = [found.gates[target]["slices"] for found in measured]
    return GateReport(
        target=target,
        weight=_mean([found.gates[target]["weight"] for found in measured]),
        reason=measured[0].gates[target]["reason"],
        transferred=_mean_weights([f.blends[target].get(TRANSFERRED, {}) for f in measured]),
        target_only=_mean_weights([f.blends[target].get(TARGET_ONLY, {}) for f in measured]),
        uplift=_mean_change([found.gates[target]["relative"] for found in measured]),
        # Groups are cut by the validation questions, which are the same for every seed.
        slices=[_gate_slice(each) for each in zip(*slices, strict=True) if each[0]["n"]],
    )


def _gate_slice(each: Sequence[Mapping[str, Any]]) -> GateSlice:
    """One group of people, averaged over seeds."""
    return GateSlice(
        people=each[0]["people"],
        weight=_mean([found["weight"] for found in each]),
        n=each[0]["n"],
        asked_again=each[0]["asked_again"],
        measured=_mean_change([found["measured"] for found in each]),
        shrunk=_mean_change([found["shrunk"] for found in each]),
    )


def _mean_change(each: Sequence[Sequence[float] | None]) -> Estimate | None:
    """Value and both ends of the interval averaged; None where nothing was measured."""
    known = [change for change in each if change]
    if not known:
        return None
    value, low, high = (_mean([change[i] for change in known]) for i in range(3))
    return Estimate(value=value, low=low, high=high)


def _curves(dataset: Dataset, found: Measured) -> list[Curve]:
    return [
        Curve(
            system=stage,
            domain=stage.removeprefix(f"{TARGET_ONLY}-")
            if stage.startswith(TARGET_ONLY)
            else "all domains",
            epochs=[int(e["epoch"]) for e in epochs],
            loss=[e["loss"] for e in epochs],
            validation=[e.get("validation") for e in epochs],
        )
        for stage, epochs in found.curves.items()
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _mean_weights(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: _mean([weights[name] for weights in each]) for name in each[0]}


def _fingerprint(config: Config, dataset: Dataset, targets: Sequence[str]) -> str:
    """What a finished part depends on beside the seed: settings, targets, events and texts."""
    settings = config.model_dump(mode="json", exclude={"name", "seed", "target", "domains"})
    events = dataset.events
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
    for array in (events.offsets, events.domain, events.item, events.time):
        digest.update(array.tobytes())
    digest.update(json.dumps([dataset.names, sorted(targets)]).encode())
    for domain in dataset.domains:
        digest.update(domain.items.select("item_id", "text").write_json().encode())
    return digest.hexdigest()
