"""`isthmus align`: distances before and after, the page it writes, and what it refuses."""

import re
from pathlib import Path

import polars as pl
import pytest
from cli_runner import Result, Shop, run

from isthmus import Config

WIDE = ("--set", "language.whiten_dim=16", "--set", "alignment.pair_cosine=0.2")


def _align(shop: Shop, folder: Path, *words: str | Path) -> Result:
    where = ("--config", shop.folder / "isthmus.toml", "--runs", folder)
    return run("align", *where, *WIDE, *words, cwd=folder)


def _column(found: Result, measure: str) -> dict[str, float]:
    (pair,) = found.json["pairs"]
    return {w["name"]: w["distance"][measure] for w in pair["ways"] if w["distance"]}


def test_the_configured_maps_are_measured_and_drawn(shop: Shop, tmp_path: Path) -> None:
    found = _align(shop, tmp_path)
    assert found.code == 0
    assert found.err == ""
    lines = found.out.splitlines()
    assert lines[0].startswith("books and gear: ")
    assert [line.split("  ")[0] for line in lines[3:5]] == ["none", "whiten (shared axes)"]
    page = tmp_path / Config.load(shop.folder / "isthmus.toml").name / "alignment.html"
    assert str(page) in " ".join(found.out.split())
    content = page.read_text()
    assert content.count("data-chart") == 2 + 1  # the script names the attribute once
    assert "<h3>whiten (shared axes)</h3>" in content
    assert not re.findall(r"(?:src|href)=.http", content.split("</style>")[1][:20_000])


def test_named_maps_and_every_map_as_json(shop: Shop, tmp_path: Path) -> None:
    own = ("--set", "alignment.basis=own", "--json")
    found = _align(shop, tmp_path, "--map", "whiten+procrustes", "--map", "coral", *own)
    assert found.code == 0
    assert found.json["anchor"] in ("books", "gear")
    assert list(_column(found, "mmd")) == ["none", "whiten (own axes) + procrustes", "coral"]
    everything = _align(shop, tmp_path, "--all", "--json")
    covariance, mmd = (_column(everything, name) for name in ("coral", "mmd"))
    assert covariance["coral"] < 0.5 * covariance["none"]
    for way in ("whiten (own axes)", "whiten (shared axes)", "sinkhorn"):
        assert mmd[way] < 0.5 * mmd["none"]
    pairs = _column(everything, "pairs")
    assert everything.json["pairs"][0]["judged"] > 5
    assert pairs["whiten (shared axes)"] < 0.9 < pairs["whiten (own axes)"]
    assert pairs["procrustes"] < pairs["none"]


def test_without_pairs_all_maps_but_those_that_need_them(shop: Shop, tmp_path: Path) -> None:
    strict = ("--set", "alignment.pair_cosine=1")
    refused = _align(shop, tmp_path, "--map", "procrustes", *strict)
    assert refused.code == 2
    assert "alignment.pair_cosine: no text of" in refused.complaint
    found = _align(shop, tmp_path, "--all", *strict)
    assert found.code == 0
    said = " ".join(found.out.split())
    assert "no pairs to judge by" in said
    assert "procrustes: no text of" in said
    assert "coral" in said


def test_a_saved_model_is_measured_by_what_it_has_learnt(shop: Shop, tmp_path: Path) -> None:
    (model,) = (shop.folder / "models").iterdir()
    (pair,) = run("align", "--model", model, "--json", cwd=tmp_path).json["pairs"]
    names = ["texts", "texts, aligned", "learned, before training", "learned"]
    assert list(pair["stages"]) == names
    before, after = (pair["stages"][name]["mmd"] for name in names[2:])
    assert before != after
    text = run("align", "--model", model, cwd=tmp_path).out
    assert text.startswith(f"books and gear: {pair['pairs']} pairs")
    assert f"{after:.4f}".replace("-", "−") in text
    for beside, said in (
        (("--all",), "--all"),
        (("--map", "coral", "--runs", "there"), "--map and --runs"),
        (("--set", "seed=1", "--config", "other.toml"), "--set and --config"),
    ):
        refused = run("align", "--model", model, *beside, cwd=tmp_path)
        assert refused.code == 2
        assert f"Leave {said} out" in refused.complaint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--map", "whitten"), "nothing is called 'whitten'. Did you mean 'whiten'?"),
        (("--map", "mypkg.nothing:Map"), "'mypkg.nothing:Map' cannot be imported"),
        (("--set", "alignment.features=['corral']"), "nothing is called 'corral'"),
        (("--set", "alignment.anchor=films"), "alignment.anchor: 'films' is no domain"),
        (("--set", "alignment.pairs=lost.csv"), "lost.csv: no such file"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_code_2(
    shop: Shop, tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    found = _align(shop, tmp_path, *words)
    assert found.code == 2
    assert complaint in found.complaint
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_one_domain_or_one_without_texts_is_refused(shop: Shop, tmp_path: Path) -> None:
    tables = {
        name: shop.folder / f"{name}.parquet" for name in ("books-interactions", "books-items")
    }
    config = tmp_path / "isthmus.toml"
    books = (
        f'[domains.books]\ninteractions = "{tables["books-interactions"]}"\n'
        f'items = "{tables["books-items"]}"\ncatalogue = {{ title = "title" }}\n'
    )
    config.write_text(books)
    alone = run("align", cwd=tmp_path)
    assert alone.code == 2
    assert "domains: there is one domain, 'books', and nothing to align it with" in alone.complaint
    gear = shop.folder / "gear-interactions.parquet"
    config.write_text(books + f'[domains.gear]\ninteractions = "{gear}"\n')
    silent = run("align", cwd=tmp_path)
    assert silent.code == 2
    assert "domains.gear: no item of 'gear' has a text" in silent.complaint


def test_pairs_of_ones_own_are_used_and_checked(shop: Shop, tmp_path: Path) -> None:
    items = [
        pl.read_parquet(shop.folder / f"{name}-items.parquet")["item_id"].to_list()
        for name in ("books", "gear")
    ]
    lines = [f"books,{a},gear,{b}" for a, b in zip(items[0][:40], items[1][:40], strict=True)]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(["domain_a,item_a,domain_b,item_b", *lines]))
    found = _align(shop, tmp_path, "--set", f"alignment.pairs={path}", "--json")
    assert 5 < found.json["pairs"][0]["judged"] < 35
    path.write_text("\n".join(["domain_a,item_a,domain_b,item_b", *lines, "books,b?,gear,g?"]))
    refused = _align(shop, tmp_path, "--set", f"alignment.pairs={path}")
    assert refused.code == 2
    assert "1 of 41 pairs name an item" in refused.complaint
    assert "first 'b?' of 'books' in row 41" in refused.complaint
