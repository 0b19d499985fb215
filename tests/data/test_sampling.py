"""A source larger than memory: a share of its people is read, or it is said how."""

from pathlib import Path

import polars as pl
import pytest

from isthmus.config import Config
from isthmus.data import memory, tables
from isthmus.data.build import build_dataset
from isthmus.data.dataset import Dataset
from isthmus.data.memory import free_bytes, share_that_fits
from isthmus.data.readers import open_table
from isthmus.errors import DataError

PEOPLE = 400


def events(n: int = PEOPLE) -> pl.DataFrame:
    """Five events of each person, in an order that is nobody's."""
    frame = pl.DataFrame(
        {
            "user_id": [f"u{i}" for i in range(n)] * 5,
            "item_id": [f"i{i % 23}" for i in range(5 * n)],
            "time": [1_600_000_000 + 37 * i for i in range(5 * n)],
        }
    )
    return frame.sample(fraction=1, shuffle=True, seed=3)


def built(folder: Path, share: float, *, kind: str = "csv", frame: pl.DataFrame | None = None):
    path = folder / f"events.{kind}"
    write = {"csv": pl.DataFrame.write_csv, "parquet": pl.DataFrame.write_parquet}
    write["jsonl"] = pl.DataFrame.write_ndjson
    write[kind](events() if frame is None else frame, path)
    return build_dataset(config(path, share))


def config(path: Path, share: float, **more: object) -> Config:
    domain = {"interactions": str(path), "events": {"time": "time"}, "sample_users": share}
    return Config.parse({"domains": {"shop": domain | more}})


def people(dataset: Dataset) -> set[str]:
    return set(dataset.user_ids)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_a_share_of_the_people_is_read_with_all_their_events(tmp_path: Path, kind: str) -> None:
    dataset, report = built(tmp_path, 0.3, kind=kind)
    assert 0.2 * PEOPLE < len(people(dataset)) < 0.4 * PEOPLE
    assert len(dataset.events) == 5 * len(people(dataset))
    assert f"{len(dataset.events):,} of 2,000 events were read" in " ".join(report.lines())
    assert any("shop: the events of 0.3 of its people" in note for note in dataset.notes)
    whole, said = built(tmp_path, 1.0, kind=kind)
    assert len(whole.events) == 2000
    assert said.lines() == []
    assert whole.notes == ()


def test_a_smaller_share_is_part_of_a_larger_one_whatever_holds_the_ids(tmp_path: Path) -> None:
    few, more = (people(built(tmp_path, share)[0]) for share in (0.1, 0.4))
    assert few < more
    assert few == people(built(tmp_path, 0.1, kind="parquet")[0])
    # The same ids as numbers, as texts with blanks, and as numbers beside a missing value.
    numbers = events().with_columns(pl.col("user_id").str.slice(1).cast(pl.Int64))
    texts = numbers.with_columns(pl.format(" {} ", "user_id").alias("user_id"))
    floats = numbers.with_columns(pl.col("user_id").cast(pl.Float64))
    found = [
        people(built(tmp_path, 0.3, kind="parquet", frame=frame)[0])
        for frame in (numbers, texts, floats)
    ]
    assert found[0] == found[1] == found[2]
    assert 0.2 * PEOPLE < len(found[0]) < 0.4 * PEOPLE


def test_rows_without_a_person_are_still_complained_of(tmp_path: Path) -> None:
    broken = events().with_columns(
        pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise("user_id").alias("user_id")
    )
    for kind in ("csv", "parquet"):
        with pytest.raises(DataError, match=r"1 of .* rows have no id"):
            built(tmp_path, 0.1, kind=kind, frame=broken)


def test_rows_keep_their_order_where_nothing_else_orders_them(tmp_path: Path) -> None:
    frame = events(5000)
    frame.write_parquet(tmp_path / "events.parquet", row_group_size=1000)
    table = open_table(tmp_path / "events.parquet")
    kept = table.read(["user_id", "item_id", "time"], keep=tables.in_sample("user_id", 0.4))
    inside = frame["user_id"].is_in(kept["user_id"].unique().implode())
    assert kept.equals(frame.filter(inside))


def test_what_cannot_fit_is_refused_with_a_share_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("csv", "parquet", "jsonl"):
        monkeypatch.setattr(tables, "free_bytes", lambda: 100_000)
        with pytest.raises(DataError, match=r"Set domains\.shop\.sample_users = 0\.1 to read"):
            built(tmp_path, 1.0, kind=kind)
        dataset, _ = built(tmp_path, 0.1, kind=kind)
        assert len(dataset.events)
    monkeypatch.setattr(tables, "free_bytes", lambda: None)
    assert len(built(tmp_path, 1.0)[0].events) == 2000


def test_of_a_file_with_several_domains_only_the_own_rows_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = events().with_columns(
        kind=pl.when(pl.int_range(pl.len()) < 100).then(pl.lit("a")).otherwise(pl.lit("b"))
    )
    path = tmp_path / "events.csv"
    frame.write_csv(path)
    monkeypatch.setattr(tables, "free_bytes", lambda: 100_000)
    few, _ = build_dataset(config(path, 1.0, only={"kind": ["a"]}))
    assert len(few.events) == 100
    with pytest.raises(DataError, match="its 1,900 events"):
        build_dataset(config(path, 1.0, only={"kind": ["b"]}))


def test_the_rows_of_a_file_are_guessed_without_reading_it(tmp_path: Path) -> None:
    frame = events(4000)
    frame.write_parquet(tmp_path / "a.parquet")
    assert open_table(tmp_path / "a.parquet").least_rows == 20_000
    frame.write_csv(tmp_path / "a.csv")
    assert open_table(tmp_path / "a.csv").least_rows == pytest.approx(20_000, rel=0.05)
    assert open_table(tmp_path / "a.csv").count() == 20_000


def test_free_memory_heeds_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (free_bytes() or 0) > 0
    for name, content in (("limit", "5000"), ("used", "2000"), ("none", "max")):
        (tmp_path / name).write_text(content)
    limits = ((str(tmp_path / "limit"), str(tmp_path / "used")),)
    monkeypatch.setattr(memory, "_LIMITS", limits)
    assert free_bytes() == 3000
    monkeypatch.setattr(memory, "_LIMITS", ((str(tmp_path / "none"), str(tmp_path / "used")),))
    assert (free_bytes() or 0) > 3000


def test_the_share_that_is_named_leaves_room() -> None:
    assert share_that_fits(1000, 1000) == 0.2
    assert share_that_fits(1000, 100) == 0.02
    assert share_that_fits(10**12, 10**6) == 2e-7
