import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from isthmus.errors import CheckpointError
from isthmus.evaluation.result import RECORD_SCHEMA
from isthmus.experiment.records import read_run, summary, write_run, write_whole
from isthmus.experiment.schema import (
    Curve,
    GateReport,
    GateSlice,
    ItemMap,
    RunRecord,
    metric_table,
)
from isthmus.experiment.verdict import most_for, percent, slice_in_words, verdict


def figure(system: str, value: float, **more: object) -> dict[str, object]:
    low, high = value * 0.9, value * 1.1
    row = {"system": system, "target": "gear", "protocol": "full", "metric": "ndcg@10", "n": 900}
    return row | {"value": value, "ci_low": low, "ci_high": high} | more


def record(rows: list[dict[str, object]] | None = None, **more: object) -> RunRecord:
    rows = rows or [
        figure("cross", 0.05),
        figure("alone", 0.04),
        figure("cross", 0.01, against="alone", relative=0.25, rel_low=0.2, rel_high=0.3),
        figure("cross", 0.02, slice="cold users"),
        figure("cross", 0.9, control="shuffled texts"),
        figure("cross", 0.8, share=0.1),
        figure("cross", 0.7, protocol="sampled"),
        figure("cross", float("nan"), metric="mrr"),
    ]
    fields: dict[str, object] = {
        "name": "run", "created": "2026-01-01", "split": "global",
        "systems": [{"name": "cross", "role": "transferred"},
                    {"name": "alone", "role": "target-only"}],
        "metrics": metric_table(rows),
        "verdicts": [verdict("gear", ["books"], 0.25, 0.2, 0.3, 1.0)],
        "gates": [{"target": "gear", "weight": 0.5, "transferred": {"neural": 1.0}}],
        "cost": {"seconds": 3.5, "peak_rss_mb": 900.0},
        "config": {"seed": 3, "target": None, "a": {"path": Path("x/y"), "list": [1, 2.5]}},
        "notes": ["<b>émoji ☕ ‏עברית"],
    }  # fmt: skip
    return RunRecord(**(fields | more))


def same(a: RunRecord, b: RunRecord) -> bool:
    return (
        a.metrics.equals(b.metrics)
        and a.config == b.config
        and a.model_dump(mode="json") == b.model_dump(mode="json")
    )


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    before = record()
    write_run(tmp_path / "runs" / "one", before)
    after = read_run(tmp_path / "runs" / "one")
    assert same(before, after)
    assert after.config["a"] == {"path": "x/y", "list": [1, 2.5]}
    assert after.metrics.schema == RECORD_SCHEMA


def test_nothing_but_the_files_of_a_run_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("kept")
    write_run(tmp_path, record())
    write_run(tmp_path, record())
    names = {"config.toml", "metrics.json", "metrics.parquet", "run.json", "report.html"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_the_json_says_what_the_parquet_says(tmp_path: Path) -> None:
    write_run(tmp_path, record())
    told = json.loads((tmp_path / "metrics.json").read_text())
    table = pl.read_parquet(tmp_path / "metrics.parquet").filter(
        pl.col("protocol") == "full", pl.col("control") == "none", pl.col("share") == 1
    )
    whole = table.filter(pl.col("against").is_null(), pl.col("slice") == "all")
    assert len(whole) == 3
    assert sum(len(m) for d in told["systems"].values() for m in d.values()) == len(whole)
    for row in whole.iter_rows(named=True):
        found = told["systems"][row["system"]][row["target"]][row["metric"]]
        assert found == {"value": row["value"], "ci95": [row["ci_low"], row["ci_high"]]}
    (pair,) = told["differences"]
    assert (pair["system"], pair["against"], pair["relative_ci95"]) == (
        "cross",
        "alone",
        [0.2, 0.3],
    )
    assert told["cost"] == {"seconds": 3.5, "peak_rss_mb": 900.0}


def test_seeds_are_averaged_unless_somebody_pooled_them() -> None:
    seeds = [figure("cross", v, seed=s) for s, v in enumerate([0.04, 0.06])]
    told = summary(record(seeds))["systems"]["cross"]["gear"]["ndcg@10"]
    assert told["value"] == pytest.approx(0.05)
    assert told["ci95"] == pytest.approx([0.045, 0.055])
    pooled = summary(record([*seeds, figure("cross", 0.052)]))["systems"]["cross"]["gear"]
    assert pooled["ndcg@10"]["value"] == 0.052


def test_unknown_and_missing_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown metrics columns"):
        metric_table([figure("a", 1.0, colour="red")])
    with pytest.raises(ValueError, match="lack the columns"):
        metric_table([{"system": "a"}])


def test_parts_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValidationError, match="differ in length"):
        Curve(system="a", domain="b", epochs=[1, 2], loss=[0.1])
    with pytest.raises(ValidationError, match="differ in length"):
        ItemMap(domain=["a"], title=["b"], before=[(0, 0)], after=[])


@pytest.mark.parametrize("name", ["run.json", "metrics.parquet", "config.toml"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    write_run(tmp_path, record())
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        read_run(tmp_path)


def test_damage_is_found(tmp_path: Path) -> None:
    write_run(tmp_path, record())
    good = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def spoil(name: str, content: bytes, message: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            read_run(tmp_path)
        (tmp_path / name).write_bytes(good[name])

    flipped = bytearray(good["metrics.parquet"])
    flipped[40] ^= 1
    spoil("metrics.parquet", bytes(flipped), "not the one that run.json was written with")
    spoil("run.json", good["run.json"][:-9], "damaged")
    spoil("run.json", b"[]", "damaged")
    spoil("run.json", good["run.json"].replace(b'"schema": 1', b'"schema": 2'), "schema 2")
    spoil("run.json", good["run.json"].replace(b'"weight": 0.5', b'"weight": 7'), "damaged")
    spoil("config.toml", b"= =", "damaged")
    assert same(read_run(tmp_path), record())


def test_a_folder_that_cannot_be_written_is_an_error_with_nothing_half_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_run(tmp_path / "file" / "run", record())
    (tmp_path / "taken").mkdir()
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_whole(tmp_path / "taken", b"x")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "taken"}


@pytest.mark.parametrize(
    ("relative", "low", "high", "gate", "helps", "sentence"),
    [
        (0.38, 0.29, 0.47, 1.0, "yes",
         "books helps gear: NDCG@10 +38 % (95 % interval +29 % to +47 %); "
         "the transferred model is served."),
        (-0.01, -0.04, 0.02, 0.0, "no",
         "books does not help gear (−1 %, −4 % to +2 %): "
         "the gate is shut and the target-only model is served."),
        (-0.08, -0.12, -0.04, 0.0, "no",
         "books hurts gear (−8 %, −12 % to −4 %): "
         "the gate is shut and the target-only model is served."),
        (0.03, -0.01, 0.07, 0.4, "undecided",
         "Whether books helps gear is undecided: NDCG@10 +3 % (95 % interval −1 % to +7 %); "
         "40 % of the transferred model is served."),
    ],
)  # fmt: skip
def test_the_verdict_is_worded(
    relative: float, low: float, high: float, gate: float, helps: str, sentence: str
) -> None:
    given_ = verdict("gear", ["books"], relative, low, high, gate)
    assert (given_.helps, given_.sentence) == (helps, sentence)


def group(people: str, weight: float) -> GateSlice:
    return GateSlice(people=people, weight=weight, n=200)


@pytest.mark.parametrize(
    ("weight", "slices", "served"),
    [
        (0.8, [group("newcomers", 1), group("regulars", 0)],
         "the transferred model is served, except to regulars."),
        (0.7, [group("newcomers", 0.9), group("regulars", 0), group("others", 0)],
         "a part of the transferred model is served, except to regulars, and to others."),
        (0.0, [group("newcomers", 1), group("regulars", 0)],
         "the target-only model is served, except to newcomers."),
        (0.1, [group("a", 0), *(group(name, 1) for name in "bcd")],
         "the target-only model is served, except to 3 of 4 groups of people."),
        (0.6, [group("newcomers", 0.4), group("regulars", 0.7)],
         "60 % of the transferred model is served."),
        (1.0, [group("newcomers", 1), group("regulars", 1)], "the transferred model is served."),
        (0.0, [group("newcomers", 0), group("regulars", 0)],
         "the gate is shut and the target-only model is served."),
    ],
)  # fmt: skip
def test_the_verdict_names_those_who_are_served_otherwise(
    weight: float, slices: list[GateSlice], served: str
) -> None:
    said = verdict("gear", ["books"], 0.38, 0.29, 0.47, weight, slices=slices).sentence
    assert said.endswith(f"; {served}")


def test_refused_are_those_who_get_nothing_while_others_get_something() -> None:
    mixed = [group("newcomers", 1), group("regulars", 0), group("others", 0)]
    gate = GateReport(target="gear", weight=0.4, slices=mixed)
    assert [part.people for part in gate.refused] == ["regulars", "others"]
    assert not GateReport(target="gear", weight=0, slices=mixed[1:]).refused
    assert not GateReport(target="gear", weight=1, slices=mixed[:1]).refused


def test_a_run_recorded_before_groups_were_gated_is_read(tmp_path: Path) -> None:
    write_run(tmp_path, record())
    path = tmp_path / "run.json"
    assert '"slices": []' in path.read_text()
    path.write_text(path.read_text().replace('"slices": []', '"slices": {}'))
    assert same(read_run(tmp_path), record())


def test_the_verdict_names_several_sources_and_who_gains_most() -> None:
    said = verdict("gear", ["books", "films"], 0.1, 0.05, 0.2, None, most_for="newcomers").sentence
    assert said.startswith("books and films help gear: ")
    assert ", and most for newcomers; " in said


def test_without_behaviour_nothing_is_claimed() -> None:
    said = verdict("gear", ["books"], None)
    assert said.helps == "undecided"
    assert said.relative is None
    assert "cannot be measured" in said.sentence


@settings(deadline=None, max_examples=60)
@given(st.floats(-0.9, 3), st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_no_verdict_claims_help_when_the_interval_holds_zero(v: float, a: float, b: float) -> None:
    said = verdict("gear", ["books"], v, v - a, v + b, 1.0)
    assert (said.helps == "yes") == (v - a > 0)
    assert ("hurts" in said.sentence) == (v + b < 0)


def test_who_gains_most_must_surely_gain_more_than_all() -> None:
    def gain(slice_: str, relative: float, low: float, p: float = 0.01) -> dict[str, object]:
        uplift = {"relative": relative, "rel_low": low, "rel_high": 1.0, "p_holm": p}
        return figure("cross", 0.01, slice=slice_, against="alone", **uplift)

    everybody = gain("all", 0.2, 0.1)
    ahead, unsure = gain("target history 1–2", 0.5, 0.3), gain("cold users", 0.9, 0.1)
    items, chance = gain("new items", 0.9, 0.5), gain("cold users", 0.9, 0.5, p=0.2)
    assert most_for(metric_table([everybody, ahead, unsure, items, chance]), "gear") == (
        "people with 1–2 events in gear"
    )
    assert most_for(metric_table([everybody, unsure, items]), "gear") is None


def test_words_for_slices_and_shares() -> None:
    assert (
        slice_in_words("target history > 10", "gear") == "people with more than 10 events in gear"
    )
    assert slice_in_words("cold users", "gear") == "people new to gear"
    assert slice_in_words("my own", "gear") == "my own"
    shares = [0.38, -0.01, 0.0, 0.0123, -0.0999, 2.5, 0.0004]
    assert [percent(s) for s in shares] == [
        "+38 %", "−1 %", "0 %", "+1.2 %", "−10 %", "+250 %", "0 %",
    ]  # fmt: skip
