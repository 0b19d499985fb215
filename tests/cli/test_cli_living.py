"""`isthmus update` and `isthmus models`, as somebody with a model and a log types them."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import polars as pl
import pytest
from cli_runner import Shop, run

from isthmus.online.events import Event
from isthmus.online.log import open_log
from isthmus.recommender import Recommender
from isthmus.recommender.storage import LogPosition


@pytest.fixture
def place(shop: Shop, tmp_path: Path) -> Path:
    """The shop's model, and a log with what people will have done by tomorrow."""
    model = next((shop.folder / "models").iterdir())
    shutil.copytree(model, tmp_path / "model")
    events = pl.read_parquet(shop.folder / "gear-interactions.parquet")
    items = events["item_id"].unique(maintain_order=True)
    latest = float(events["time"].max())  # type: ignore[arg-type]
    log = open_log(tmp_path / "events.db")
    log.append(
        [
            Event(f"e{n}", user, "gear", items[n * 7 % len(items)], latest + 60.0 * n)
            for n, user in enumerate(events["user_id"].to_list()[:120])
        ]
    )
    log.close()
    return tmp_path


def test_an_update_is_listed_promoted_and_rolled_back(place: Path) -> None:
    said = run("update", "--model", "model", "--log", "events.db", "--once", cwd=place)
    assert said.code == 0
    assert said.out.startswith(("v000002 serves now. On the newest", "v000002 is kept back. On"))
    again = run("update", "--model", "model", "--log", "events.db", "--json", cwd=place)
    assert again.json["version"] is None
    assert again.json["reason"].startswith("No new events")

    listed = run("models", "list", "--model", "model", "--json", cwd=place).json
    assert [row["version"] for row in listed] == ["v000001", "v000002"]
    assert [row["kind"] for row in listed] == ["fit", "update"]
    assert listed[1]["parent"] == "v000001"
    assert sum(row["live"] for row in listed) == 1
    plain = run("models", "list", "--model", "model", cwd=place).out
    assert "Fitted from the start." in plain

    promoted = run("models", "promote", "v000002", "--model", "model", cwd=place)
    assert promoted.out == "v000002 serves now.\n"
    back = run("models", "rollback", "--model", "model", "--json", cwd=place)
    assert back.json == {"live": "v000001"}


def test_a_version_that_the_log_has_been_compacted_beyond_is_not_promoted(place: Path) -> None:
    log = open_log(place / "events.db")
    log_id = log.id
    log.compact(before=time.time())
    log.close()
    open_log(place / "other.db").close()
    model = Recommender.load(place / "model")
    parts = (model.dataset, model.config, model.split, model.raw, model.system)
    for offset in (60, 120):
        Recommender(*parts, LogPosition(log_id, offset)).save(place / "model")
    commands = ("models", "promote", "v000002"), ("models", "rollback")
    for words in commands:
        said = run(*words, "--model", "model", cwd=place)
        assert (said.code, said.out) == (2, "")
        assert "records up to 120 have been compacted away" in said.err
        # Where the log is named, it is that one.
        said = run(*words, "--model", "model", "--log", "other.db", cwd=place)
        assert (said.code, said.out) == (2, "")
        assert "has learnt from another event log" in said.err
        said = run(*words, "--model", "model", "--log", "nowhere.db", cwd=place)
        assert "no such event log" in said.err
    listed = run("models", "list", "--model", "model", "--json", cwd=place).json
    assert [row["version"] for row in listed if row["live"]] == ["v000003"]
    # Without its log, there is nothing to ask; what lies in its place is another model's.
    (place / "other.db").replace(place / "events.db")
    said = run("models", "rollback", "--model", "model", cwd=place)
    assert said.out == "v000002 serves now.\n"


def test_versions_whose_files_are_gone_are_listed_with_their_reasons(place: Path) -> None:
    words = (
        "update",
        "--model",
        "model",
        "--log",
        "events.db",
        "--set",
        "learning.keep_versions=2",
        "--set",
        "learning.passes=1",  # networks that learn keep what judged them for the next time
    )
    first = run(*words, "--json", cwd=place).json
    for _ in range(4):
        assert run(*words, "--full", cwd=place).code == 0
    listed = run("models", "list", "--model", "model", "--json", cwd=place).json
    assert [row["version"] for row in listed] == [f"v{number:06d}" for number in range(1, 7)]
    gone = [row for row in listed if not row["kept"]]
    assert gone
    assert all(row["reason"] and row["written"] for row in gone)
    second = listed[1]
    assert (second["reason"], second["served"]) == (first["reason"], first["live"])
    plain = run("models", "list", "--model", "model", cwd=place).out
    assert plain.count("  gone  ") == len(gone)


def misnamed(place: Path, first: int, last: int) -> None:
    """More events in the log, of a domain whose name is not spelt as the model's."""
    log = open_log(place / "events.db")
    log.append([Event(f"m{n}", "ann", "gaer", "g1", 1.7e9 + n) for n in range(first, last)])
    log.close()


def test_events_of_a_domain_that_the_model_does_not_have_are_told(place: Path) -> None:
    misnamed(place, 0, 40)
    words = ("update", "--model", "model", "--log", "events.db")
    said = " ".join(run(*words, cwd=place).out.split())
    assert said.startswith("v000002 ")
    sentence = (
        "40 events were left out: 40 of domain 'gaer', which the model does not have. The model "
        "has books and gear. If 'gaer' should be one of these, correct the name where events are "
        "written, and import those events again with new ids; to take in a new domain, fit all "
        "domains together with 'isthmus fit'."
    )
    assert sentence in said
    run("models", "promote", "v000002", "--model", "model", cwd=place)
    misnamed(place, 40, 43)
    again = run(*words, "--json", cwd=place).json
    assert again["version"] is None
    assert again["left_out"] == {"of domain 'gaer', which the model does not have": 3}
    assert again["notes"][0].startswith("3 events were left out: 3 of domain 'gaer'")
    plain = run(*words, cwd=place).out
    assert plain.startswith("No new events: nothing to learn.\n3 events were left out: 3 of")


def test_going_on_tells_a_reason_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import isthmus.cli.living as living

    looks = iter([lambda: None, lambda: misnamed(place, 0, 3), lambda: misnamed(place, 3, 5)])

    def wait() -> None:
        look = next(looks, None)
        if look is None:
            raise KeyboardInterrupt
        look()

    monkeypatch.setattr(living, "_every", lambda seconds: wait)
    said = run(
        *("update", "--model", "model", "--log", "events.db", "--every", "1"),
        *("--set", "learning.least_events=1000"),
        cwd=place,
    )
    assert said.code == 130
    assert said.out.startswith("120 new events: waiting for 1,000.\n3 events were left out")
    assert said.out.count("left out") == 1


def test_an_update_of_a_taught_model_tells_that_heads_are_gone(place: Path) -> None:
    quick = ("--set", "tasks.epochs=1", "--set", "tasks.hidden=8", "--track", "none")
    for task in ("rate", "click"):
        taught = run("teach", task, "--model", "model", *quick, "--json", cwd=place)
        assert taught.code == 0, taught.err
    found = run("update", "--model", "model", "--log", "events.db", "--json", cwd=place).json
    assert (found["version"], found["heads_dropped"]) == ("v000004", ["rate", "click"])
    (note,) = found["notes"]
    said = "The heads for rate and click were not carried over: v000004 only ranks."
    assert note.startswith(said)
    listed = run("models", "list", "--model", "model", "--json", cwd=place).json
    assert [row["kind"] for row in listed] == ["fit", "taught", "taught", "update"]
    assert [row["parent"] for row in listed] == [None, "v000001", "v000002", "v000003"]
    assert [row["reason"] for row in listed[:3]] == [
        "Fitted from the start.",
        "Learnt to tell ratings; recommends as before.",
        "Learnt to tell clicks; recommends as before.",
    ]
    run("models", "promote", "v000003", "--model", "model", cwd=place)
    misnamed(place, 0, 1)
    plain = run("update", "--model", "model", "--log", "events.db", "--full", cwd=place).out
    said = "The heads for rate and click were not carried over: v000005 only ranks."
    assert said in " ".join(plain.split())


def test_what_is_made_of_an_update_does_not_repeat_its_verdict(place: Path) -> None:
    words = ("--model", "model", "--json")
    run("update", "--log", "events.db", *words, cwd=place)
    run("models", "promote", "v000002", *words, cwd=place)
    pl.DataFrame({"item_id": ["t1", "t2"], "title": ["green tea", "black tea"]}).write_csv(
        place / "teas.csv"
    )
    added = run("add-domain", "teas", "--items", "teas.csv", *words, cwd=place)
    assert added.code == 0, added.err
    update, joined = run("models", "list", *words, cwd=place).json[-2:]
    assert (update["kind"], joined["kind"], joined["parent"]) == ("update", "joined", "v000002")
    assert update["verdict"]
    assert joined["verdict"] is None
    assert joined["reason"] == "teas joined, by its texts; other domains as before."


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("update", "--log", "none.db"), "none.db: no such event log. Name its file"),
        (("update",), "events.db: no such event log"),
        (("update", "--log", "events.db", "--once", "--every", "5"), "exclude each other"),
        (("update", "--log", "mysql://x/y"), "mysql"),
        (
            ("update", "--log", "events.db", "--once", "--set", "training.epochs=3"),
            "'training.epochs' is settled when a model is fitted. An update can change keys of",
        ),
        (("models", "promote", "v7"), "there is no version 'v7'"),
        (("models", "rollback"), "no version that was live before v000001 is kept"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    shop: Shop, tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    model = next((shop.folder / "models").iterdir())
    if "--once" in words:
        open_log(tmp_path / "events.db").close()
    found = run(*words, "--model", model, cwd=tmp_path)
    assert found.code == 2
    assert complaint in found.complaint


@pytest.mark.parametrize("command", [("update",), ("models", "list"), ("models", "rollback")])
def test_a_folder_that_is_no_model_is_named(tmp_path: Path, command: tuple[str, ...]) -> None:
    found = run(*command, "--model", "nowhere", cwd=tmp_path)
    assert found.code == 2
    assert "nowhere: no such folder" in found.complaint


def test_going_on_learns_every_so_many_events_with_settings_and_retention(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer than `learning.least_events` (200) are new, and the log keeps a day."""
    import isthmus.cli.living as living
    from isthmus.recommender import Recommender

    model = Recommender.load(place / "model")
    model.config = model.config.override("online.retention_days=1")
    model.save(place / "model")
    log = open_log(place / "events.db")
    few = [logged.record for logged in log.read(0, 30)]
    log.close()
    (log := open_log(place / "few.db")).append(few)
    log.close()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(living, "_after", lambda learner, n: stop)
    words = ("update", "--model", "model", "--log", "few.db", "--json")
    waits = run(*words, "--events", "31", cwd=place)
    assert (waits.code, waits.out) == (130, "")
    said = run(*words, "--events", "30", "--set", "learning.passes=1", cwd=place)
    assert said.code == 130
    assert said.json["version"] == "v000003"
    assert said.json["new_events"] == 30
    listed = run("models", "list", "--model", "model", "--json", cwd=place).json
    assert listed[-1]["settings"] == ["learning.passes=1"]
    run("models", "promote", "v000003", "--model", "model", cwd=place)
    again = run(*words, "--events", "30", cwd=place)
    # Once a version serves that has taken them in.
    deleted = "Deleted 30 events and 0 impressions that are older"
    assert (deleted in said.err) is said.json["live"]
    assert (said.err + again.err).count(deleted) == 1


def test_a_small_simulation_writes_its_figures_and_a_chart(tmp_path: Path) -> None:
    arms = ("--arms", "frozen,incremental,oracle")
    words = ("--users", "100", "--night", "400", *arms, "--json")
    tiny = ("--set", "training.epochs=1", "--set", "model.dim=16")
    found = run("simulate", *words, *tiny, "-o", "out", cwd=tmp_path)
    assert found.code == 0, found.err
    through = found.json["click_through"]
    assert set(through) == {"frozen", "incremental", "oracle"}
    for rows in zip(*through.values(), strict=True):
        assert 0 < max(rows) == rows[2] < 1
    assert found.json["last_third_against_frozen"].keys() == {"incremental", "oracle"}
    assert found.json["learning_seconds"].keys() == {"frozen", "incremental"}
    assert "<svg" in (tmp_path / "out" / "simulation.svg").read_text()
    wrong = run("simulate", "--arms", "frozn", "--users", "100", *tiny, cwd=tmp_path)
    assert "Did you mean 'frozen'?" in wrong.complaint


def test_the_model_of_a_worlds_beginning_is_saved_for_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_KEY", "isk_of_another_command")
    words = ("--users", "100", "--set", "training.epochs=1", "--set", "model.dim=16")
    saved = run("simulate", *words, "--save-model", "base", cwd=tmp_path)
    assert saved.code == 0, saved.err
    assert "isthmus serve --model base --log simulated.db" in saved.out
    assert not (tmp_path / "isthmus-simulation").exists()
    listed = run("models", "list", "--model", "base", "--json", cwd=tmp_path).json
    assert [row["kind"] for row in listed] == ["fit"]
    away = run(
        *("simulate", "--users", "100", "--arms", "oracle", "--url", "http://127.0.0.1:1"),
        cwd=tmp_path,
    )
    assert "http://127.0.0.1:1: the service cannot be reached" in away.complaint
