"""`isthmus teach`, `rate`, `click`, `classify` and `recommend --rerank`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partialmethod
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cli_runner import Shop, curves, run

from isthmus import Config, Recommender
from isthmus.cli.tasks import _second_reader
from isthmus.language.cross_encoder import CrossEncoder

ROOT = Path(__file__).parents[2]
QUICK = ("--set", "tasks.epochs=3", "--set", "tasks.hidden=8")
BRIEF = (
    *("--set", "tasks.cross_encoder.epochs=1"),
    *("--set", "tasks.cross_encoder.most_pairs=64"),
    *("--set", "tasks.cross_encoder.tune=lora"),
)


@pytest.fixture(scope="module")
def taught(shop: Shop, tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Path:
    """A copy of the shop, whose model was taught to rate, and a small language model to rate by."""
    folder = tmp_path_factory.mktemp("taught") / "shop"
    shutil.copytree(shop.folder, folder)
    found = run("teach", "rate", *QUICK, "--json", cwd=folder)
    assert found.code == 0, found.err
    assert found.json["figures"]["all"]["rmse"] < 2
    assert found.json["queries"] == "validation"
    found = run(
        *("teach", "rate", "--way", "language", "--output", "models/reader", *BRIEF),
        *("--set", f"tasks.cross_encoder.model='{bert}'", "--json"),
        *("--set", "tasks.cross_encoder.max_tokens=12"),
        cwd=folder,
    )
    assert found.code == 0, found.err
    assert found.json["truncated"] > 0
    weights = found.json["weights"]
    assert list(weights) == ["books", "gear"]
    assert CrossEncoder.load(folder / "models" / "reader").weights == weights
    (run_folder,) = (folder / "runs").glob("*/tasks")
    assert curves(run_folder / "curves" / "rate")["loss"]
    assert curves(run_folder / "curves" / "rate-language")["loss"]
    return folder


def people(folder: Path) -> str:
    return str(pl.read_parquet(folder / "books-interactions.parquet")["user_id"][0])


def test_ratings_by_heads_and_by_the_language_model(taught: Path) -> None:
    words = ("rate", "gear", "g00000,g00001", "--user", people(taught), "--json")
    by_heads = run(*words, cwd=taught).json["answers"]
    through = run(*words, "--through", "models/reader", cwd=taught).json["answers"]
    recommender = Recommender.load(taught / "models" / Config.load(taught / "isthmus.toml").name)
    reader = CrossEncoder.load(taught / "models" / "reader")
    asked = {"users": [people(taught)]}
    for answers, encoder in ((by_heads, None), (through, reader)):
        assert [row["item_id"] for row in answers] == ["g00000", "g00001"]
        told = recommender.rate("gear", ["g00000", "g00001"], **asked, through=encoder)["rating"]
        assert [row["rating"] for row in answers] == pytest.approx(told.to_list(), abs=1e-5)
    assert all(1 <= row["rating"] <= 5 for row in by_heads)
    assert by_heads[0]["rating"] != through[0]["rating"]
    printed = run(*words[:-1], cwd=taught)
    assert "rating" in printed.out
    assert f"{by_heads[0]['rating']:.2f}" in printed.out


def test_a_person_and_an_item_named_twice_are_told_of_once(taught: Path) -> None:
    named = ("--user", people(taught)) * 2
    found = run("rate", "gear", "g00001,g00001", *named, "--json", cwd=taught)
    assert [answer["item_id"] for answer in found.json["answers"]] == ["g00001"]


def test_a_list_is_read_once_more(taught: Path) -> None:
    words = ("recommend", "gear", "--user", people(taught), "-k", "5", "--json")
    plain = run(*words, cwd=taught).json["answers"][0]["items"]
    words = (*words, "--rerank", "models/reader")
    found = run(*words, cwd=taught).json["answers"][0]["items"]
    assert [item["rank"] for item in found] == [1, 2, 3, 4, 5]
    assert all(1 <= item["first_rank"] <= 50 for item in found)
    reread = [item["reread"] for item in found]
    assert reread == sorted(reread, reverse=True)
    assert "first_rank" not in plain[0]
    by_rank = {item["rank"]: item["item_id"] for item in plain}
    for item in found:
        if item["first_rank"] <= 5:
            assert by_rank[item["first_rank"]] == item["item_id"]


def test_a_reader_that_does_not_help_is_said_to_change_nothing(taught: Path) -> None:
    reader = CrossEncoder.load(taught / "models" / "reader")
    words = ("recommend", "gear", "--user", people(taught), "--rerank", "models/deaf")
    for weights, why in (
        ({"gear": 0.0}, "does not help in gear"),
        ({}, "was not asked on validation in gear"),
        ({"gear": 2.0}, None),
    ):
        reader.weights = weights
        reader.save(taught / "models" / "deaf")
        found = run(*words, cwd=taught)
        assert found.code == 0
        said = " ".join(found.err.split())
        if why is None:
            assert not said
        else:
            assert f"--rerank: models/deaf {why}, and the order stays" in said
    refused = run("recommend", "geer", *words[2:], cwd=taught)
    assert "geer" in refused.complaint


def test_what_the_reader_is_worth_is_said_as_it_is_taught() -> None:
    said = _second_reader({"food": 0.314, "kitchen": 0.0})
    assert "in food it counts 0.31 as much as the order that is there" in said
    assert "in kitchen it does not help, and the order stays" in said
    assert "nothing was asked" in _second_reader({})


def test_a_new_order_is_measured(taught: Path) -> None:
    words = ("evaluate", "--rerank", "models/reader", "--most", "8", "--queries", "validation")
    found = run(*words, "--json", cwd=taught)
    assert found.code == 0, found.err
    gear = found.json["gear"]
    assert gear["reranked"]["ndcg@10"]["n"] == gear["gated"]["ndcg@10"]["n"] == 8
    assert len(gear["reranked"]["ndcg@10"]["ci95"]) == 2


def test_clicks(taught: Path) -> None:
    printed = run("teach", "click", *QUICK, "--queries", "test", "--track", "none", cwd=taught)
    assert printed.code == 0, printed.err
    for word in ("precision", "weighted", "auc", "log loss", "happened"):
        assert word in printed.out
    found = run("click", "gear", "g00000", "--history", "books:b00001", "--json", cwd=taught)
    (answer,) = found.json["answers"]
    assert sum(answer["chances"].values()) == pytest.approx(1)
    assert answer["label"] == max(answer["chances"], key=answer["chances"].get)
    assert not list((taught / "runs").glob("*/tasks/curves/click"))
    # Both tasks are now in one model.
    again = run("rate", "gear", "g00000", "--user", people(taught), cwd=taught)
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("click", "gear", "g00000", "--user", "u"), "was not taught to click"),
        (("rate", "gear", "g00000"), "nobody is asked about"),
        (("rate", "gear", "g0", "--user", "u"), "item 'g0' is not in the catalogue of 'gear'"),
        (("rate", "gears", "g00000", "--user", "u"), "Did you mean 'gear'"),
        (("teach", "rating"), "is not one of"),
        (("teach", "click", "--set", "tasks.click.examples='no.csv'"), "no.csv: no such file"),
        (("teach", "rate", "--set", "tasks.rate.head=square"), "Did you mean 'squared'"),
        (("teach", "rate", "--set", "training.epochs=3"), "has no say"),
        (("click", "gear", "g00000", "--user", "u", "--through", "models"), "models"),
    ],
)
def test_what_cannot_be_done_is_one_line(words: tuple[str, ...], said: str, shop: Shop) -> None:
    found = run(*words, cwd=shop.folder)
    assert found.code == 2
    assert said in found.complaint


def test_a_cross_encoder_for_ratings_tells_no_classes(taught: Path) -> None:
    words = ("click", "gear", "g00000", "--user", "u", "--through", "models/reader")
    found = run(*words, cwd=taught)
    assert found.code == 2
    assert "the cross-encoder tells ratings" in found.complaint


def write_pairs(folder: Path, n: int = 240) -> Path:
    """Pairs whose label is whether both texts are about one thing."""
    rng = np.random.default_rng(0)
    topics = (["espresso beans", "burr grinder", "filter coffee"], ["running shoes", "firm grip"])
    one, other = rng.integers(0, 2, n), rng.integers(0, 2, n)
    frame = pl.DataFrame(
        {
            "history": [f"{rng.choice(topics[t])} {i}" for i, t in enumerate(one)],
            "item": [rng.choice(topics[t]) for t in other],
            "label": (one == other).astype(int),
        }
    )
    frame.write_csv(folder / "pairs.csv")
    return folder / "pairs.csv"


TUNE = (
    *("--set", "tasks.cross_encoder.tune=full"),
    *("--set", "tasks.cross_encoder.epochs=12"),
    *("--set", "tasks.cross_encoder.patience=12"),
    *("--set", "tasks.cross_encoder.batch=16"),
    *("--set", "tasks.cross_encoder.learning_rate=0.003"),
)


def test_a_bert_classifies_pairs_and_labels_others(tmp_path: Path, bert: Path) -> None:
    write_pairs(tmp_path)
    found = run("classify", "pairs.csv", "--base", bert, *TUNE, "--json", cwd=tmp_path)
    assert found.code == 0, found.err
    assert found.json["queries"] == "test"
    assert found.json["figures"]["all"]["auc"] > 0.8
    assert [line["name"] for line in found.json["report"]] == ["0", "1", "macro", "weighted"]
    words = ("classify", "pairs.csv", "--apply", "models/classifier", "--json")
    told = [row["label"] for row in run(*words, cwd=tmp_path).json["pairs"]]
    truth = pl.read_csv(tmp_path / "pairs.csv")["label"].cast(pl.String).to_list()
    assert len(told) == len(truth)
    assert np.mean([a == b for a, b in zip(told, truth, strict=True)]) > 0.8


def test_an_interrupted_classification_goes_on(tmp_path: Path, bert: Path) -> None:
    from isthmus.language.cross_encoder_tuning import PairTask

    write_pairs(tmp_path)
    words = ("classify", "pairs.csv", "--base", bert, *TUNE, "--json")
    words = (*words, "--set", "tasks.cross_encoder.epochs=4", "--set", "training.threads=1")
    often = ("--set", "training.checkpoint_seconds=0")
    real, steps = PairTask.loss, []

    def loss(self: PairTask, *given: object, most: int = 10**6) -> object:
        if len(steps) == most:
            raise KeyboardInterrupt
        steps.append(1)
        return real(self, *given)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PairTask, "loss", loss)
        whole = run(*words, "--runs", "other", cwd=tmp_path)
        n_whole, epoch = len(steps), len(steps) // 4
        patch.setattr(PairTask, "loss", partialmethod(loss, most=n_whole + 2 * epoch + 1))
        stopped = run(*words, *often, cwd=tmp_path)
        assert stopped.code == 130
        assert "the same command goes on from where it was" in stopped.err
        steps.clear()
        patch.setattr(PairTask, "loss", loss)
        again = run(*words, *often, cwd=tmp_path)
    assert len(steps) == n_whole - 2 * epoch
    assert again.json["figures"] == whole.json["figures"]
    place = tmp_path / again.json["run"]
    assert place.parent == tmp_path / "runs" / "classify"
    assert len(curves(place)["loss"]) == 4
    assert len(curves(tmp_path / "other")["validation"]) == 4
    other = run(*words, "--set", "seed=1", "--track", "none", cwd=tmp_path)
    assert other.json["run"] != again.json["run"]
    assert not curves(tmp_path / other.json["run"])


def test_pairs_that_were_cut_are_counted(tmp_path: Path, bert: Path) -> None:
    file = write_pairs(tmp_path)
    file.write_text(file.read_text().replace("espresso beans", "espresso beans " * 40))
    words = ("classify", "pairs.csv", "--base", bert, *BRIEF)
    found = run(*words, "--json", cwd=tmp_path)
    assert 0 < found.json["truncated"] < 64 + 40
    printed = run(*words, cwd=tmp_path)
    said = "pairs of texts are longer than tasks.cross_encoder.max_tokens and were cut"
    assert f"{found.json['truncated']} {said}" in printed.out
    file.write_text(file.read_text().replace("espresso beans " * 40, "espresso beans"))
    assert run(*words, "--json", cwd=tmp_path).json["truncated"] == 0
    assert said not in run(*words, cwd=tmp_path).out


def test_the_twenty_lines_do_the_same(tmp_path: Path, bert: Path) -> None:
    script = ROOT / "examples" / "classify_pairs.py"
    code = [line for line in script.read_text("utf-8").splitlines() if line.strip()]
    assert len(code) <= 21
    done = subprocess.run(
        [sys.executable, str(script), str(write_pairs(tmp_path)), str(bert)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "macro", "weighted", "AUC"]
    # Each pair is counted once: a class taken over the wrong axis would not be.
    supports = [int(line.split()[-1]) for line in lines[:4]]
    assert supports[0] + supports[1] == supports[2] == supports[3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("label", "lable", 1), "Did you mean 'lable'"),
        (lambda text: text.replace(",1\n", ",0\n"), "every label is '0': with one class"),
        (lambda text: text.replace(",1\n", ",1.5\n"), "labels are not classes: found 1.5"),
        (lambda text: text.replace(",1\n", ",\n", 1), "1 rows have no label"),
    ],
)
def test_pairs_that_teach_nothing(change, said: str, tmp_path: Path, bert: Path) -> None:
    file = write_pairs(tmp_path)
    file.write_text(change(file.read_text()))
    found = run("classify", "pairs.csv", "--base", bert, *TUNE, cwd=tmp_path)
    assert found.code == 2
    assert said in found.complaint
    assert not (tmp_path / "models").exists()
