"""init → check → fit → recommend, similar, profile, evaluate, export, compare on a small shop."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cli_runner import TINY, Shop, curves, run

from isthmus import Config, Recommender


@pytest.fixture(scope="session")
def model(shop: Shop) -> Recommender:
    (folder,) = (shop.folder / "models").iterdir()
    return Recommender.load(folder)


def test_init_maps_every_table_and_says_so(shop: Shop) -> None:
    assert shop.init.code == 0
    config = Config.load(shop.folder / "isthmus.toml")
    assert list(config.domains) == ["books", "gear"]
    assert config.domains["gear"].catalogue.title == "title"
    assert config.people.impressions == shop.folder / "impressions.parquet"
    for table in shop.folder.glob("*.parquet"):
        assert table.name in shop.init.out


def test_init_as_json(shop: Shop, tmp_path: Path) -> None:
    tables = sorted(shop.folder.glob("books-*.parquet"))
    found = run("init", *tables, "--output", "sub/own.toml", "--json", cwd=tmp_path).json
    assert found["config"] == "sub/own.toml"
    assert any("books-items.parquet" in sentence for sentence in found["guesses"])
    assert list(Config.load(tmp_path / "sub/own.toml").domains) == ["books"]


def test_init_keeps_a_file_that_is_there(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "isthmus.toml").write_text("mine")
    tables = sorted(shop.folder.glob("books-*.parquet"))
    refused = run("init", *tables, cwd=tmp_path)
    assert refused.code == 2
    assert "isthmus.toml: exists already. Replace it with --force" in refused.complaint
    assert (tmp_path / "isthmus.toml").read_text() == "mine"
    assert run("init", *tables, "--force", cwd=tmp_path).code == 0
    assert list(Config.load(tmp_path / "isthmus.toml").domains) == ["books"]


def test_fit_tracks_what_it_is_told_to_and_says_which_texts_were_cut(
    shop: Shop, tmp_path: Path
) -> None:
    words = ("fit", "--config", shop.folder / "isthmus.toml", *TINY, "--model", "m")
    cut = ("--set", "language.max_tokens=5")
    said = run(*words, *cut, "--track", "tensorboard", cwd=tmp_path)
    assert said.code == 0, said.err
    assert "texts of books are longer than language.max_tokens = 5 and were cut" in said.out
    assert curves(tmp_path / "runs")["loss"]
    assert "were cut" not in shop.fit.out
    silent = run(*words, "--track", "none", "--runs", "other", "--json", cwd=tmp_path)
    assert silent.json["truncated"] == {"books": 0, "gear": 0}
    assert not curves(tmp_path / "other")
    refused = run(*words, "--track", "tensorbord", cwd=tmp_path)
    assert refused.code == 2
    assert "tracking.tools.0" in refused.complaint


def test_check_prints_and_writes_the_same(shop: Shop, tmp_path: Path) -> None:
    assert shop.check.code == 0
    name = Config.load(shop.folder / "isthmus.toml").name
    written = json.loads((shop.folder / "runs" / name / "data-report.json").read_text())
    printed = run(
        "check",
        "--config",
        shop.folder / "isthmus.toml",
        "--runs",
        tmp_path,
        "--json",
        cwd=tmp_path,
    )
    assert printed.json == written
    said = " ".join(shop.check.out.split())
    for domain in written["domains"]:
        assert f"{domain['name']}: {domain['users']:,} users, {domain['items']:,} items" in said
    for advice in written["advice"]:
        assert advice in said


def test_fit_says_how_each_gate_decided(shop: Shop, model: Recommender) -> None:
    assert shop.fit.code == 0
    for name, gate in model.gates.items():
        assert f"{name}: {gate.reason}" in " ".join(shop.fit.out.split())
    assert shop.fit.err == "", "nothing but results in a pipe"


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an epoch was trained")

    monkeypatch.setattr("isthmus.training.loop._Run.epoch", refuse)


@pytest.mark.usefixtures("no_training")
def test_fit_goes_on_from_what_is_there(shop: Shop, tmp_path: Path) -> None:
    shutil.copytree(shop.folder / "runs", tmp_path / "runs")
    words = ("--config", shop.folder / "isthmus.toml", *TINY, "--json")
    again = run("fit", *words, cwd=tmp_path).json
    gates = {name: gate["reason"] for name, gate in again["gates"].items()}
    for name, reason in gates.items():
        assert f"{name}: {reason}" in " ".join(shop.fit.out.split())
    assert (tmp_path / again["model"] / "current").is_file()


def test_recommend_to_somebody_known_given_and_new(shop: Shop, model: Recommender) -> None:
    known = str(model.dataset.user_ids[0])
    book = str(model.dataset.domains[0].items["item_id"][3])
    words = ("gear", "--user", known, "--user", "who?", "--history", f"books:{book}", "-k", "4")
    answers = run("recommend", *words, "--json", cwd=shop.folder).json["answers"]
    assert [answer["request"] for answer in answers] == [known, "who?", "history 1"]
    assert "history in" in answers[0]["basis"]
    assert answers[1]["basis"] == "unknown user, no history: what is popular now"
    assert "books" in answers[2]["basis"]
    expected = model.recommend("gear", users=[known], k=4)
    assert [item["item_id"] for item in answers[0]["items"]] == expected["item_id"].to_list()
    assert [item["rank"] for item in answers[0]["items"]] == [1, 2, 3, 4]
    assert sum(answers[0]["items"][0]["parts"].values()) == pytest.approx(
        answers[0]["items"][0]["score"], abs=1e-4
    )
    text = run("recommend", *words, cwd=shop.folder).out
    for answer in answers:
        assert f"{answer['request']} · gear" in text
        assert f"Rests on: {answer['basis']}." in text
        for item in answer["items"]:
            assert item["item_id"] in text
            assert item["why"].split(" from ")[0][:40] in text
    assert max(map(len, text.splitlines())) <= 100


def test_filters_hold(shop: Shop, model: Recommender, tmp_path: Path) -> None:
    user = str(model.dataset.user_ids[0])
    items = model.dataset.domains[1].items

    def ids(*words: str) -> list[str]:
        result = run("recommend", "gear", "--user", user, "--json", *words, cwd=shop.folder)
        return [item["item_id"] for item in result.json["answers"][0]["items"]]

    best = ids("-k", "6")
    denied = tmp_path / "denied.txt"
    denied.write_text(f"{best[0]}\n\n{best[2]}\n")
    assert ids("-k", "4", "--deny", f"@{denied}") == [best[1], best[3], best[4], best[5]]
    assert ids("--allow", f"{best[4]},{best[1]}") == [best[1], best[4]]
    kitchen = set(ids("--category", "kitchen", "-k", "90"))
    in_kitchen = items.filter(pl.col("category").str.contains("Kitchen"))["item_id"].to_list()
    assert kitchen
    assert kitchen <= set(in_kitchen)
    events = model.dataset.events.only(model.dataset.domain_index("gear"))
    own = set(items["item_id"].gather(events.item[events.user == 0].tolist()))
    assert own
    assert not own & set(ids("-k", "90"))
    assert own < set(ids("-k", "90", "--seen"))


def test_denied_ids_that_are_unknown_are_named(shop: Shop, model: Recommender) -> None:
    user = str(model.dataset.user_ids[0])
    best = model.recommend("gear", users=[user], k=1)["item_id"][0]
    words = ("recommend", "gear", "--user", user, "--json", "--deny")
    found = run(*words, f"{best},nosuch,neither,nosuch", cwd=shop.folder)
    assert found.code == 0
    assert found.err == (
        "isthmus: --deny: the catalogue of 'gear' does not hold 'nosuch', 'neither'. "
        "Check the spelling.\n"
    )
    assert best not in [item["item_id"] for item in found.json["answers"][0]["items"]]
    many = run(*words, ",".join(f"x{i}" for i in range(14)), cwd=shop.folder)
    assert "'x9' and 4 more. Check" in many.err
    assert run(*words, best, cwd=shop.folder).err == ""


def test_what_is_named_twice_counts_once(shop: Shop, model: Recommender) -> None:
    first, second = map(str, model.dataset.user_ids[:2])
    named = [word for user in (second, first, second) for word in ("--user", user)]
    found = run("recommend", "gear", *named, "-k", "3", "--json", cwd=shop.folder).json
    assert [answer["request"] for answer in found["answers"]] == [second, first]
    assert [len(answer["items"]) for answer in found["answers"]] == [3, 3]


def test_who_has_everything_that_is_allowed_is_told_so(shop: Shop, model: Recommender) -> None:
    gear, events = model.dataset.domain_index("gear"), model.dataset.events
    own = np.flatnonzero(events.domain == gear)[0]
    item = str(model.dataset.domains[gear].items["item_id"][int(events.item[own])])
    full = str(model.dataset.user_ids[int(events.user[own])])
    words = ("recommend", "gear", "--user", full, "--user", "who?", "--allow", item)
    answers = run(*words, "--json", cwd=shop.folder).json["answers"]
    assert [answer["request"] for answer in answers] == [full, "who?"]
    assert [len(answer["items"]) for answer in answers] == [0, 1]
    assert answers[0]["basis"].startswith("every item that may be offered is in the history")
    text = run(*words, cwd=shop.folder).out
    assert f"{full} · gear\nNothing: every item that may be offered is in the history" in text


def test_similar_here_and_elsewhere(shop: Shop, model: Recommender) -> None:
    items = model.dataset.domains[0].items.filter(pl.col("title").is_not_null())
    book, title = items["item_id"][0], items["title"][0]
    here = run("similar", "books", book, "-k", "3", "--json", cwd=shop.folder).json
    assert len(here["items"]) == 3
    assert book not in [item["item_id"] for item in here["items"]]
    there = run("similar", "books", book, "--to", "gear", "-k", "3", cwd=shop.folder)
    assert f"Like '{title}' from books, in gear" in there.out
    for row in model.similar("books", book, to="gear", k=3).to_dicts():
        assert row["item_id"] in there.out


def test_profile(shop: Shop, model: Recommender) -> None:
    user = str(model.dataset.user_ids[0])
    assert run("profile", "--user", user, "--json", cwd=shop.folder).json == json.loads(
        json.dumps(model.profile(user).to_dict())
    )
    text = " ".join(run("profile", "--user", user, cwd=shop.folder).out.split())
    for line in model.profile(user).lines():
        assert " ".join(line.split()) in text
    book = model.dataset.domains[0].items["item_id"][3]
    given = run("profile", "--history", f"books:{book}", cwd=shop.folder)
    assert given.out.startswith("given history: 1 event in 1 domain")


def test_evaluate(shop: Shop, model: Recommender) -> None:
    found = run("evaluate", "--queries", "tuning", "--json", cwd=shop.folder).json
    expected = model.evaluate(queries="tuning")
    assert {d: set(systems) for d, systems in found.items()} == {
        d: set(systems) for d, systems in expected.items()
    }
    gated = found["gear"]["gated"]["ndcg@10"]
    assert gated["value"] == pytest.approx(expected["gear"]["gated"].mean("ndcg@10"))
    assert gated["ci95"][0] <= gated["value"] <= gated["ci95"][1]
    text = run("evaluate", "--queries", "tuning", cwd=shop.folder).out
    assert f"gear: {gated['n']:,} questions" in text
    assert "target-only" in text
    assert " ".join(model.gates["gear"].reason.split()) in " ".join(text.split())


def test_export_is_what_recommend_gives(shop: Shop, model: Recommender, tmp_path: Path) -> None:
    path = tmp_path / "new" / "lists.parquet"
    words = ("export", "gear", path, "-k", "5", "--chunk", "64", "--json")
    found = run(*words, cwd=shop.folder).json
    lists = pl.read_parquet(path)
    assert found["rows"] == lists.height == 5 * model.dataset.n_users
    user = str(model.dataset.user_ids[7])
    assert (
        lists.filter(pl.col("user_id") == user)["item_id"].to_list()
        == model.recommend("gear", users=[user], k=5)["item_id"].to_list()
    )


@pytest.mark.usefixtures("no_training")
def test_compare_goes_on_from_a_fit_and_says_the_verdict(shop: Shop, tmp_path: Path) -> None:
    shutil.copytree(shop.folder / "runs", tmp_path / "runs")
    words = ("compare", "--config", shop.folder / "isthmus.toml", *TINY)
    chosen = ("--target", "gear", "--target", "gear", "--baselines", "popular, co-occurrence")
    text = run(*words, *chosen, cwd=tmp_path)
    assert text.code == 0, text.err
    assert text.err == ""
    (run_folder,) = (tmp_path / "runs").iterdir()
    for name in ("config.toml", "metrics.parquet", "metrics.json", "report.html", "model-card.md"):
        assert (run_folder / name).stat().st_size > 0
    found = run(*words, *chosen, "--json", cwd=tmp_path).json
    (verdict,) = found["verdicts"]
    assert " ".join(verdict["sentence"].split()) in " ".join(text.out.split())
    assert verdict["target"] == "gear"
    assert {"popular", "co-occurrence", "target-only"} <= set(found["systems"])
    assert found["report"] in text.out
    model = Recommender.load(tmp_path / found["model"])
    assert model.recommend("gear", users=["who?"], k=3).height == 3


def test_compare_with_less_data_and_a_control(shop: Shop, tmp_path: Path) -> None:
    shutil.copytree(shop.folder / "runs", tmp_path / "runs")
    words = ("compare", "--config", shop.folder / "isthmus.toml", *TINY)
    asked = ("--target", "gear", "--baselines", "popular", "--curve", "0.5,1")
    text = run(*words, *asked, "--control", "random-overlap", cwd=tmp_path)
    assert text.code == 0, text.err
    assert "gear, 50 % of the people" in text.out
    assert "source histories swapped" in text.out
    (run_folder,) = (tmp_path / "runs").iterdir()
    page = (run_folder / "report.html").read_text("utf-8")
    assert "With less of the target" in page
    found = run(*words, *asked, "--control", "random-overlap", "--json", cwd=tmp_path).json
    points = [(point["share"], point["control"]) for point in found["curve"]]
    assert points == [(s, c) for s in (0.5, 1.0) for c in ("none", "random-overlap")]
    summary = json.loads((run_folder / "metrics.json").read_text("utf-8"))
    assert summary["curve"] == found["curve"]


def test_less_data_may_be_the_latest_events(shop: Shop, tmp_path: Path) -> None:
    shutil.copytree(shop.folder / "runs", tmp_path / "runs")
    words = ("compare", "--config", shop.folder / "isthmus.toml", *TINY, "--json")
    asked = ("--target", "gear", "--baselines", "popular", "--curve", "0.5", "--curve-by", "time")
    found = run(*words, *asked, cwd=tmp_path).json
    assert [(point["share"], point["by"]) for point in found["curve"]] == [
        (0.5, "time"),
        (1.0, "time"),
    ]
    (run_folder,) = (tmp_path / "runs").iterdir()
    assert [path.name for path in (run_folder / "parts" / "curve" / "gear").iterdir()] == [
        "time-0.5"
    ]


def test_fit_takes_the_strategy_and_the_target_that_are_named(shop: Shop, tmp_path: Path) -> None:
    words = ("fit", "--config", shop.folder / "isthmus.toml", *TINY, "--set", "training.epochs=2")
    found = run(*words, "--strategy", "meta", "--target", "gear", "--json", cwd=tmp_path).json
    assert list(found["gates"]) == ["gear"]
    trained = tmp_path / found["run"] / "parts" / "seed-0" / "checkpoints"
    assert {path.name for path in trained.iterdir()} == {"meta", "adapt", "target-only-gear"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("recommend", "geer", "--user", "u"), "domain 'geer' is not in this dataset. Did you"),
        (("recommend", "gear", "--history", "books:none"), "history 1, entry 1: item 'none' is"),
        (("recommend", "gear", "--user", "u", "--allow", "none"), "none"),
        (("recommend", "gear", "--user", "u", "--category", "no such"), "no such"),
        (("similar", "books", "none"), "item 'none' is not in the catalogue of 'books'"),
        (("similar", "books", "none", "--to", "geer"), "domain 'geer' is not in this dataset"),
        (("profile", "--history", "films:f1"), "domain 'films' is not in this dataset"),
        (("export", "geer", "out.parquet"), "domain 'geer' is not in this dataset"),
        (("export", "gear", "."), ".: is a folder"),
        (("fit", "--target", "geer"), "domain 'geer' is not in this dataset. Did you mean 'gear'"),
        (("compare", "--target", "geer"), "domain 'geer' is not in this dataset. Did you mean 'ge"),
        (("compare", "--baselines", "popluar"), "no baseline is called 'popluar'. Did you mean"),
    ],
)
def test_unknown_names(shop: Shop, words: tuple[str, ...], complaint: str) -> None:
    before = sorted(shop.folder.rglob("*"))
    result = run(*words, cwd=shop.folder)
    assert result.code == 2
    assert complaint in result.complaint
    assert sorted(shop.folder.rglob("*")) == before, "something was left behind"
