"""The demo, made small: what it says is true of what it leaves behind."""

import io
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cli_runner import run
from rich.console import Console

from isthmus import Config, Recommender
from isthmus.cli import demo
from isthmus.cli.demo_text import closing
from isthmus.experiment.records import read_run


@dataclass(frozen=True)
class Demo:
    """A demo that was run, and run again for a program."""

    said: str
    again: Any
    folder: Path


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    place = tmp_path_factory.mktemp("demo")
    words = ("demo", "--users", "500", "--seed", "3")
    with pytest.MonkeyPatch.context() as patch:
        quick = demo.QUICK | {"training": demo.QUICK["training"] | {"epochs": 2}}
        patch.setattr(demo, "QUICK", quick)
        patch.setattr(demo, "BASELINES", ("popular", "co-occurrence"))
        first = run(*words, cwd=place)
        assert first.code == 0, first.err
        assert first.err == ""
        again = run(*words, "--json", cwd=place)
    return Demo(first.out, again.json, place / "isthmus-demo")


def test_says_what_the_records_say(shown: Demo) -> None:
    said, folder = shown.said, shown.folder
    flat = " ".join(said.split())
    for run_folder in (folder / "runs" / "demo", folder / "no-transfer" / "runs" / "demo"):
        record = read_run(run_folder)
        assert " ".join(record.verdicts[0].sentence.split()) in flat
        assert " ".join(record.gates[0].reason.split()) in flat
        assert (run_folder / "report.html").is_file()
        kind = "no-transfer" if "no-transfer" in run_folder.parts else "transfer"
        assert shown.again[kind]["verdicts"][0]["sentence"] == record.verdicts[0].sentence
    assert max(map(len, said.splitlines())) <= 100


def test_the_folder_is_like_a_users_own(shown: Demo) -> None:
    folder = shown.folder
    config = Config.load(folder / "isthmus.toml")
    assert (config.name, config.target, config.seed) == ("demo", "gear", 3)
    events = pl.read_parquet(folder / "gear-interactions.parquet")
    model = Recommender.load(folder / "models" / "demo")
    assert len(model.dataset.events.only(1)) == events.height
    assert run("check", cwd=folder).code == 0


def test_the_person_shown_is_new_to_the_target(shown: Demo) -> None:
    said, folder = shown.said, shown.folder
    user = said.split("recommendations for ")[1].split(",")[0]
    model = Recommender.load(folder / "models" / "demo")
    row = model.dataset.user_index[user]
    assert row not in model.dataset.events.user[model.dataset.events.domain == 1]
    lists = model.recommend("gear", users=[user], k=5)
    for item in lists["item_id"]:
        assert item in said
    # The commands that it names do what it says.
    commands = [line for line in said.splitlines() if line.startswith("isthmus recommend")]
    _, *words = shlex.split(commands[0].split("   ")[0])
    assert lists["item_id"][0] in run(*words, cwd=folder).out


def test_it_leaves_other_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "isthmus-demo").mkdir()
    (tmp_path / "isthmus-demo" / "isthmus.toml").write_text('name = "mine"')
    found = run("demo", cwd=tmp_path)
    assert found.code == 2
    assert "isthmus-demo: holds other things" in found.complaint


def test_it_says_how_the_shell_finds_isthmus_where_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "env" / "bin" / "activate"
    script.parent.mkdir(parents=True)
    script.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))

    def said() -> str:
        console = Console(file=io.StringIO(), width=100)
        for line in closing(Path("demo"), Path("report.html"), "u1", "gear", 1.0):
            console.print(line)
        return console.file.getvalue()

    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert ". env/bin/activate" in said()
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert "activate" not in said()
