"""Exit codes and messages: what the caller can put right is one plain line and code 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runner import TINY, run, write_shop

COMMANDS = (
    *("demo", "init", "check", "fit", "compare"),
    *("evaluate", "recommend", "similar", "profile", "export"),
    *("add-domain", "adapt-domain"),
)
CONFIG = """
[domains.books]
interactions = "books-interactions.parquet"
items = "books-items.parquet"
[domains.gear]
interactions = "gear-interactions.parquet"
items = "gear-items.parquet"
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    write_shop(folder, n_users=60)
    (folder / "isthmus.toml").write_text(CONFIG)
    return folder


def test_nothing_heavy_is_imported_to_answer_for_help() -> None:
    script = """
import sys
from isthmus.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
heavy = {"torch", "numpy", "polars", "pydantic", "plotly", "transformers", "rich", "scipy"}
print(*sorted(heavy & set(sys.modules)), sep=", ", end="", file=sys.stderr)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.stderr == ""
    for command in COMMANDS:
        assert f"\n  {command} " in found.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, tmp_path: Path) -> None:
    found = run(command, "--help", cwd=tmp_path)
    assert found.code == 0
    assert found.out.startswith(f"Usage: isthmus {command} ")
    assert "--json" in found.out


def test_version_and_bare_call(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path).out.startswith("isthmus 0.")
    assert run(cwd=tmp_path).out == run("--help", cwd=tmp_path).out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("fitt",), "No such command 'fitt'. Did you mean 'fit'? See 'isthmus --help'."),
        (("fit", "--confg", "x"), "No such option: --confg"),
        (("recommend",), "Missing argument 'DOMAIN'"),
        (("recommend", "gear", "-k", "0"), "Invalid value for '-k'"),
        (("recommend", "gear", "-k", "ten"), "Invalid value for '-k'"),
        (("evaluate", "--queries", "exam"), "Invalid value for '--queries'"),
        (("fit",), "isthmus.toml: no such configuration file. Write one with 'isthmus init"),
        (("check", "--config", "other.toml"), "other.toml: no such configuration file"),
        (("recommend", "gear"), "nobody to recommend to. Give --user ID, or --history"),
        (("recommend", "gear", "--history", "b1"), "--history: 'b1' is not DOMAIN:ITEM"),
        (("recommend", "gear", "--history", "books:b1,,"), "'' is not DOMAIN:ITEM"),
        (("recommend", "gear", "--user", "u"), "--model: no model is named"),
        (("recommend", "gear", "--user", "u", "--deny", "@none"), "--deny @none: cannot be read"),
        (("profile",), "a profile is of one person"),
        (("profile", "--user", "u", "--history", "books:b1"), "a profile is of one person"),
        (("evaluate", "--model", "none"), "none: no such folder"),
        (("export", "gear", "lists.csv"), "lists.csv: .csv is not written, Parquet alone is. Name"),
        (("simulate", "--rest", "5"), "--rest: says nothing without a service. Add --url"),
        (("simulate", "--key", "isk_x"), "--key: says nothing without a service. Add --url"),
        *(
            (("simulate", "--save-model", "m", option, value), f"{option}: says nothing beside")
            for option, value in (
                ("--arms", "oracle"),
                ("--url", "http://127.0.0.1:1"),
                ("--night", "30"),
                ("--rest", "5"),
                ("--output", "out"),
            )
        ),
        (("init", "none.csv"), "none.csv"),
    ],
)
def test_wrong_words(words: tuple[str, ...], complaint: str, tmp_path: Path) -> None:
    found = run(*words, cwd=tmp_path)
    assert found.code == 2
    assert complaint in found.complaint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("--set", "training.epoch=3"),
            "--set training.epoch=3: unknown key 'training.epoch'. Did you mean 'epochs'",
        ),
        (("--strategy", "nosuch"), "--strategy nosuch: transfer: no strategy is called"),
        (("--track", "nosuch"), "--track nosuch: tracking.tools"),
        (("--set", "training.epochs=many"), "training.epochs: Input should be a valid integer"),
        (("--set", "training"), "--set: 'training' is not KEY=VALUE"),
        (("--set", "target=geer"), "target 'geer' is no domain. Did you mean 'gear'?"),
        (("--set", "domains.gear.items=none.csv"), "none.csv"),
        (("--set", "domains.gear.events.item=sku"), "sku"),
        (("--set", "blend.parts=['neurol']"), "no part is called 'neurol'. Did you mean 'neural'?"),
        (("--set", "model.heads=3"), "model: 3 heads do not divide dim 64"),
        (("--set", "training.device=gpu"), "training.device: String should match"),
        (("--set", "training.domain_weights.gaer=2"), "'gaer' is no domain. Did you mean 'gear'?"),
        (("--set", "training.domain_weights.gear=-1"), "training.domain_weights.gear: Input shou"),
        (("--set", "evaluation.cutoffs=[5]"), "10 must be among the cutoffs"),
        (("--set", "evaluation.cutoffs=[0, 10]"), "evaluation.cutoffs.0: Input should be greater"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "compare"])
def test_wrong_settings(
    command: str, words: tuple[str, ...], complaint: str, tables: Path, tmp_path: Path
) -> None:
    found = run(command, "--config", tables / "isthmus.toml", *words, cwd=tmp_path)
    assert found.code == 2
    assert complaint in found.complaint
    assert list(tmp_path.iterdir()) == [], "something was left behind"


def test_a_tracker_that_does_not_exist_is_named_as_it_was_typed(tmp_path: Path) -> None:
    found = run("classify", "pairs.csv", "--track", "nosuch", cwd=tmp_path)
    assert found.code == 2
    assert "--track nosuch: tracking.tools" in found.complaint


@pytest.mark.parametrize("seeds", ["", "a", "0,b", "-1"])
def test_wrong_seeds(seeds: str, tables: Path, tmp_path: Path) -> None:
    words = ("compare", "--config", tables / "isthmus.toml", "--seeds", seeds)
    found = run(*words, cwd=tmp_path)
    assert found.code == 2
    assert "is not a list of seeds" in found.complaint


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--curve", "a,b"), "--curve: 'a,b' is not a list of shares"),
        (("--curve", ""), "--curve: '' is not a list of shares"),
        (("--curve", "0,1"), "--curve: 0 is no share"),
        (("--curve", "0.1,10"), "--curve: 10 is no share"),
        (("--curve", "nan"), "--curve: nan is no share"),
        (("--curve", "0.5,0.1"), "--curve: the shares 0.5, 0.1 do not rise"),
        (("--curve", "0.5,0.5"), "--curve: the shares 0.5, 0.5 do not rise"),
        (("--curve", "0.001,1"), "--curve: a share of 0.001 by users leaves"),
        (("--curve-by", "time"), "--curve-by: says nothing without a curve"),
        (("--curve-baselines", "popular"), "--curve-baselines: says nothing without a curve"),
        (("--curve", "0.5", "--curve-baselines", "als,popluar"), "no baseline is called 'popluar'"),
        (("--control", "shuffled-txt"), "'shuffled-txt' is not one of"),
        (("--control", "shuffled-text", "--control", "shuffled-text"), "given twice"),
    ],
)
def test_wrong_curves_are_refused_before_the_work_begins(
    words: tuple[str, ...], complaint: str, tables: Path, tmp_path: Path
) -> None:
    found = run("compare", "--config", tables / "isthmus.toml", *words, cwd=tmp_path)
    assert found.code == 2
    assert complaint in found.complaint
    assert list(tmp_path.iterdir()) == [], "something was left behind"


def test_a_damaged_configuration(tmp_path: Path) -> None:
    (tmp_path / "isthmus.toml").write_text("name = ")
    found = run("check", cwd=tmp_path)
    assert found.code == 2
    assert "isthmus.toml: not valid TOML" in found.complaint


def test_a_model_folder_from_another_tool(tables: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "model.safetensors").write_bytes(b"")
    asked = run("recommend", "gear", "--user", "u", "--model", foreign, cwd=tmp_path)
    assert asked.code == 2
    assert "foreign: a model folder from another tool" in asked.complaint
    for command in ("fit", "compare"):
        words = (command, "--config", tables / "isthmus.toml", "--model", foreign)
        found = run(*words, cwd=tmp_path)
        assert found.code == 2
        assert "foreign: the folder holds other things than a model" in found.complaint
    assert [path.name for path in tmp_path.iterdir()] == ["foreign"]


@pytest.mark.parametrize("command", ["check", "fit", "compare"])
@pytest.mark.parametrize("runs", ["/proc/isthmus", "file/runs"])
def test_runs_that_cannot_be_written(command: str, runs: str, tables: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = (command, "--config", tables / "isthmus.toml", "--runs", runs)
    found = run(*words, cwd=tmp_path)
    assert found.code == 2
    assert f"{runs}/isthmus: cannot be written" in found.complaint


def test_other_outputs_that_cannot_be_written(tables: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    table = tables / "books-interactions.parquet"
    config = ("--config", tables / "isthmus.toml")
    for words in (
        ("init", table, "--output", "file/isthmus.toml"),
        ("fit", *config, "--model", "file/model"),
        ("demo", "--output", "file"),
        ("demo", "--output", "file/demo"),
        ("demo", "--output", tables),
    ):
        found = run(*words, cwd=tmp_path)
        assert found.code == 2, words
        assert found.complaint
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("command", ["check", "fit", "compare"])
def test_a_full_disk_is_found_before_the_long_work(
    command: str, tables: Path, tmp_path: Path
) -> None:
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
        "from isthmus.cli import main; main()"
    )
    words = [command, "--config", str(tables / "isthmus.toml")]
    found = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.returncode == 2
    assert "cannot be written: File too large" in found.stderr
    assert found.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_standard_output_and_a_closed_one() -> None:
    words = [sys.executable, "-m", "isthmus", "--help"]
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
    assert found.returncode == 2
    assert found.stderr == "isthmus: standard output: No space left on device.\n"
    reader, writer = os.pipe()
    os.close(reader)
    closed = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert closed.stderr == ""
    assert closed.returncode == 128 + 13


def test_an_interrupt_is_one_line_and_says_that_work_is_kept(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("isthmus.recommender.Recommender.fit", interrupt)
    monkeypatch.setattr("isthmus.data.guess.guess_config", interrupt)
    for command in ("fit", "compare"):
        found = run(command, "--config", tables / "isthmus.toml", *TINY, cwd=tmp_path)
        assert found.code == 130
        assert found.complaint == "interrupted; the same command goes on from where it was"
    found = run("init", tables / "books-items.parquet", cwd=tmp_path)
    assert (found.code, found.complaint) == (130, "interrupted")


def test_a_fault_of_ours_is_one_line_and_a_traceback_on_demand(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("isthmus.data.guess.guess_config", fail)
    words = ("init", tables / "books-items.parquet")
    found = run(*words, cwd=tmp_path)
    assert found.code == 1
    assert found.complaint == (
        "unexpected RuntimeError: first second (add --debug for the traceback)"
    )
    monkeypatch.setenv("ISTHMUS_DEBUG", "1")
    by_variable = run(*words, cwd=tmp_path)
    monkeypatch.delenv("ISTHMUS_DEBUG")
    for shown in (
        by_variable,
        run("--debug", *words, cwd=tmp_path),
        run(*words, "--debug", cwd=tmp_path),
    ):
        assert shown.code == 1
        assert "Traceback" in shown.err
        assert "in fail" in shown.err
        assert "typer" not in shown.err, "only our own frames"
    monkeypatch.setenv("ISTHMUS_DEBUG", "0")
    assert "Traceback" not in run(*words, cwd=tmp_path).err
