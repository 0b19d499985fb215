"""docs/adding-a-domain.md: each configuration on it joins a model as it stands, without code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest
from recommender_world import fitted

from isthmus.config import Config
from isthmus.data.cleaning import CleaningReport
from isthmus.data.one_domain import read_one_domain
from word_encoder import WordEncoder

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-domain.md").read_text("utf-8")
BLOCKS = dict(re.findall(r"<!-- (\w+)\.toml -->\n```toml\n(.+?)```", PAGE, re.DOTALL))
USERS = fitted().dataset.user_ids.head(60).to_list()


def medicines(folder: Path) -> None:
    (folder / "medicines.csv").write_text(
        "pzn,name,group,indication\n"
        "00012,Linden tea,Cough,A sore throat\n00045,Saline spray,Nose,A blocked nose\n"
    )


def services(folder: Path) -> None:
    lines = [
        {"service": "s1", "title": "Resident parking", "office": "Roads", "description": "A year"},
        {"service": "s2", "title": "Library card", "office": "Culture", "description": "Borrow"},
    ]
    (folder / "services.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "residents.csv").write_text(
        "domain,user_id,person_id\n"
        + "".join(f"services,{n},{user}\n" for n, user in enumerate(USERS))
    )
    asked = [f"{n},s{1 + n % 2},2024-05-{1 + n % 28:02},online" for n in range(60)]
    odd = ["0,s1,2024-05-01,counter", "9999,s1,2024-05-02,online", "1,,2024-05-02,online"]
    (folder / "requests.csv").write_text(
        "\n".join(["resident,service,opened,channel", *asked, *odd])
    )


def routes(folder: Path) -> None:
    pl.DataFrame(
        {
            "lane": ["l1", "l2", "l3"],
            "route": ["Kiel to Oslo", "Lyon to Turin", "Porto to Vigo"],
            "mode": ["sea", "road", "road"],
            "profile": [[0.1, 0.2], None, [0.3, 0.4]],
        }
    ).write_parquet(folder / "routes.parquet")
    pl.DataFrame(
        {
            "account": USERS,
            "lane": [f"l{1 + n % 3}" for n in range(60)],
            "booking": list(range(60)),
            "pallets": [1.0 + n % 4 for n in range(60)],
        }
    ).write_parquet(folder / "bookings.parquet")


MADE = {
    "medicines": (medicines, 2, 0),
    "services": (services, 2, 60),
    "routes": (routes, 3, 60),
}


def test_the_page_has_these_configurations() -> None:
    assert set(BLOCKS) == set(MADE)
    for name, text in BLOCKS.items():
        assert f"isthmus add-domain {name} --config {name}.toml" in PAGE
        assert len(text.splitlines()) <= 15


@pytest.mark.parametrize("name", MADE)
def test_it_joins_without_code(name: str, tmp_path: Path) -> None:
    make, n_items, n_events = MADE[name]
    make(tmp_path)
    path = tmp_path / f"{name}.toml"
    path.write_text(BLOCKS[name], "utf-8")
    assert list(Config.load(path).domains) == [name]
    report = CleaningReport()
    read = read_one_domain(name, config=path, report=report)
    after = fitted().add_domain(
        name,
        read.frames,
        people=read.people,
        cleaning=read.cleaning,
        report=report,
        encoder=WordEncoder(),
    )
    d = after.dataset.domain_index(name)
    assert after.dataset.domains[d].n_items == n_items
    assert after.dataset.domains[d].items["text"].null_count() == 0
    assert (after.dataset.events.domain == d).sum() == n_events
    # Nobody came who was not there: residents were linked, and accounts are people's own ids.
    assert after.dataset.n_users == fitted().dataset.n_users
    answers = after.recommend(name, users=USERS[:3], k=1, seen=True)
    assert answers.height == 3


def test_ids_keep_their_zeros_and_odd_rows_are_counted(tmp_path: Path) -> None:
    medicines(tmp_path)
    services(tmp_path)
    for name in ("medicines", "services"):
        (tmp_path / f"{name}.toml").write_text(BLOCKS[name], "utf-8")
    report = CleaningReport()
    read = read_one_domain("medicines", config=tmp_path / "medicines.toml", report=report)
    after = fitted().add_domain("medicines", read.frames, encoder=WordEncoder())
    assert after.dataset.domains[2].items["item_id"].to_list() == ["00012", "00045"]
    assert after.dataset.domains[2].items["text"][0] == "Linden tea | Cough | A sore throat"
    read = read_one_domain("services", config=tmp_path / "services.toml", report=report)
    fitted().add_domain(
        "services",
        read.frames,
        people=read.people,
        cleaning=read.cleaning,
        report=report,
        encoder=WordEncoder(),
    )
    said = " ".join(report.lines())
    assert "of 1 people whom the model does not know" in said
    assert report.total("dropped") == 3
