"""What users hand in: each is either understood and said, or one plain error before any work."""

from pathlib import Path

import polars as pl
import pytest

from isthmus.config import Config
from isthmus.data.build import build_dataset
from isthmus.data.check import check_dataset
from isthmus.errors import ConfigError, DataError

ITEMS = "item_id,title\na,Tea\nb,Rice\n"
EVENTS = "user_id,item_id,time,rating\nu,a,1400000000,5\nu,b,1400000100,4\nv,a,1400000200,3\n"


def config(folder: Path, files: dict[str, str], *overrides: str) -> Config:
    """Write `NAME.events.csv` and `NAME.items.csv`, and map them with time and rating."""
    domains: dict[str, dict] = {}
    for name, text in files.items():
        path = folder / f"{name}.csv"
        path.write_text(text, "utf-8")
        domain, what = name.split(".")
        entry = domains.setdefault(domain, {})
        entry["interactions" if what == "events" else "items"] = path.name
        if what == "events":
            header = text.split("\n")[0].replace(";", ",").split(",")
            entry["events"] = {name: name for name in ("time", "rating") if name in header}
        else:
            entry["catalogue"] = {"title": "title"}
    return Config.parse({"domains": domains}, overrides=list(overrides), base=folder)


def build(folder: Path, files: dict[str, str], *overrides: str):
    dataset, report = build_dataset(config(folder, files, *overrides))
    return dataset, "\n".join([*report.lines(), *dataset.notes])


def fails(folder: Path, files: dict[str, str], *overrides: str) -> str:
    with pytest.raises(DataError) as caught:
        build(folder, files, *overrides)
    return str(caught.value)


def test_missing_file(tmp_path):
    good = config(tmp_path, {"shop.events": EVENTS})
    (tmp_path / "shop.events.csv").rename(tmp_path / "shop.event.csv")
    with pytest.raises(DataError, match=r"no such file.*'shop\.event\.csv'"):
        build_dataset(good)


def test_empty_file(tmp_path):
    assert "the file is empty" in fails(tmp_path, {"shop.events": ""})


def test_wrong_delimiter_is_read_and_said(tmp_path):
    dataset, said = build(tmp_path, {"shop.events": EVENTS.replace(",", ";")})
    assert len(dataset.events) == 3
    assert "shop.events.csv: fields are separated by semicolons, not by commas" in said


def test_a_delimiter_that_cannot_be_told(tmp_path):
    message = fails(tmp_path, {"shop.events": EVENTS.replace(",", "::")})
    assert "the delimiter cannot be told" in message
    assert "'user_id::item_id::time::rating'" in message


def test_a_column_that_is_not_there_names_the_near_one(tmp_path):
    message = fails(tmp_path, {"shop.events": EVENTS.replace("user_id", "userid")})
    assert "no column 'user_id'" in message
    assert "Did you mean 'userid'?" in message
    assert "domains.shop.events.user" in message


def test_unreadable_times_say_how_many_and_where_first(tmp_path):
    broken = EVENTS.replace("1400000100", "yesterday").replace("1400000200", "")
    message = fails(tmp_path, {"shop.events": broken})
    assert "shop.events.csv, column 'time': 2 of 3 rows" in message
    assert "first in row 2, 'yesterday'" in message
    assert "cleaning.bad_rows = 'drop'" in message
    dataset, said = build(tmp_path, {"shop.events": broken}, "cleaning.bad_rows=drop")
    assert len(dataset.events) == 1
    assert "2 rows dropped, a time that cannot be read in column 'time'" in said


def test_mixed_times_are_converted_and_said(tmp_path):
    mixed = EVENTS.replace("1400000100", "1400000100000").replace(
        "1400000200", "2014-05-13T16:56:40Z"
    )
    dataset, said = build(tmp_path, {"shop.events": mixed})
    assert sorted(dataset.events.time.tolist()) == [1400000000, 1400000100, 1400000200]
    assert "3 rows changed, times of mixed form in 'time'" in said
    for form in ("1 as Unix seconds", "1 as Unix milliseconds", "1 as ISO date-times with a zone"):
        assert form in said


@pytest.mark.parametrize(
    ("rating", "says"), [("-1", "negative"), ("NaN", "NaN"), ("inf", "NaN"), ("good", "no number")]
)
def test_bad_ratings(tmp_path, rating, says):
    broken = EVENTS.replace(",4\n", f",{rating}\n")
    message = fails(tmp_path, {"shop.events": broken})
    assert "column 'rating': 1 of 3 rows" in message
    assert says in message
    assert "row 2" in message
    assert len(build(tmp_path, {"shop.events": broken}, "cleaning.bad_rows=drop")[0].events) == 2


@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_null_ids(tmp_path, column):
    broken = EVENTS.replace(
        "u,b" if column == "user_id" else "v,a", ",b" if column == "user_id" else "v,"
    )
    message = fails(tmp_path, {"shop.events": broken})
    assert f"column '{column}': 1 of 3 rows have no id" in message
    assert (
        "1 row dropped, no id"
        in build(tmp_path, {"shop.events": broken}, "cleaning.bad_rows=drop")[1]
    )


def test_ids_that_are_numbers_in_one_file_and_text_in_the_other(tmp_path):
    frame = pl.DataFrame({"user_id": [1, 2], "item_id": [10.0, 20.0]})
    frame.write_parquet(tmp_path / "e.parquet")
    (tmp_path / "i.csv").write_text("item_id,title\n10,Tea\n20,Rice\n", "utf-8")
    raw = {"domains": {"shop": {"interactions": "e.parquet", "items": "i.csv"}}}
    dataset, report = build_dataset(Config.parse(raw, base=tmp_path))
    assert dataset.domains[0].items["item_id"].to_list() == ["10", "20"]
    assert "numbers here and texts in i.csv; compared as texts" in "\n".join(report.lines())


def test_ids_that_lost_their_leading_zeros_are_an_error(tmp_path):
    files = {"shop.events": "user_id,item_id\nu,7\n", "shop.items": "item_id,title\n007,Tea\n"}
    message = fails(tmp_path, files)
    assert "'007'" in message
    assert "'7'" in message


def test_item_rows_that_disagree(tmp_path):
    files = {"shop.events": EVENTS, "shop.items": ITEMS + "a,Coffee\n"}
    assert "for example 'a' in rows 1 and 3" in fails(tmp_path, files)
    dataset, said = build(tmp_path, files, "cleaning.item_conflicts=last")
    assert dataset.domains[0].items["title"].to_list() == ["Coffee", "Rice"]
    assert "1 row dropped, same item_id, other content; the last kept" in said


@pytest.mark.parametrize(("how", "events", "items"), [("keep", 3, 2), ("drop", 2, 1)])
def test_unknown_items(tmp_path, how, events, items):
    files = {"shop.events": EVENTS, "shop.items": "item_id,title\na,Tea\n"}
    dataset, said = build(tmp_path, files, f"cleaning.unknown_items={how}")
    assert (len(dataset.events), dataset.n_items) == (events, items)
    assert "on 1 items that shop.items.csv does not have" in said


def test_a_domain_without_events(tmp_path):
    files = {"shop.events": EVENTS, "new.events": "user_id,item_id,time\n", "new.items": ITEMS}
    dataset, said = build(tmp_path, files)
    assert dataset.names == ("shop", "new")
    assert "new has no events" in said
    assert "the target has no events" in fails(tmp_path, files, "target=new")
    del files["shop.events"]
    assert "no domain has any events" in fails(tmp_path, files)


def test_nothing_left_after_cleaning(tmp_path):
    message = fails(tmp_path, {"shop.events": EVENTS}, "cleaning.min_rating=6")
    assert "no events are left of 3 read" in message


def test_two_domains_with_the_same_item_ids_stay_apart(tmp_path):
    dataset, _ = build(tmp_path, {"x.events": EVENTS, "y.events": EVENTS, "y.items": ITEMS})
    assert dataset.n_items == 4
    assert [d.items["title"].to_list() for d in dataset.domains] == [[None, None], ["Tea", "Rice"]]
    assert len(dataset.events) == 6


def test_no_users_in_common_works_and_is_said(tmp_path):
    other = EVENTS.replace("u,", "x,").replace("v,", "y,")
    dataset, said = build(tmp_path, {"a.events": EVENTS, "b.events": other})
    assert dataset.n_users == 4
    assert "a and b have no person in common: what one tells about the other goes by text" in said


@pytest.mark.parametrize("text", [EVENTS.replace("v,", "u,"), "user_id,item_id\nu,a\n"])
def test_one_user_and_a_user_with_one_event(tmp_path, text):
    config_ = config(tmp_path, {"shop.events": text})
    dataset, report = build_dataset(config_)
    assert dataset.n_users == 1
    assert check_dataset(dataset, report).users == 1


def test_texts_of_any_length_script_and_markup(tmp_path):
    titles = [
        "x" * 100_000,
        "👩‍👩‍👧 🫖",
        "中文标题",
        "כותרת בעברית",
        "<b>Bold</b> &amp; &lt;i&gt;x",
        "  ",
    ]
    rows = "".join(f'{i},"{title}"\n' for i, title in enumerate(titles))
    events = "user_id,item_id\nu,0\n"
    dataset, said = build(tmp_path, {"shop.events": events, "shop.items": f"item_id,title\n{rows}"})
    assert dataset.domains[0].items["title"].to_list() == [
        "x" * 2000,
        *titles[1:4],
        "Bold & x",
        None,
    ]
    assert "1 row changed, 'title' cut to 2,000 characters" in said
    assert "1 row changed, markup taken out of 'title'" in said
    assert dataset.domains[0].items["text"].null_count() == 1


def test_items_without_any_text(tmp_path):
    items = "item_id,title\na,\nb,\n"
    dataset, _ = build(tmp_path, {"shop.events": EVENTS, "shop.items": items})
    assert dataset.domains[0].items["text"].null_count() == 2


def test_vectors_of_unequal_length(tmp_path):
    pl.DataFrame({"item_id": ["a", "b"], "v": [[1.0], [1.0, 2.0]]}).write_parquet(
        tmp_path / "i.parquet"
    )
    raw = {"domains": {"shop": {"items": "i.parquet", "catalogue": {"vectors": {"v": "v"}}}}}
    with pytest.raises(DataError, match="one length, found 1, 2"):
        build_dataset(Config.parse(raw, base=tmp_path))


def test_a_configuration_without_domains():
    with pytest.raises(DataError, match="isthmus init"):
        build_dataset(Config())
    with pytest.raises(DataError, match="neither interactions nor items"):
        build_dataset(Config.parse({"domains": {"shop": {}}}))


@pytest.mark.parametrize("name", ["TV/Film", "a:b", "a,b", "a\\b", " a", ""])
def test_a_name_that_no_domain_can_have_is_refused_before_any_work(tmp_path, name):
    # A model that was saved under such a name is still read.
    parsed = Config.parse({"domains": {name: {"interactions": "none.csv"}}})
    with pytest.raises(DataError, match=r"domains: .* cannot be the name of a domain"):
        build_dataset(parsed)
    (tmp_path / "c.toml").write_text(f"[domains.'{name}']\ninteractions = 'none.csv'\n")
    with pytest.raises(ConfigError, match=r"cannot be the name of a domain.*without slashes"):
        Config.load(tmp_path / "c.toml")
