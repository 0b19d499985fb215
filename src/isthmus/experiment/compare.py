"""Does the other domain help, by how much, and for whom? One call, one run folder, one record.

Fits the transferred and the target-only side and every baseline, asks each the same test
questions, and writes `runs/NAME/`. Finished parts are kept, so a killed comparison goes on.
"""

from __future__ import annotations

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
from isthmus.data.splits import Split, configured_split
from isthmus.errors import DataError
from isthmus.experiment.baselines import Baseline, Ingredients, chosen
from isthmus.experiment.curve import NONE, CurvePlan, Point, Whole, measure_curve
from isthmus.experiment.curve_record import Drawn, curve_record
from isthmus.experiment.environment import begin_peak, library_versions, peak_rss_mb
from isthmus.experiment.figures import ABOUT, Pooled, figures
from isthmus.experiment.fingerprint import fingerprint
from isthmus.experiment.pictures import data_facts, domains_apart, example_users, item_map
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
    TARGET_ONLY,
    TRANSFERRED,
    Measured,
    measure_baseline,
    measure_systems,
)
from isthmus.experiment.verdict import most_for, verdict
from isthmus.language.catalogues import cut_notes, cut_texts
from isthmus.recommender import Recommender
from isthmus.threads import threads

# What the language model learns by counts by its result, the texts' vectors.
_NO_MATTER = {"name", "seed", "target", "domains", "pretraining", "tuning", "distillation"}


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
    plan: CurvePlan | None = None,
    folder: Path = Path("runs"),
    tell: Callable[[str], None] = lambda _line: None,
) -> Comparison:
    """Fit, measure and record.

    Args:
        config: the run; `config.name` names its folder below `folder`.
        dataset: tables already read; None builds them from the configuration.
        targets: domains to answer for; None: `config.target`, or every domain.
        seeds: training seeds; figures are pooled over them.
        baselines: names from `experiment.baselines.BASELINES`; None: all but the neighbours.
        plan: shares of target data and controls to measure as well; None: neither.
        folder: parent of the run folder.
        tell: called with a line when a stage begins.

    Raises:
        ConfigError: a baseline that is unknown, or a baseline or plan that does not suit the data.
        DataError: a share of the plan leaves too little, or no test question is about a target.
        RequestError: an unknown target.
    """
    competitors = chosen(baselines)
    cleaning = CleaningReport()
    if dataset is None:
        tell("reading tables")
        dataset, cleaning = build_dataset(config)
    wanted = targets or ([config.target] if config.target else list(dataset.names))
    split = configured_split(dataset, config.split)
    named = bool(targets or config.target)
    asked, unasked = _with_questions(dataset, split, wanted, named=named)
    for note in unasked:
        tell(note)
    indices = [dataset.domain_index(name) for name in asked]
    events = split.train_events(dataset)
    for baseline in competitors.values():
        for target in indices:
            baseline.check(dataset, events, target)
    if plan is not None:
        plan.check(dataset, split, indices, config)
    run = folder / config.name
    points: dict[Point, list[Measured]] = {}
    with threads(config.training.threads):
        measured, first = _measure(
            config, dataset, split, wanted, indices, seeds, competitors, run / "parts", tell
        )
        if plan is not None:
            mark = _fingerprint(config, dataset, ())
            source = Whole(config, dataset, split, first.raw, mark, run / "parts", tell)
            points = measure_curve(plan, source, indices, seeds, list(competitors))
    whole = figures(dataset, asked, seeds, measured)
    drawn = curve_record(plan, dataset, split, seeds, points, measured, whole)
    record = _record(config, dataset, cleaning, asked, measured, first, whole, drawn, unasked)
    write_run(run, record)
    return Comparison(record, first)


def _with_questions(
    dataset: Dataset, split: Split, wanted: Sequence[str], *, named: bool
) -> tuple[list[str], list[str]]:
    """Targets that something can be measured on, and a sentence on each of the others.

    Raises:
        DataError: there is none, or one that was `named` is none.
    """
    about = set(dataset.events.domain[split.test.position].tolist())
    asked = [name for name in wanted if dataset.domain_index(name) in about]
    silent = [name for name in wanted if name not in asked]
    if silent and (named or not asked):
        raise DataError(
            f"no test question has its answer in {silent[0]!r}, so nothing can be measured there",
            where="split",
            hint="Choose another target, or a split that leaves it some events; 'isthmus fit' "
            "needs no test question",
        )
    return asked, [
        f"{name}: no test question has its answer there, so nothing is measured on it"
        for name in silent
    ]


def _measure(
    config: Config,
    dataset: Dataset,
    split: Split,
    targets: Sequence[str],
    indices: Sequence[int],
    seeds: Sequence[int],
    competitors: Mapping[str, Baseline],
    folder: Path,
    tell: Callable[[str], None],
) -> tuple[list[Measured], Recommender]:
    """What each seed gives on all data, read back where it is on disk; and the first's model.

    Fitted for `targets` by name, measured on those at `indices`.
    """
    mark = _fingerprint(config, dataset, targets)
    measured: list[Measured] = []
    first: Recommender | None = None
    for seed in seeds:
        place = folder / f"seed-{seed}"
        wanted_parts = {n: b for n, b in competitors.items() if b.seeded or seed == seeds[0]}
        found = Measured.load(place / "systems", mark)
        parts: dict[str, Measured | None] = {
            name: Measured.load(place / "baselines" / name, mark) for name in wanted_parts
        }
        if first is None or found is None or None in parts.values():
            settings = config.model_copy(update={"seed": seed})
            begin_peak()
            began = time.perf_counter()
            tell(f"seed {seed}: fitting both sides")
            recommender = Recommender.fit(
                dataset, settings, split=split, targets=targets, folder=place
            )
            first = first or recommender
            fitting = time.perf_counter() - began
            if found is None:
                tell(f"seed {seed}: measuring both sides")
                found = measure_systems(recommender, indices, settings, fitting)
                found.save(place / "systems", mark)
            given = Ingredients(
                dataset, split, split.train_events(dataset), recommender.raw, settings, 0, None
            )
            for name, baseline in wanted_parts.items():
                if parts[name] is None:
                    tell(f"seed {seed}: {name}")
                    begin_peak()
                    fresh = measure_baseline(name, baseline, given, indices, place)
                    fresh.save(place / "baselines" / name, mark)
                    parts[name] = fresh
        for part in parts.values():
            assert part is not None, "it was measured above"
            found.join(part)
        measured.append(found)
    assert first is not None, "there is at least one seed"
    return measured, first


def _record(
    config: Config,
    dataset: Dataset,
    cleaning: CleaningReport,
    targets: Sequence[str],
    measured: Sequence[Measured],
    recommender: Recommender,
    whole: tuple[pl.DataFrame, Pooled],
    drawn: Drawn,
    unasked: Sequence[str],
) -> RunRecord:
    metrics, pooled = whole
    rows = metric_table(metrics)
    stages: dict[str, float] = {}
    for found in measured:
        for name, seconds in found.seconds.items():
            stages[name] = stages.get(name, 0.0) + seconds
    for point in drawn.points:
        if point.share < 1 or point.control != NONE:
            stages["curve and controls"] = stages.get("curve and controls", 0.0) + point.seconds
    peaks = [found.peak_rss_mb for found in measured]
    peaks += [point.peak_rss_mb or 0.0 for point in drawn.points]
    split, cut = recommender.split, cut_texts(dataset.domains, recommender.raw)
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
        metrics=metric_table(pl.concat([rows, *drawn.frames])),
        gates=[_gate(target, measured) for target in targets],
        curves=_curves(dataset, measured[0]),
        points=drawn.points,
        examples=example_users(recommender, targets),
        item_map=item_map(dataset, recommender.raw, recommender.system.features),
        distances=domains_apart(recommender),
        data=data_facts(check_dataset(dataset, cleaning)),
        cost=Cost(
            stages=[Stage(name=name, seconds=seconds) for name, seconds in stages.items()],
            seconds=sum(stages.values()),
            peak_rss_mb=max(peak_rss_mb(), *peaks),
            parameters=measured[0].parameters,
            device=str(recommender.system.transferred.neural.model.items.table.device),
        ),
        versions=library_versions(),
        config=config.model_dump(mode="json"),
        notes=[*dataset.notes, *unasked, *cut_notes(cut, config.language), *drawn.notes],
    )


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
        return verdict(target, sources, None, gate_weight=gate.weight, unmeasured=gate.reason)
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
    settings = config.model_dump(mode="json", exclude=_NO_MATTER)
    return fingerprint(config, dataset, settings, targets)
