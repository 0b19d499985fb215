import json
from itertools import permutations
from pathlib import Path

import polars as pl
import pytest

from isthmus.config import Config
from isthmus.data.build import build_dataset
from isthmus.data.guess import guess_config, guess_domain
from isthmus.errors import DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def load(folder: Path, files: list[Path]) -> tuple[Config, str]:
    guess = guess_config(files, base=folder)
    path = folder / "isthmus.toml"
    path.write_text(guess.toml, "utf-8")
    return Config.load(path), "\n".join(guess.sentences)


def test_files_are_paired_by_name_and_columns_found_by_name(tmp_path):
    for name in ("books", "films"):
        pl.DataFrame(
            {
                "reviewerID": ["u1", "u2", "u1"],
                "asin": ["a", "a", "b"],
                "unixReviewTime": [1400000000, 1400000001, 1400000002],
                "overall": [5.0, 3.0, 4.0],
                "helpful": [0, 1, 2],
            }
        ).write_csv(tmp_path / f"{name}_reviews.csv")
        pl.DataFrame(
            {"asin": ["a", "b"], "title": ["A", "B"], "brand": ["x", "y"], "price": [1.0, 2.0]}
        ).write_parquet(tmp_path / f"{name}_meta.parquet")
    config, said = load(tmp_path, sorted(tmp_path.iterdir()))
    assert list(config.domains) == ["books", "films"]
    books = config.domains["books"]
    assert books.interactions == tmp_path / "books_reviews.csv"
    assert books.items == tmp_path / "books_meta.parquet"
    assert books.events.model_dump(exclude_none=True) == {
        "user": "reviewerID",
        "item": "asin",
        "time": "unixReviewTime",
        "rating": "overall",
    }
    assert books.catalogue.title == "title"
    assert books.catalogue.text == ["title", "brand"]
    assert "books_reviews.csv holds interactions: user = 'reviewerID'" in said
    dataset, _ = build_dataset(config)
    assert dataset.domains[0].items["text"].to_list() == ["A | x", "B | y"]


def test_catalogues_of_other_names_are_paired_by_their_ids(tmp_path):
    events = {"user_id": [1, 2, 1], "product_id": [10, 11, 10], "created_at": ["2020-01-01"] * 3}
    pl.DataFrame(events).write_csv(tmp_path / "north.csv")
    pl.DataFrame(events | {"product_id": [20, 21, 20]}).write_csv(tmp_path / "south.csv")
    for name, ids in (("alpha", [20, 21]), ("beta", [10, 11])):
        lines = [json.dumps({"id": i, "name": f"Thing {i}"}) for i in ids]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    config, said = load(tmp_path, sorted(tmp_path.iterdir()))
    assert config.domains["north"].items == tmp_path / "beta.jsonl"
    assert config.domains["south"].items == tmp_path / "alpha.jsonl"
    assert "100% of the item ids" in said
    assert len(build_dataset(config)[0].events) == 6


@pytest.mark.parametrize("order", range(24))
def test_files_in_folders_are_paired_by_folder_in_whatever_order(tmp_path, order):
    files = []
    for name, n_items in (("art", 20), ("books", 30)):
        (tmp_path / name).mkdir()
        ids = list(range(n_items))
        events, items = tmp_path / name / "interactions.csv", tmp_path / name / "items.csv"
        pl.DataFrame(
            {"user_id": [i % 7 for i in ids], "item_id": ids, "time": [1.6e9 + i for i in ids]}
        ).write_csv(events)
        # The other shop's catalogue holds all ids of art, its own does not.
        held = ids[2:] if name == "art" else ids
        pl.DataFrame({"item_id": held, "title": [f"{name} {i}" for i in held]}).write_csv(items)
        files += [events, items]
    config, said = load(tmp_path, list(list(permutations(files))[order]))
    for name in ("art", "books"):
        assert config.domains[name].interactions == tmp_path / name / "interactions.csv"
        assert config.domains[name].items == tmp_path / name / "items.csv"
        assert f"{tmp_path.as_posix()}/{name}/items.csv is taken as the catalogue" in said
    assert "Unsure" not in said


def test_catalogues_that_fit_equally_well_are_said_to_be_unsure(tmp_path):
    events = {"user_id": [1, 2, 1], "product_id": [10, 11, 10], "created_at": ["2020-01-01"] * 3}
    pl.DataFrame(events).write_csv(tmp_path / "north.csv")
    for name in ("alpha", "beta"):
        pl.DataFrame({"id": [10, 11], "title": ["A", "B"]}).write_csv(tmp_path / f"{name}.csv")
    files = sorted(tmp_path.iterdir())
    for order in permutations(files):
        config, said = load(tmp_path, list(order))
        assert config.domains["north"].items == tmp_path / "alpha.csv"
        assert "Unsure: alpha.csv is taken as the catalogue of north" in said
        assert "and so does beta.csv" in said


def test_every_name_that_is_written_can_be_read(tmp_path):
    folder = tmp_path / ".shop"
    folder.mkdir()
    values = ["Sci-Fi", "sci_fi", "+++", "---", "a/b", "games", "Games"]
    pl.DataFrame(
        {
            "user_id": [f"u{i % 5}" for i in range(70)],
            "item_id": [f"i{i % 9}" for i in range(70)],
            "category": [values[i % 7] for i in range(70)],
        }
    ).write_csv(folder / "events.csv")
    for name in ("games", "tools"):
        pl.DataFrame({"id": ["x", "y"], "title": ["X", "Y"]}).write_csv(folder / f"{name}.csv")
    config, _ = load(folder, sorted(folder.glob("*.csv")))
    assert config.name == "shop"
    assert len(config.domains) == 9
    assert {only for d in config.domains.values() for only in d.only.get("category", [])} == {
        *values
    }
    assert {"sci_fi", "sci_fi_1", "domain", "domain_1", "games_1"} <= set(config.domains)


def test_columns_without_telling_names_are_judged_by_content_and_said_to_be_unsure(tmp_path):
    pl.DataFrame(
        {"a": ["x", "y", "x", "y"], "b": ["p", "p", "q", "q"], "date": ["2020-01-01"] * 4}
    ).write_csv(tmp_path / "log.csv")
    config, said = load(tmp_path, [tmp_path / "log.csv"])
    (domain,) = config.domains.values()
    assert (domain.events.user, domain.events.item) == ("a", "b")
    assert "Unsure: 'a' in log.csv as user" in said


def test_a_shop_in_another_language_is_found_by_its_moments(tmp_path):
    lines = [f"{1000 + i % 7};A{i % 5};2020-01-{1 + i % 28:02d};{1 + i % 5}" for i in range(60)]
    header = "Kunde;Artikelnummer;Zeitpunkt;Bewertung"
    (tmp_path / "laden.csv").write_text("\n".join([header, *lines]), "utf-8")
    # Items with a day of their own, and friends with one, are no events.
    items = {"Kategorie": ["x", "y"] * 4, "Marke": ["p", "q"] * 4, "Nummer": [*range(8)]}
    items |= {"Name": [f"Ding {i}" for i in range(8)], "seit": ["2019-02-03"] * 8}
    pl.DataFrame(items).write_csv(tmp_path / "waren.csv")
    friends = {"user_id": ["u", "v", "u"], "other_id": ["v", "w", "w"], "seit": ["2019-02-03"] * 3}
    pl.DataFrame(friends).write_csv(tmp_path / "freunde.csv")
    config, said = load(tmp_path, sorted(tmp_path.glob("*.csv")))
    assert config.domains["laden"].events.model_dump(exclude_none=True) == {
        **{"user": "Kunde", "item": "Artikelnummer", "time": "Zeitpunkt"}
    }
    assert "Unsure: 'Zeitpunkt' in laden.csv as time, by content alone" in said
    assert config.people.links == tmp_path / "freunde.csv"
    assert [name for name, d in config.domains.items() if d.interactions] == ["laden"]


def test_a_file_that_is_left_out_says_which_keys_to_set(tmp_path):
    pl.DataFrame({"user_id": ["u", "v"], "item_id": ["a", "a"], "rating": [1, 2]}).write_csv(
        tmp_path / "shop.csv"
    )
    pl.DataFrame({"p": ["x y", "x z"], "q": [1.5, 2.5], "r": ["k", "k"]}).write_csv(
        tmp_path / "odd.csv"
    )
    _, said = load(tmp_path, sorted(tmp_path.glob("*.csv")))
    assert "odd.csv is left out: its columns p, q, r fit no table known; if it holds events" in said
    assert "name it in domains.NAME.interactions and its columns in domains.NAME.events" in said


def test_tables_about_people_and_lists_are_recognised(tmp_path):
    pl.DataFrame({"user_id": ["u", "v"], "item_id": ["a", "a"], "rating": [1, 2]}).write_csv(
        tmp_path / "shop.csv"
    )
    pl.DataFrame({"user_id": ["u"], "other_id": ["v"]}).write_csv(tmp_path / "friends.csv")
    pl.DataFrame({"user_id": ["u", "v"], "age": [30, 40]}).write_csv(tmp_path / "users.csv")
    pl.DataFrame({"user_id": ["u"], "films": [["a", "b"]]}).write_parquet(tmp_path / "l.parquet")
    config, said = load(tmp_path, sorted(p for p in tmp_path.iterdir()))
    assert config.people.links == tmp_path / "friends.csv"
    assert config.people.users == tmp_path / "users.csv"
    assert "l.parquet is left out: films hold lists" in said


def test_no_interactions_at_all_is_an_error(tmp_path):
    pl.DataFrame({"item_id": [1, 2], "title": ["a", "b"]}).write_csv(tmp_path / "items.csv")
    with pytest.raises(DataError, match="no file of interactions"):
        guess_config([tmp_path / "items.csv"])


def test_a_file_with_a_header_and_no_rows_is_said_to_have_none(tmp_path):
    events, items = tmp_path / "events.csv", tmp_path / "items.csv"
    events.write_text("user_id,item_id,time\n")
    items.write_text("item_id,title\n")
    with pytest.raises(DataError) as caught:
        guess_config([events])
    assert "a person and an item. events.csv is left out: it has no rows." in str(caught.value)
    with pytest.raises(DataError, match=r"items\.csv: has the columns item_id, title, and no rows"):
        guess_domain("shop", items=items)
    with pytest.raises(DataError, match=r"no rows\. Name a file that holds events\."):
        guess_domain("shop", events=events)
    events.write_text("user_id,item_id,time\nu,a,1\nv,a,2\n")
    assert "items.csv is left out: it has no rows." in guess_config([events, items]).sentences


@pytest.mark.skipif(not SHARED.is_dir(), reason="the research data is not here")
@pytest.mark.parametrize(
    ("folder", "domains", "events"),
    [
        ("amazon-food-kitchen", {"food", "kitchen"}, 173_548),
        ("amazon-beauty-toys-games", {"beauty", "toys", "games"}, 708_428),
        ("microlens-videos", {"videos"}, 359_048),
    ],
)
def test_real_folders_are_guessed_and_built(tmp_path, folder, domains, events):
    config, _ = load(tmp_path, sorted((SHARED / folder).glob("*.parquet")))
    assert set(config.domains) == domains
    dataset, _ = build_dataset(config)
    assert len(dataset.events) == events
    assert all(domain.items["text"].null_count() < domain.n_items for domain in dataset.domains)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the research data is not here")
def test_one_file_with_many_domains_is_split(tmp_path):
    config, said = load(tmp_path, sorted((SHARED / "ciao-social").glob("*.parquet")))
    assert len(config.domains) == 28
    assert config.domains["category_3"].only == {"category": ["3"]}
    assert "holds 28 domains, by its column 'category'" in said
    assert "truster and trustee may be links" in said
    few = config.model_copy(
        update={"domains": {n: config.domains[n] for n in ("category_1", "category_2")}}
    )
    assert build_dataset(few)[0].domains[0].n_items > 1000
