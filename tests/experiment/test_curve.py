"""Curves and controls: the same questions, the ordinary figures at share 1, nothing done twice."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.splits import make_split
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.errors import ConfigError, DataError
from isthmus.experiment import curve as module
from isthmus.experiment.compare import Comparison, compare
from isthmus.experiment.curve import CurvePlan, Point
from isthmus.experiment.figures import lost
from isthmus.experiment.records import read_run, summary
from isthmus.experiment.schema import RunRecord
from isthmus.experiment.seed_run import (
    GATED,
    NEURAL_ALONE,
    TARGET_ONLY,
    TRANSFERRED,
    Measured,
)

BASELINES = ["popular", "ease"]
PLAN = CurvePlan(shares=(0.3,), controls=("shuffled-text", "random-overlap"))


@pytest.fixture(scope="module")
def books_and_gear() -> Dataset:
    domains = (
        DomainSpec(name="books", n_items=60, events_per_user=10),
        DomainSpec(name="gear", n_items=50, events_per_user=5),
    )
    return generate_world(WorldConfig(n_users=220, n_themes=8, domains=domains, seed=2)).dataset


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return Config.model_validate(
        {
            "name": "small",
            "model": {"dim": 8, "layers": 1, "heads": 2, "adapter_rank": 2},
            "training": {"epochs": 2, "evaluate_every": 1, "batch_events": 512, "negatives": 32},
            "evaluation": {"cutoffs": [10], "bootstrap": 100, "min_slice": 20},
            "blend": {"parts": ["neural", "text"]},
            "language": {"cache": str(tmp_path_factory.mktemp("cache")), "whiten_dim": 16},
        }
    )


def run(config: Config, dataset: Dataset, folder: Path, **asked: Any) -> Comparison:
    usual: dict[str, Any] = {"targets": ["gear"], "baselines": BASELINES, "plan": PLAN}
    return compare(config, dataset=dataset, folder=folder, **(usual | asked))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def ordinary(books_and_gear: Dataset, config: Config, folder: Path) -> RunRecord:
    return run(config, books_and_gear, folder, plan=None).record


@pytest.fixture(scope="module")
def record(books_and_gear: Dataset, config: Config, folder: Path, ordinary: RunRecord) -> RunRecord:
    return run(config, books_and_gear, folder).record


def rows_at(record: RunRecord, share: float, control: str = "none") -> pl.DataFrame:
    return record.metrics.filter(pl.col("share") == share, pl.col("control") == control)


def part(folder: Path, *names: str, seed: int = 0) -> Measured:
    """A measured part as it lies on disk, whatever it was measured for."""
    place = folder / "small" / "parts" / Path(*names) / f"seed-{seed}" / "systems"
    from isthmus.training.checkpoint import read_folder

    found = Measured.load(place, read_folder(place, kind="comparison").meta["of"])
    assert found is not None
    return found


def test_the_whole_is_the_ordinary_comparison(record: RunRecord, ordinary: RunRecord) -> None:
    assert rows_at(record, 1.0).equals(ordinary.metrics)
    assert [v.sentence for v in record.verdicts] == [v.sentence for v in ordinary.verdicts]
    assert record.headline().equals(ordinary.headline())
    assert ordinary.points == []
    whole = next(p for p in record.points if p.share == 1 and p.control == "none")
    assert whole.transferred == ordinary.verdicts[0].relative
    assert whole.gate_weight == ordinary.gates[0].weight


def test_every_point_is_recorded(record: RunRecord, folder: Path) -> None:
    wanted = [(s, c) for s in (0.3, 1.0) for c in ("none", *PLAN.controls)]
    assert [(p.share, p.control) for p in record.points] == wanted
    assert read_run(folder / "small").points == record.points
    assert len(summary(record)["curve"]) == len(wanted)
    few = record.points[0]
    whole = next(p for p in record.points if p.share == 1 and p.control == "none")
    assert 10 <= few.events < whole.events
    for point in record.points:
        assert point.seeds == [0]
        assert point.seconds > 0
        assert point.peak_rss_mb is not None
        assert point.peak_rss_mb > 10
        assert (point.lost is None) == (point.control == "none")
        rows = rows_at(record, point.share, point.control)
        assert {GATED, TRANSFERRED, TARGET_ONLY} <= set(rows["system"])
        overall = rows.filter(
            pl.col("metric") == "ndcg@10",
            pl.col("slice") == "all",
            pl.col("system") == TRANSFERRED,
            pl.col("against") == TARGET_ONLY,
        ).row(0, named=True)
        assert point.transferred is not None
        assert (point.transferred.value, point.transferred.low) == (
            overall["relative"],
            overall["rel_low"],
        )


def test_cheap_baselines_alone_are_fitted_on_less(record: RunRecord) -> None:
    assert "popular" in rows_at(record, 0.3)["system"].to_list()
    assert "ease" not in rows_at(record, 0.3)["system"].to_list()
    assert "ease" in rows_at(record, 1.0)["system"].to_list()
    assert "popular" not in rows_at(record, 1.0, "shuffled-text")["system"].to_list()
    named = CurvePlan(shares=(0.5,), baselines=("ease",))
    assert list(named.competitors(["popular"])) == ["ease"]


def test_the_same_questions_are_asked_everywhere(record: RunRecord, folder: Path) -> None:
    ordinary = part(folder, ".").evaluations
    few = part(folder, "curve", "gear", "users-0.3").evaluations
    for system in (TRANSFERRED, TARGET_ONLY):
        a, b = ordinary[system]["gear"], few[system]["gear"]
        assert np.array_equal(a.position[a.slices["all"]], b.position[b.slices["all"]])
    assert "kept users" in few[TRANSFERRED]["gear"].slices
    assert "kept users" not in ordinary[TRANSFERRED]["gear"].slices
    n = record.metrics.filter(pl.col("slice") == "all")["n"].unique()
    assert len(n) == 1


def test_a_control_of_the_sources_leaves_the_target_alone_as_it_was(
    record: RunRecord, folder: Path
) -> None:
    for share, ordinary in (("whole", "."), ("users-0.3", "curve/gear/users-0.3")):
        true = part(folder, ordinary).evaluations
        altered = part(folder, "curve", "gear", f"{share}-random-overlap").evaluations
        for system in (TARGET_ONLY, NEURAL_ALONE):
            before, after = (e[system]["gear"].values["ndcg@10"] for e in (true, altered))
            assert np.array_equal(before, after)
        other = part(folder, "curve", "gear", f"{share}-shuffled-text").evaluations
        for found in (altered, other):
            before, after = (e[TRANSFERRED]["gear"].values["ndcg@10"] for e in (true, found))
            assert not np.array_equal(before, after)


def test_the_target_alone_is_not_trained_again_for_a_control_of_the_sources(
    record: RunRecord, folder: Path
) -> None:
    stage = "train target-only-gear"
    for share, ordinary in (("whole", "."), ("users-0.3", "curve/gear/users-0.3")):
        true = part(folder, ordinary).seconds[stage]
        assert part(folder, "curve", "gear", f"{share}-random-overlap").seconds[stage] == true
        assert part(folder, "curve", "gear", f"{share}-shuffled-text").seconds[stage] != true


def test_a_killed_curve_goes_on_with_what_is_missing(
    record: RunRecord,
    books_and_gear: Dataset,
    config: Config,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fitted: list[Path | None] = []
    original = module.fit_system

    def counted(*given: Any, **named: Any) -> Any:
        fitted.append(named["folder"])
        return original(*given, **named)

    monkeypatch.setattr(module, "fit_system", counted)
    assert run(config, books_and_gear, folder).record.metrics.equals(record.metrics)
    assert fitted == []
    # A part of one point is lost, and a baseline of another: only the first needs a model.
    parts = folder / "small" / "parts" / "curve" / "gear"
    lost_part = parts / "users-0.3-shuffled-text" / "seed-0"
    for gone in (lost_part / "systems", parts / "users-0.3" / "seed-0" / "baselines" / "popular"):
        assert gone.exists()
        gone.rename(gone.with_name("gone"))
    again = run(config, books_and_gear, folder).record
    assert fitted == [lost_part]
    assert again.metrics.equals(record.metrics)


def test_another_seed_and_another_share_are_pooled_with_what_is_there(
    record: RunRecord,
    books_and_gear: Dataset,
    config: Config,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fitted: list[str] = []
    original = module.fit_system

    def counted(*given: Any, **named: Any) -> Any:
        fitted.append("/".join(named["folder"].parts[-2:]))
        return original(*given, **named)

    monkeypatch.setattr(module, "fit_system", counted)
    plan = CurvePlan(shares=(0.3, 0.6))
    # A folder of its own, so that the other tests find what they left.
    copied = folder.with_name(f"{folder.name}-more")
    shutil.copytree(folder, copied)
    longer = run(config, books_and_gear, copied, plan=plan, seeds=[0, 1]).record
    assert fitted == ["users-0.3/seed-1", "users-0.6/seed-0", "users-0.6/seed-1"]
    assert [p.share for p in longer.points] == [0.3, 0.6, 1.0]
    for point in longer.points:
        assert point.seeds == [0, 1]
        rows = rows_at(longer, point.share).filter(
            pl.col("system") == TARGET_ONLY, pl.col("metric") == "ndcg@10", pl.col("slice") == "all"
        )
        alone = dict(rows.select("seed", "value").iter_rows())
        assert set(alone) == {None, 0, 1}
        assert point.alone == pytest.approx(alone[None])
        assert point.alone == pytest.approx((alone[0] + alone[1]) / 2)


def test_a_point_is_of_one_target_share_kind_and_control() -> None:
    names = ("books", "gear")
    points = [Point(1, 0.3), Point(1, 0.4), Point(0, 0.3), Point(1, 0.3, "shuffled-text")]
    marks = {module._mark("whole", point, "users", names) for point in points}
    marks |= {module._mark("whole", points[0], "time", names)}
    marks |= {module._mark("another", points[0], "users", names)}
    assert len(marks) == 6


def test_what_cannot_be_measured_is_said_before_anything_is_fitted(
    books_and_gear: Dataset, config: Config, tmp_path: Path
) -> None:
    for shares in ((0.0, 1.0), (0.5, 1.5), (-0.1,)):
        with pytest.raises(ConfigError, match="no share"):
            CurvePlan(shares=shares)
    for shares in ((0.5, 0.1), (0.5, 0.5)):
        with pytest.raises(ConfigError, match="do not rise"):
            CurvePlan(shares=shares)
    with pytest.raises(ConfigError, match="popular"):
        CurvePlan(baselines=("populer",))
    with pytest.raises(ConfigError, match="twice"):
        CurvePlan(controls=("shuffled-text", "shuffled-text"))
    with pytest.raises(DataError, match=r"leaves \d training events in 'gear'"):
        run(config, books_and_gear, tmp_path, plan=CurvePlan(shares=(0.005, 1.0)))
    with pytest.raises(ConfigError, match="shuffled-text"):
        run(config, books_and_gear, tmp_path, plan=CurvePlan(controls=("shuffled-texts",)))
    alone = replace(
        books_and_gear,
        domains=books_and_gear.domains[1:],
        events=replace((only := books_and_gear.events.only(1)), domain=np.zeros_like(only.domain)),
    )
    with pytest.raises(ConfigError, match="one domain"):
        run(config, alone, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("strategy", ["meta", "pseudo-label"])
def test_one_strategy_at_one_point_and_another_at_the_next_is_refused(
    books_and_gear: Dataset, config: Config, tmp_path: Path, strategy: str
) -> None:
    chosen = config.override(f"transfer.strategy={strategy}")
    split = make_split(books_and_gear, "auto")
    with pytest.raises(ConfigError, match=r"--target: with several targets.*--target books"):
        run(chosen, books_and_gear, tmp_path, targets=None)
    assert not list(tmp_path.iterdir())
    PLAN.check(books_and_gear, split, [1], chosen)
    for same in ("joint", "distil", "pretrain-finetune"):
        alike = config.override(f"transfer.strategy={same}")
        PLAN.check(books_and_gear, split, [0, 1], alike)


def test_an_alignment_that_a_share_leaves_nobody_for_is_refused(
    books_and_gear: Dataset, config: Config, tmp_path: Path
) -> None:
    chosen = config.override("alignment.user_representations={infonce=1.0}")
    events = books_and_gear.events
    both = np.unique(events.user[events.domain == 1])[:40]
    # Most people of gear are in no other domain.
    few = events.keep((events.domain == 1) | (np.isin(events.user, both[-3:])))
    thin = replace(books_and_gear, events=few)
    CurvePlan().check(thin, make_split(thin, "auto"), [1], chosen)
    with pytest.raises(DataError, match="not two people have training events in both"):
        run(chosen, thin, tmp_path, plan=CurvePlan(shares=(0.1, 1.0)))
    assert not list(tmp_path.iterdir())


def test_targets_are_thinned_one_by_one_and_placed_without_a_clock(
    books_and_gear: Dataset, config: Config, tmp_path: Path
) -> None:
    events = books_and_gear.events
    clockless = replace(books_and_gear, events=replace(events, time=np.full(len(events), np.nan)))
    plan = CurvePlan(shares=(0.5,), by="time")
    found = run(config, clockless, tmp_path, targets=None, plan=plan, baselines=["popular"]).record
    assert [p.target for p in found.points] == ["books", "books", "gear", "gear"]
    split = make_split(clockless, "auto")
    for domain, name in enumerate(books_and_gear.names):
        half, whole = (p for p in found.points if p.target == name)
        assert half.by == "time"
        assert whole.events == (split.in_train & (events.domain == domain)).sum()
        assert half.events == int(np.ceil(whole.events / 2))
        assert any(f"{name} has no clock" in note for note in found.notes)


def test_what_a_control_takes_away_is_paired(record: RunRecord, folder: Path) -> None:
    true = part(folder, ".").evaluations
    same = lost(true, true, "gear", "ndcg@10")
    assert same is not None
    assert (same.value, same.low, same.high) == (0, 0, 0)
    altered = part(folder, "curve", "gear", "whole-shuffled-text").evaluations
    found = lost(true, altered, "gear", "ndcg@10")
    assert found is not None
    gain = [
        e[TRANSFERRED]["gear"].mean("ndcg@10") / e[TARGET_ONLY]["gear"].mean("ndcg@10") - 1
        for e in (true, altered)
    ]
    assert found.value == pytest.approx(gain[0] - gain[1])
    assert found.low < found.value < found.high
