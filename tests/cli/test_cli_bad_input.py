"""Every bad table is one plain line and code 2 at the command line, with nothing left behind."""

from pathlib import Path

import pytest
from cli_runner import run

EVENTS = "user_id,item_id,time,rating\nu,a,1400000000,5\nu,b,1400000100,4\nv,a,1400000200,3\n"
ITEMS = "item_id,title\na,Tea\nb,Rice\n"
CONFIG = """
[domains.shop]
interactions = "events.csv"
items = "items.csv"
events = { time = "time", rating = "rating" }
catalogue = { title = "title" }
"""
NO_EVENTS = EVENTS.split("\n")[0] + "\n"


def shop(folder: Path, events: str | None = EVENTS, items: str = ITEMS) -> list[str]:
    """Write a shop's tables; gives the names of the files."""
    (folder / "isthmus.toml").write_text(CONFIG)
    (folder / "items.csv").write_text(items)
    if events is not None:
        (folder / "events.csv").write_text(events)
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("command", ["check", "fit", "compare"])
@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        (None, "events.csv: no such file"),
        ("", "the file is empty"),
        (NO_EVENTS, "no domain has any events"),
        (EVENTS.replace(",", "::"), "the delimiter cannot be told"),
        (EVENTS.replace("user_id", "userid"), "'rating'. Did you mean 'userid'? Set domains.shop"),
        (EVENTS.replace("1400000100", "soon"), "column 'time': 1 of 3 rows"),
        (EVENTS.replace(",4\n", ",-4\n"), "a negative rating"),
        (EVENTS.replace(",4\n", ",NaN\n"), "a rating of NaN"),
        (EVENTS.replace("u,b", ",b"), "column 'user_id': 1 of 3 rows have no id"),
        (EVENTS.replace("u,b", "u,"), "column 'item_id': 1 of 3 rows have no id"),
    ],
)
def test_bad_interactions(command: str, events: str | None, complaint: str, tmp_path: Path) -> None:
    before = shop(tmp_path, events)
    found = run(command, cwd=tmp_path)
    assert found.code == 2
    assert complaint in found.complaint
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", ["check", "fit", "compare"])
@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        ("", "items.csv: the file is empty"),
        (ITEMS.replace("title", "tittle"), "Did you mean 'tittle'?"),
        (ITEMS + ",Salt\n", "column 'item_id': 1 of 3 rows have no id"),
        (ITEMS + "a,Coffee\n", "for example 'a' in rows 1 and 3"),
    ],
)
def test_bad_catalogues(command: str, items: str, complaint: str, tmp_path: Path) -> None:
    before = shop(tmp_path, items=items)
    found = run(command, cwd=tmp_path)
    assert found.code == 2
    assert complaint in found.complaint
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", ["fit", "compare"])
@pytest.mark.parametrize(
    "events", [EVENTS, "user_id,item_id,time,rating\nu,a,1400000000,5\nv,a,1400000000,5\n"]
)
def test_too_little_to_hold_anything_back(command: str, events: str, tmp_path: Path) -> None:
    before = shop(tmp_path, events)
    found = run(command, cwd=tmp_path)
    assert found.code == 2
    assert "split" in found.complaint
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("training.domain_weights.shop=0", "every weight is 0"),
        ("domains.shop.keep_kinds=['buy']", "keep_kinds needs events.kind"),
        ("cleaning.rating_scale=[5, 1]", "the lowest rating must be below the highest"),
        ("split.quantiles=[0.9, 0.8]", "two rising shares between 0 and 1"),
        ("split.shuffle_items=-1", "split.shuffle_items: Input should be greater"),
        ("training.threads=0", "training.threads: Input should be greater"),
        ("evaluation.candidates=0", "evaluation.candidates: Input should be greater"),
        ("seed=-1", "seed: Input should be greater"),
        ("name=../elsewhere", "name: a run's name has no slash"),
        ("name=''", "name: a run's name has no slash"),
    ],
)
def test_settings_that_would_fail_late_or_do_nothing(
    setting: str, complaint: str, tmp_path: Path
) -> None:
    before = shop(tmp_path)
    found = run("fit", "--set", setting, cwd=tmp_path)
    assert found.code == 2
    assert complaint in found.complaint
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_settings_that_only_fail_together(tmp_path: Path) -> None:
    shop(tmp_path)
    off = ("--set", "model.use_ids=false", "--set", "model.use_text=false")
    assert "items are known by nothing" in run("fit", *off, cwd=tmp_path).complaint
    (tmp_path / "isthmus.toml").write_text(CONFIG.replace(', rating = "rating"', ""))
    unrated = run("fit", "--set", "cleaning.min_rating=3", cwd=tmp_path)
    assert unrated.code == 2
    assert "cleaning.min_rating needs ratings" in unrated.complaint


def test_odd_but_usable_tables_are_said_and_checked(tmp_path: Path) -> None:
    shop(
        tmp_path,
        EVENTS.replace("1400000100", "1400000100000") + "w,unknown,2014-05-13T16:56:40Z,5\n",
        ITEMS + f'c,"{"x" * 100_000}"\nd,<b>中文</b> 🫖 כותרת\ne,\n',
    )
    other = EVENTS.replace("u,", "x,").replace("v,", "y,")
    (tmp_path / "other.csv").write_text(other)
    apart = '[domains.other]\ninteractions = "other.csv"\nevents = { time = "time" }\n'
    (tmp_path / "isthmus.toml").write_text(CONFIG + apart)
    found = run("check", cwd=tmp_path)
    assert found.code == 0
    said = " ".join(found.out.replace("│", " ").split())
    for words in (
        "times of mixed form in 'time' converted to Unix seconds",
        "1 items that items.csv does not have",
        "cut to 2,000 characters",
        "markup taken out of 'title'",
        "no person in common",
    ):
        assert words in said
