import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file, save_file

from isthmus import failpoints
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.errors import ConfigError, DataError, RequestError
from isthmus.experiment import compare as module
from isthmus.experiment.compare import compare
from isthmus.experiment.records import read_run
from isthmus.experiment.seed_run import GATED, TARGET_ONLY, TRANSFERRED, Measured
from isthmus.language.models import find_model

BASELINES = ["popular", "text"]


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
            "blend": {"slice_users": 10},
            "language": {"cache": str(tmp_path_factory.mktemp("cache")), "whiten_dim": 16},
        }
    )


def test_a_comparison_is_recorded_pooled_and_not_measured_twice(
    books_and_gear: Dataset, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"dataset": books_and_gear, "targets": ["gear"], "seeds": [0, 1], "folder": tmp_path}
    first = compare(config, baselines=BASELINES, **asked).record

    again = read_run(tmp_path / "small")
    assert again.metrics.equals(first.metrics)
    assert [v.sources for v in first.verdicts] == [["books"]]
    shown = first.metrics.filter(
        pl.col("metric") == "ndcg@10", pl.col("slice") == "all", pl.col("against").is_null()
    )
    for system in (GATED, TRANSFERRED, TARGET_ONLY):
        rows = shown.filter(pl.col("system") == system)
        pooled = rows.filter(pl.col("seed").is_null())["value"].item()
        each = rows.filter(pl.col("seed").is_not_null()).sort("seed")
        assert each["seed"].to_list() == [0, 1]
        assert each["value"].mean() == pytest.approx(pooled)
    assert {s.name for s in first.systems} >= {*BASELINES, GATED, TRANSFERRED, TARGET_ONLY}
    assert first.item_map is not None
    assert len(first.examples[0].recommendations) == 5

    (gate,) = first.gates
    judged = [part for part in gate.slices if part.shrunk]
    assert {part.people for part in judged} > {"people new to gear"}
    assert sum(part.n - part.asked_again for part in gate.slices) > 0
    for part in judged:
        for change in (part.measured, part.shrunk):
            assert change is not None
            assert change.low <= change.value <= change.high

    def never(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("it was measured before")

    monkeypatch.setattr(module, "measure_systems", never)
    monkeypatch.setattr(module, "measure_baseline", never)
    resumed = compare(config, baselines=BASELINES, **asked).record
    assert resumed.metrics.equals(first.metrics)


def test_losses_on_representations_report_distances_before_and_after(
    books_and_gear: Dataset, config: Config, tmp_path: Path
) -> None:
    asked = {"dataset": books_and_gear, "targets": ["gear"], "baselines": ["popular"]}
    chosen = config.override("alignment.representations={coral=10.0}", "alignment.warmup=0")
    record = compare(chosen, folder=tmp_path, **asked).record  # type: ignore[arg-type]
    (apart,) = record.distances
    assert (apart.a, apart.b) == ("books", "gear")
    names = ["texts", "texts, aligned", "learned, before training", "learned"]
    assert list(apart.stages) == names
    assert read_run(tmp_path / "small").distances == record.distances
    without = compare(config, folder=tmp_path / "off", **asked).record  # type: ignore[arg-type]
    assert without.distances == []


def test_one_domain_has_nothing_to_transfer(config: Config, tmp_path: Path) -> None:
    domains = (DomainSpec(name="gear", n_items=50, events_per_user=8),)
    alone = generate_world(WorldConfig(n_users=220, n_themes=8, domains=domains, seed=3)).dataset
    record = compare(config, dataset=alone, baselines=["popular"], folder=tmp_path).record
    assert "nothing to transfer" in record.verdicts[0].sentence
    assert TARGET_ONLY in record.metrics["system"].to_list()
    assert GATED not in record.metrics["system"].to_list()


def test_what_does_not_exist_is_said_before_anything_is_fitted(
    books_and_gear: Dataset, config: Config, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="popular"):
        compare(config, dataset=books_and_gear, baselines=["populer"], folder=tmp_path)
    with pytest.raises(RequestError, match="gear"):
        compare(config, dataset=books_and_gear, targets=["gaer"], folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_finished_parts_are_of_one_target_and_one_catalogue(
    books_and_gear: Dataset, config: Config
) -> None:
    def mark(dataset: Dataset, *targets: str) -> str:
        return module._fingerprint(config, dataset, targets)

    books, gear = books_and_gear.domains
    renamed = gear.items.with_columns(text=pl.lit("another title"))
    edited = replace(books_and_gear, domains=(books, replace(gear, items=renamed)))
    assert mark(books_and_gear, "books", "gear") == mark(books_and_gear, "gear", "books")
    assert mark(books_and_gear, "books") != mark(books_and_gear, "gear")
    assert mark(books_and_gear, "gear") != mark(edited, "gear")
    # Training weighs events, so the same events with other weights are other data.
    events = books_and_gear.events
    for column in ("weight", "rating", "kind"):
        other = replace(events, **{column: getattr(events, column) + 1})
        assert mark(books_and_gear, "gear") != mark(replace(books_and_gear, events=other), "gear")


def test_another_target_may_be_asked_for_in_the_same_folder(
    books_and_gear: Dataset, config: Config, tmp_path: Path
) -> None:
    for target in ("gear", "books"):
        asked = compare(
            config, dataset=books_and_gear, targets=[target], baselines=["popular"], folder=tmp_path
        )
        assert [v.target for v in asked.record.verdicts] == [target]


def test_a_domain_that_no_question_is_about_is_left_out_and_said(
    books_and_gear: Dataset, config: Config, tmp_path: Path
) -> None:
    only_books = replace(books_and_gear, events=books_and_gear.events.only(0))
    told: list[str] = []
    asked = compare(
        config, dataset=only_books, baselines=["popular"], folder=tmp_path, tell=told.append
    )
    assert [v.target for v in asked.record.verdicts] == ["books"]
    note = "gear: no test question has its answer there, so nothing is measured on it"
    assert note in asked.record.notes
    assert note in told
    assert len(asked.recommender.recommend("gear", users=[only_books.user_ids[0]], k=3)) == 3
    for named in (["gear"], ["books", "gear"]):
        with pytest.raises(DataError, match="no test question has its answer in 'gear'"):
            compare(config, dataset=only_books, targets=named, folder=tmp_path / "named")
    assert not (tmp_path / "named").exists()


def test_a_domain_that_is_not_learnt_is_not_said_to_be_without_people(
    books_and_gear: Dataset, config: Config, tmp_path: Path
) -> None:
    unlearnt = config.override("training.domain_weights.gear=0")
    record = compare(
        unlearnt, dataset=books_and_gear, targets=["gear"], baselines=[], folder=tmp_path
    ).record
    said = record.verdicts[0].sentence
    assert said.startswith("Whether books helps gear cannot be measured. gear is not learnt;")


def test_another_language_model_in_the_same_folder_is_another_comparison(
    books_and_gear: Dataset, config: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(find_model("embedded"), folder)
    here = config.override(f"language.model='{folder}'")
    before = module._fingerprint(here, books_and_gear, ["gear"])
    assert module._fingerprint(here, books_and_gear, ["gear"]) == before
    weights = load_file(folder / "model.safetensors")
    name = next(name for name, value in weights.items() if value.is_floating_point())
    save_file({**weights, name: weights[name] + 1}, folder / "model.safetensors")
    assert module._fingerprint(here, books_and_gear, ["gear"]) != before


@pytest.mark.parametrize("place", ["version-begun", "version-written", "version-named"])
def test_a_part_whose_writer_was_killed_is_found_whole_or_measured_again(
    place: str, tmp_path: Path
) -> None:
    part = tmp_path / "systems"
    script = (
        "from pathlib import Path; from isthmus.experiment.seed_run import Measured; "
        f"Measured(parameters=3).save(Path({str(part)!r}), 'this')"
    )
    told = {**os.environ, failpoints.VARIABLE: place}
    killed = subprocess.run([sys.executable, "-c", script], env=told, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert part.exists()
    found = Measured.load(part, "this")
    assert (None if found is None else found.parameters) == (
        3 if place == "version-named" else None
    )
    Measured(parameters=4).save(part, "this")
    found = Measured.load(part, "this")
    assert found is not None
    assert found.parameters == 4


def test_a_target_that_people_have_whole_is_reported_without_their_lists(
    books_and_gear: Dataset, config: Config, tmp_path: Path
) -> None:
    events = books_and_gear.events
    three = replace(events, item=np.where(events.domain == 1, events.item % 3, events.item))
    gear = books_and_gear.domains[1]
    small = replace(
        books_and_gear,
        domains=(books_and_gear.domains[0], replace(gear, items=gear.items.head(3))),
        events=three,
    )
    found = compare(
        config.model_copy(update={"name": "plans"}),
        dataset=small,
        targets=["gear"],
        baselines=["popular"],
        folder=tmp_path,
    )
    assert read_run(tmp_path / "plans").verdicts
    assert len(found.record.examples) < 2
