"""add-domain and adapt-domain: a third catalogue joins the small shop's model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cli_runner import Shop, run

from isthmus import Recommender
from isthmus.recommender import storage
from isthmus.scoring import Requests

TEAS = ["green tea of the hills", "black tea with bergamot", "a cast iron teapot", "tea strainer"]


@pytest.fixture
def here(shop: Shop, tmp_path: Path) -> Path:
    """A folder with a copy of the model and the tables of teas."""
    (model,) = (shop.folder / "models").iterdir()
    shutil.copytree(model, tmp_path / "model")
    rows = [(f"t{n}", TEAS[n % 4], "Tea") for n in range(12)]
    pl.DataFrame(rows, schema=["item_id", "title", "category"], orient="row").write_csv(
        tmp_path / "teas.csv"
    )
    people = Recommender.load(model).dataset.user_ids.head(60).to_list()
    log = [(u, f"t{n % 12}", 1_700_000_000 + n) for n, u in enumerate(people)]
    pl.DataFrame(log, schema=["user_id", "item_id", "time"], orient="row").write_csv(
        tmp_path / "poured.csv"
    )
    return tmp_path


def words(command: str, *more: str | Path) -> tuple[str | Path, ...]:
    return (command, "teas", *more, "--model", "model")


def test_a_catalogue_joins_is_served_and_learns(here: Path) -> None:
    before = Recommender.load(here / "model")
    said = run(*words("add-domain", "--items", "teas.csv"), cwd=here)
    assert (said.code, said.err) == (0, "")
    assert "teas.csv holds items: item = 'item_id', title = 'title'" in " ".join(said.out.split())
    assert "teas: 12 items, 12 with a text; 0 events" in said.out
    assert "has no behaviour to validate on" in said.out
    user = str(before.dataset.user_ids[0])
    answers = run("recommend", "teas", "-u", user, "-k", "2", "-m", "model", "--json", cwd=here)
    assert [len(answer["items"]) for answer in answers.json["answers"]] == [2]
    few = run(
        *words("adapt-domain", "--events", "poured.csv", "--limit", "5", "--json"), cwd=here
    ).json
    assert (few["events"], few["new_events"], few["model"]) == (5, 5, "model")
    assert "too few to judge by" in few["gate"]["reason"]
    told = run(*words("adapt-domain", "--events", "poured.csv", "--limit", "8"), cwd=here).out
    assert "52 rows dropped, after the first 8" in " ".join(told.split())
    more = run(*words("adapt-domain", "--events", "poured.csv", "--json"), cwd=here).json
    assert (more["events"], more["new_events"]) == (60, 52)
    dropped = [entry["reason"] for entry in more["cleaning"]["entries"]]
    assert "known to the model already" in dropped
    listed = run("models", "list", "--model", "model", "--json", cwd=here).json
    assert [(row["kind"], row["parent"]) for row in listed] == [
        ("fit", None),
        ("joined", "v000001"),
        ("adapted", "v000002"),
        ("adapted", "v000003"),
        ("adapted", "v000004"),
    ]
    assert [row["reason"] for row in listed[1:3]] == [
        "teas joined, by its texts; other domains as before.",
        "Learnt 5 events of teas; other domains as before.",
    ]
    after = Recommender.load(here / "model")
    asked = Requests.of_users(before.dataset, np.arange(50))
    for domain in (0, 1):
        one, other = (r.system.gated.score(asked, domain).total for r in (before, after))
        assert np.array_equal(one, other)


def test_a_configuration_maps_odd_columns(here: Path) -> None:
    pl.read_csv(here / "teas.csv").rename({"item_id": "code", "title": "what"}).write_csv(
        here / "odd.csv"
    )
    pl.read_csv(here / "poured.csv").rename({"user_id": "guest", "item_id": "cup"}).write_csv(
        here / "odd-log.csv"
    )
    (here / "teas.toml").write_text(
        "[domains.teas]\n"
        'items = "odd.csv"\ninteractions = "odd-log.csv"\n'
        'events = { user = "guest", item = "cup", time = "time" }\n'
        'catalogue = { item = "code", title = "what" }\n'
    )
    found = run(*words("add-domain", "--config", "teas.toml", "--json"), cwd=here).json
    assert (found["items_with_text"], found["events"], found["guesses"]) == (12, 60, [])
    again = run(*words("adapt-domain", "--config", "teas.toml"), cwd=here)
    assert again.code == 2
    assert "no new event of 'teas' is left to learn from" in again.complaint
    assert "60 rows dropped, known to the model already" in again.complaint


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("add-domain", "books", "--items", "teas.csv"), "there is a domain 'books' already"),
        (("add-domain", "teas"), "no file of 'teas' is named"),
        (("add-domain", "teas", "--items", "none.csv"), "none.csv"),
        (("add-domain", "teas", "--items", "ids.csv"), "nothing could be recommended"),
        (("add-domain", "teas", "--items", "blank.csv"), "no column for an id is recognised"),
        (("add-domain", "teas", "--config", "other.toml"), "names no domain 'teas'"),
        (("adapt-domain", "teas", "--events", "poured.csv"), "domain 'teas' is not in this"),
        (("adapt-domain", "gear", "--events", "poured.csv"), "was there when the model was fitted"),
        (("adapt-domain", "teas"), "no file of 'teas' is named"),
        (("adapt-domain", "teas", "--events", "poured.csv", "--limit", "0"), "--limit"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(
    here: Path, line: tuple[str, ...], message: str
) -> None:
    (here / "ids.csv").write_text("item_id\nt1\nt2\n")
    (here / "blank.csv").write_text("a b,c d\nx y,z z\nx y,z z\n")
    (here / "other.toml").write_text('[domains.tea]\nitems = "teas.csv"\n')
    live = (here / "model" / "current").read_text()
    refused = run(*line, "--model", "model", cwd=here)
    assert refused.code == 2
    assert message in refused.complaint
    assert (here / "model" / "current").read_text() == live


def test_a_command_killed_while_it_writes_leaves_the_old_model_live(here: Path) -> None:
    live = (here / "model" / "current").read_text()
    script = """
import os, signal
from isthmus.cli import main
from isthmus.recommender import storage
storage.save_dataset = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main(["add-domain", "teas", "--items", "teas.csv", "--model", "model"])
"""
    killed = subprocess.run(
        [sys.executable, "-c", script], cwd=here, capture_output=True, env=os.environ, check=False
    )
    assert killed.returncode == -9, killed.stderr
    assert (here / "model" / "current").read_text() == live
    assert Recommender.load(here / "model").dataset.names == ("books", "gear")
    assert run(*words("add-domain", "--items", "teas.csv"), cwd=here).code == 0
    assert Recommender.load(here / "model").dataset.names == ("books", "gear", "teas")


def test_a_version_saved_meanwhile_is_not_lost(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(grow: Callable[..., Recommender]) -> Callable[..., Recommender]:
        def growing(self: Recommender, *args: object, **more: object) -> Recommender:
            grown = grow(self, *args, **more)
            self.save(here / "model")
            return grown

        return growing

    monkeypatch.setattr(Recommender, "add_domain", slow(Recommender.add_domain))
    refused = run(*words("add-domain", "--items", "teas.csv"), cwd=here)
    assert refused.code == 2
    assert "another command has saved a new version meanwhile" in refused.complaint
    assert json.loads((here / "model" / "current").read_text())["version"] == "v000002"
    assert storage.load(here / "model")[0].names == ("books", "gear")
