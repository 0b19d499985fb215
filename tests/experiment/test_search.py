"""A search: the configured settings first, nothing finished is lost, the best is written out."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from isthmus.config import Config, Range
from isthmus.data.build import build_dataset
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.errors import ConfigError, TrainingError
from isthmus.experiment.search import search
from isthmus.experiment.search_space import SearchSpace, value_of
from isthmus.report.search import write_search

pytest.importorskip("optuna")
KEYS = {"training.learning_rate", "model.dim"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of a tiny world whose items are known by id alone, and a configuration."""
    folder = tmp_path_factory.mktemp("shop")
    domains = (DomainSpec(name="books", n_items=60), DomainSpec(name="gear", n_items=40))
    generate_world(WorldConfig(n_users=120, n_themes=6, domains=domains)).write(folder)
    (folder / "isthmus.toml").write_text(
        """
name = "tiny"
target = "gear"
[domains.books]
interactions = "books-interactions.parquet"
events = { time = "time" }
[domains.gear]
interactions = "gear-interactions.parquet"
events = { time = "time" }
[model]
dim = 16
layers = 1
use_text = false
[training]
epochs = 3
evaluate_every = 1
threads = 1
[blend]
parts = ["neural", "recent-popular"]
[search]
trials = 6
[search.space]
"model.dim" = [8, 32]
"training.learning_rate" = { low = 1e-3, high = 1e-2, log = true }
"""
    )
    return folder


def config_of(shop: Path, *overrides: str) -> Config:
    return Config.load(shop / "isthmus.toml", overrides=overrides)


def finished(folder: Path) -> dict[int, tuple[float, tuple[float, ...]]]:
    """Number → figure and settings of the complete trials on disk."""
    file = folder / "study.db"
    if not file.exists():
        return {}
    with sqlite3.connect(file) as study:
        try:
            rows = study.execute(
                "select t.number, v.value, p.param_value from trials t "
                "join trial_values v using (trial_id) join trial_params p using (trial_id) "
                "where t.state = 'COMPLETE' order by t.number, p.param_name"
            ).fetchall()
        except sqlite3.OperationalError:
            return {}
    found: dict[int, tuple[float, tuple[float, ...]]] = {}
    for number, value, parameter in rows:
        found[number] = (value, (*found.get(number, (0, ()))[1], parameter))
    return found


def test_the_configured_settings_come_first_and_the_best_is_written(
    shop: Path, tmp_path: Path
) -> None:
    config = config_of(shop)
    record = search(config, tmp_path / "search")
    assert len(record.trials) == 6
    assert [trial.is_default for trial in record.trials] == [True, *[False] * 5]
    assert record.trials[0].values == {"model.dim": 16, "training.learning_rate": 2e-3}
    best = record.best
    assert best is not None
    assert best.figure == max(t.figure for t in record.trials if t.figure is not None)
    written = Config.load(tmp_path / "search" / "best.toml")
    for key in KEYS:
        assert value_of(written, key) == best.values[key]
    usual = config.model_dump(exclude={"model", "training"})
    assert written.model_dump(exclude={"model", "training"}) == usual
    assert not list((tmp_path / "search" / "trials").iterdir())
    assert set(record.importance) == KEYS
    shares = list(record.importance.values())
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)

    page = write_search(tmp_path / "search.html", record).read_text("utf-8")
    assert page.count('<th scope="row">') == 6
    assert page.count("<small>as configured</small>") == 1
    assert 'src="http' not in page.split("<script>")[0]


def test_more_trials_go_on_from_those_there_are(shop: Path, tmp_path: Path) -> None:
    first = search(config_of(shop, "search.trials=2"), tmp_path)
    again = search(config_of(shop, "search.trials=2"), tmp_path)
    assert again == first
    assert first.importance == {}, "two trials tell nothing of what mattered"
    more = search(config_of(shop, "search.trials=4"), tmp_path)
    assert more.trials[:2] == first.trials
    assert len({tuple(trial.values.items()) for trial in more.trials}) == 4


def test_a_killed_search_loses_no_finished_trial(shop: Path, tmp_path: Path) -> None:
    words = ["search", "--config", shop / "isthmus.toml", "--runs", tmp_path, "--json"]
    command = [sys.executable, "-m", "isthmus", *map(str, words)]
    folder = tmp_path / "tiny" / "search"
    process = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL)
    while len(finished(folder)) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = finished(folder)
    assert 2 <= len(kept) < 6

    record = search(config_of(shop), folder)
    found = finished(folder)
    assert {number: found[number] for number in kept} == kept
    assert len([t for t in record.trials if t.state in ("complete", "pruned")]) == 6
    assert record.default is not None


def test_a_trial_that_was_cut_short_is_begun_again(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isthmus.experiment import search as module

    class Killed(BaseException):
        """As abrupt as a kill, for what runs in this process."""

    real, seen = module._Prepared.judge, []

    def cut(self: object, config: Config, folder: Path, watch: object) -> float:
        seen.append((config.model.dim, config.training.learning_rate, folder))
        if len(seen) == 2:
            # A kill leaves the trial running; Optuna must not get to mark it.
            raise Killed
        return real(self, config, folder, watch)  # type: ignore[arg-type]

    monkeypatch.setattr(module._Prepared, "judge", cut)
    with pytest.raises(Killed):
        search(config_of(shop, "search.trials=3"), tmp_path)
    with sqlite3.connect(tmp_path / "study.db") as study:
        study.execute("update trials set state = 'RUNNING', datetime_complete = null "
                      "where number = 1")  # fmt: skip
    record = search(config_of(shop, "search.trials=3"), tmp_path)
    assert seen[2] == seen[1]
    assert len(record.trials) == 3


def test_two_workers_share_the_trials(shop: Path, tmp_path: Path) -> None:
    record = search(config_of(shop, "search.trials=3", "search.workers=2"), tmp_path)
    assert len(record.trials) == 3
    assert sum(trial.is_default for trial in record.trials) == 1


def test_poor_trials_are_broken_off(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isthmus.experiment import search as module

    given = iter([0.5, 0.4, 0.1, 0.6])

    def judge(self: object, config: Config, folder: Path, watch: module._Watch) -> float:
        figure = next(given)
        for step in (3, 6, 3):
            # The last one is another stage's, and counts on from the first's.
            watch.log({"loss": 1.0}, step - 1)
            watch.log({"validation": figure}, step)
        return figure

    monkeypatch.setattr(module._Prepared, "judge", judge)
    record = search(config_of(shop, "search.trials=4", "search.prune_from=2"), tmp_path)
    assert [trial.state for trial in record.trials] == [
        "complete",
        "complete",
        "pruned",
        "complete",
    ]
    assert record.trials[2].figure is None
    assert record.trials[2].looks[0] == 0.1
    assert record.trials[0].looks == [0.5] * 3
    assert steps_of(tmp_path) == [3, 6, 9]


def steps_of(folder: Path) -> list[int]:
    """At which steps the first trial was looked at."""
    with sqlite3.connect(folder / "study.db") as study:
        rows = study.execute(
            "select v.step from trial_intermediate_values v join trials t using (trial_id) "
            "where t.number = 0 order by v.step"
        ).fetchall()
    return [step for (step,) in rows]


def test_settings_that_cannot_be_together_fail_alone(shop: Path, tmp_path: Path) -> None:
    base = config_of(shop).model_dump(mode="json")
    # 3 heads divide 24 and not 16.
    base["search"] |= {"trials": 8, "space": {"model.heads": [2, 3], "model.dim": [24]}}
    base["model"]["dim"] = 24
    base["search"]["space"]["model.dim"] = [24, 16]
    record = search(Config.parse(base), tmp_path)
    failed = [trial for trial in record.trials if trial.state == "fail"]
    assert all(t.values == {"model.heads": 3, "model.dim": 16} for t in failed)
    assert all("3 heads do not divide dim 16" in str(trial.error) for trial in failed)
    assert record.best is not None


def test_a_study_of_other_settings_is_not_gone_on_with(shop: Path, tmp_path: Path) -> None:
    search(config_of(shop, "search.trials=1"), tmp_path)
    with pytest.raises(ConfigError, match="begun with other settings"):
        search(config_of(shop, "search.trials=2", "training.epochs=2"), tmp_path)


def test_a_study_of_other_tables_is_not_gone_on_with(shop: Path, tmp_path: Path) -> None:
    own = tmp_path / "shop"
    shutil.copytree(shop, own)
    search(config_of(own, "search.trials=1"), tmp_path / "search")
    table = own / "gear-interactions.parquet"
    half = pl.read_parquet(table).filter(pl.col("user_id").str.slice(-1).is_in(list("02468")))
    half.write_parquet(table)
    with pytest.raises(ConfigError, match="begun with other settings, tables"):
        search(config_of(own, "search.trials=1"), tmp_path / "search")


def test_one_search_in_a_folder_at_a_time(shop: Path, tmp_path: Path) -> None:
    from isthmus.experiment.search import _alone

    with _alone(tmp_path), pytest.raises(TrainingError, match="another process is searching"):
        search(config_of(shop), tmp_path)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"model.dims": [8]}, "'model.dims' is no setting. Did you mean 'dim'?"),
        ({"model": [8]}, "'model' holds no single value"),
        ({"model.dim": [2]}, "2 cannot be tried"),
        ({"training.learning_rate": {"low": -1, "high": 1}}, "-1.0 cannot be tried"),
        ({"model.use_ids": {"low": 0, "high": 1}}, "'model.use_ids' is no number"),
        ({}, "nothing is to be tried"),
        ({"domains.gear.events.time": ["time"]}, "'domains.gear.events.time' changes no trial"),
        ({"modle.dim": [8]}, "'modle.dim' is no setting. Did you mean 'model'?"),
        ({"split.kind": ["leave-one-out"]}, "'split.kind' changes no trial"),
        ({"tuning.rank": [8, 16]}, "'tuning.rank' changes no trial"),
        ({"pretraining.steps": [100]}, "'pretraining.steps' changes no trial"),
        ({"tasks.hidden": [8]}, "'tasks.hidden' changes no trial"),
        ({"evaluation.batch": [8]}, "'evaluation.batch' changes no trial"),
        ({"blend.gate": [False]}, "'blend.gate' changes no trial"),
        ({"training.device": ["cpu"]}, "'training.device' changes no trial"),
    ],
)
def test_a_space_that_cannot_be_meant(space: dict, said: str, shop: Path) -> None:
    raw = config_of(shop).model_dump(mode="json")
    raw["search"]["space"] = space
    with pytest.raises(ConfigError) as caught:
        SearchSpace(Config.parse(raw))
    assert said in str(caught.value)


def test_another_way_of_reading_reaches_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isthmus.experiment import search as module

    domains = (DomainSpec(name="books", n_items=60), DomainSpec(name="gear", n_items=40))
    generate_world(WorldConfig(n_users=60, n_themes=6, domains=domains)).write(tmp_path)
    raw: dict = {"language": {"cache": str(tmp_path / "cache"), "runtime": "torch"}}
    raw["domains"] = {
        name: {
            "interactions": f"{name}-interactions.parquet",
            "events": {"time": "time"},
            "items": f"{name}-items.parquet",
            "catalogue": {"text": ["title"]},
        }
        for name in ("books", "gear")
    }
    raw["search"] = {"space": {"language.max_tokens": [4, 64], "language.whiten_dim": [8]}}
    config = Config.parse(raw, base=tmp_path)
    prepared = module._Prepared(config, build_dataset(config)[0])
    space, seen = SearchSpace(config), []

    def fitted(*given: object, **_named: object) -> None:
        seen.append(given[3])
        raise TrainingError("far enough")

    monkeypatch.setattr(module, "fit_side", fitted)
    watch: module._Watch = None  # type: ignore[assignment]
    for tokens in (64, 4, 64):
        tried = space.with_values({"language.max_tokens": tokens})
        with pytest.raises(TrainingError, match="far enough"):
            prepared.judge(tried, tmp_path, watch)
    whole, cut, again = (vectors[0].vectors for vectors in seen)
    assert (whole != cut).any()
    assert (whole == again).all()


def test_the_configured_value_is_always_in_the_space(shop: Path) -> None:
    raw = config_of(shop).model_dump(mode="json")
    raw["search"]["space"] = {
        "model.dim": [8],
        "training.id_rate": {"low": 40, "high": 90},
    }
    space = SearchSpace(Config.parse(raw))
    assert space.ranges["model.dim"] == [16, 8]
    assert space.ranges["training.id_rate"] == Range(low=30, high=90)
