from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from isthmus.config import CleaningConfig, Config
from isthmus.data.build import DomainFrames, PeopleFrames, build_dataset, dataset_from_frames
from isthmus.data.check import check_dataset
from isthmus.data.dataset import Dataset
from isthmus.data.ordering import text_hash
from isthmus.errors import DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def events(rows: list[tuple], *columns: str) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "item_id", *columns], orient="row")


def history(dataset: Dataset, user: str) -> list[str]:
    """A person's history as `domain:item_id`, oldest first."""
    row = dataset.user_index[user]
    part = slice(*dataset.events.offsets[row : row + 2])
    return [
        f"{dataset.names[d]}:{dataset.domains[d].items['item_id'][int(i)]}"
        for d, i in zip(dataset.events.domain[part], dataset.events.item[part], strict=True)
    ]


def histories(dataset: Dataset) -> dict[str, list[str]]:
    return {user: history(dataset, user) for user in dataset.user_ids}


BOOKS = events([("ann", "b2", 30), ("bob", "b1", 10), ("ann", "b1", 10)], "time")
FILMS = events([("ann", "f1", 20), ("cid", "f2", 5)], "time")


def test_histories_of_all_domains_are_merged_by_time():
    dataset, report = dataset_from_frames(
        {"books": DomainFrames(BOOKS), "films": DomainFrames(FILMS)}
    )
    assert histories(dataset) == {
        "ann": ["books:b1", "films:f1", "books:b2"],
        "bob": ["books:b1"],
        "cid": ["films:f2"],
    }
    assert dataset.events.time.tolist() == [10, 20, 30, 10, 5]
    assert report.rows_kept == {"books": 3, "films": 2}
    assert dataset.notes == ()


def test_people_are_linked_by_id_by_mapping_or_not_at_all():
    frames = {"books": DomainFrames(BOOKS), "films": DomainFrames(FILMS)}
    apart, _ = dataset_from_frames(frames, people=PeopleFrames(linked=False))
    assert apart.user_ids.to_list() == ["books:ann", "books:bob", "films:ann", "films:cid"]
    assert "no person in common" in apart.notes[0]
    mapping = pl.DataFrame({"domain": ["films"], "user_id": ["cid"], "person_id": ["bob"]})
    mapped, _ = dataset_from_frames(frames, people=PeopleFrames(mapping=mapping))
    assert history(mapped, "bob") == ["films:f2", "books:b1"]
    twice = pl.concat([mapping, mapping.with_columns(person_id=pl.lit("ann"))])
    with pytest.raises(DataError, match="several people"):
        dataset_from_frames(frames, people=PeopleFrames(mapping=twice))


def test_tables_about_people_are_read_in_the_ids_of_the_events():
    frames = {"books": DomainFrames(BOOKS), "films": DomainFrames(FILMS)}
    shown = pl.DataFrame(
        {
            "user_id": ["ann", "ann", "bob", "films:cid", "eve"],
            "domain": ["books", "films", "books", "films", "films"],
            "item_id": ["b1", "f1", "b1", "f2", "f2"],
        }
    )
    tables = {
        "users": pl.DataFrame({"user_id": ["bob", "films:ann", "ann"], "person_id": [1, 2, 3]}),
        "links": pl.DataFrame({"user_id": ["bob", "ann"], "other_id": ["cid", "bob"]}),
        "impressions": shown,
    }
    people = PeopleFrames(linked=False, **tables)
    apart, report = dataset_from_frames(frames, people=people)
    assert apart.impressions["user_id"].to_list() == [
        *("books:ann", "films:ann", "books:bob", "films:cid", "films:eve")
    ]
    # 'ann' may be the one of the books or the one of the films.
    assert apart.user_attributes.rows() == [("books:bob", 1), ("films:ann", 2), ("ann", 3)]
    assert apart.links.rows() == [("books:bob", "films:cid"), ("ann", "books:bob")]
    said = "that nobody with events has; ids here are domain:user_id"
    assert [line for line in report.lines() if said in line] == [
        f"users: 1 row, with a user_id {said}",
        f"impressions: 1 row, with a user_id {said}",
    ]
    mapping = pl.DataFrame(
        {"domain": ["books", "films"], "user_id": ["ann", "cid"], "person_id": ["P1", "P2"]}
    )
    mapped, _ = dataset_from_frames(frames, people=PeopleFrames(mapping=mapping, **tables))
    assert mapped.impressions["user_id"].to_list() == ["P1", "ann", "bob", "films:cid", "eve"]
    assert mapped.links.rows() == [("bob", "P2"), ("ann", "bob")]


def test_clicks_are_read_however_they_are_written():
    def clicked(*values: object) -> list[bool | None]:
        shown = pl.DataFrame({"user_id": "ann", "domain": "books", "item_id": "b1"})
        shown = pl.concat([shown] * len(values)).with_columns(pl.Series("clicked", values))
        people = PeopleFrames(impressions=shown)
        dataset, _ = dataset_from_frames({"books": DomainFrames(BOOKS)}, people=people)
        return dataset.impressions["clicked"].to_list()

    yes = ("1", "1.0", " 1 ", "2", "0.5", "true", "True", "T", "yes", "Y")
    no = ("0", "0.0", "-1", "false", "F", "no", " n ")
    assert clicked(*yes, *no) == [True] * len(yes) + [False] * len(no)
    assert clicked("1", None, "", " ") == [True, None, None, None]
    assert clicked(2.0, 0.0, float("nan"), None) == [True, False, None, None]
    assert clicked(1, 0) == clicked(True, False) == [True, False]
    with pytest.raises(DataError, match=r"1 of 3 .* neither yes nor no, first in row 2, 'ja'"):
        clicked("yes", "ja", "no")


def test_optional_columns_and_tables_arrive():
    rows = events(
        [("ann", "b1", 1, 4.0, "buy", 2.0), ("ann", "b2", 2, None, "view", None)],
        *("time", "rating", "kind", "weight"),
    )
    items = pl.DataFrame({"item_id": ["b2", "b1"], "title": ["Two", None], "price": [2, 1]})
    people = PeopleFrames(
        users=pl.DataFrame({"user_id": ["zoe", "ann"], "risk": [1, 3]}),
        links=pl.DataFrame({"user_id": [1], "other_id": [2]}),
        groups=pl.DataFrame({"user_id": ["ann"], "group_id": [7]}),
        triples=pl.DataFrame({"head": ["books:b1"], "relation": ["by"], "tail": ["Poe"]}),
        impressions=pl.DataFrame(
            {
                "user_id": ["ann"],
                "domain": ["books"],
                "item_id": ["b1"],
                "time": ["2014-05-13"],
                "propensity": pl.Series(["0.5 "], dtype=pl.Categorical),
                "clicked": ["true"],
            }
        ),
    )
    vectors = {"cover": np.array([[2, 2], [1, 1]], np.float32)}
    books = DomainFrames(rows, items, vectors=vectors, corpus=["<p>News</p>", " "])
    dataset, _ = dataset_from_frames({"books": books}, people=people)
    domain = dataset.domains[0]
    assert domain.items.rows() == [("b1", None, None, None, 1), ("b2", "Two", "Two", None, 2)]
    assert domain.vectors["cover"].tolist() == [[1, 1], [2, 2]]
    assert domain.corpus == ("News",)
    assert dataset.kinds == ("buy", "view")
    assert dataset.events.kind.tolist() == [0, 1]
    assert dataset.events.weight.tolist() == [2, 1]
    assert dataset.events.rating.tolist() == pytest.approx([4, np.nan], nan_ok=True)
    assert dataset.user_ids.to_list() == ["ann", "zoe"]
    assert dataset.links is not None
    assert dataset.links.rows() == [("1", "2")]
    assert dataset.groups is not None
    assert dataset.groups["group_id"].to_list() == ["7"]
    assert dataset.impressions is not None
    assert dataset.impressions.row(0)[3:] == (1399939200.0, 0.5, True)
    assert dataset.triples is not None
    assert dataset.user_attributes is not None
    assert dataset.user_attributes.height == 2


def test_a_catalogue_without_events_has_no_ids_to_compare():
    films = pl.DataFrame({"item_id": [1, 2], "title": ["One", "Two"]})
    _, report = dataset_from_frames(
        {"books": DomainFrames(BOOKS), "films": DomainFrames(items=films)}
    )
    assert report.lines() == []


def test_unknown_items_are_kept_by_id_or_dropped():
    items = pl.DataFrame({"item_id": ["b1", "b9"], "title": ["One", "Nine"]})
    vectors = {"v": np.ones((2, 3), np.float32)}
    books = DomainFrames(BOOKS, items, vectors=vectors)
    kept, report = dataset_from_frames({"books": books})
    assert kept.domains[0].items["item_id"].to_list() == ["b1", "b2", "b9"]
    assert kept.domains[0].items["text"].to_list() == ["One", None, "Nine"]
    assert np.isnan(kept.domains[0].vectors["v"]).all(1).tolist() == [False, True, False]
    assert "1 row, on 1 items that items does not have; kept by id only" in report.lines()[0]
    dropped, report = dataset_from_frames(
        {"books": books}, cleaning=CleaningConfig(unknown_items="drop")
    )
    assert len(dropped.events) == 2
    assert report.total("dropped") == 1


def test_repeated_events_are_counted_and_may_be_dropped():
    rows = events([("a", "x", 1, 5), ("a", "x", 1, 3), ("a", "x", 2, 4)], "time", "rating")
    for how, ratings in [("keep", [3, 5, 4]), ("first", [5, 4]), ("last", [3, 4])]:
        dataset, report = dataset_from_frames(
            {"d": DomainFrames(rows)}, cleaning=CleaningConfig(duplicates=how)
        )
        found = dataset.events.rating.tolist()
        assert sorted(found) == sorted(ratings)
        assert report.duplicates == {"d": 1}


def test_k_core_counts_people_over_all_domains_and_takes_items_out():
    a = events([("u", "x", 1), ("u", "y", 2), ("v", "x", 3), ("w", "z", 1)], "time")
    b = events([("v", "p", 4), ("u", "p", 5)], "time")
    config = CleaningConfig(min_user_events=2, min_item_events=2)
    dataset, report = dataset_from_frames(
        {"a": DomainFrames(a), "b": DomainFrames(b)}, cleaning=config
    )
    assert histories(dataset) == {"u": ["a:x", "b:p"], "v": ["a:x", "b:p"]}
    assert [d.items["item_id"].to_list() for d in dataset.domains] == [["x"], ["p"]]
    assert report.rows_kept == {"a": 2, "b": 2}
    assert report.total("dropped", "a") == 4


# Ties, order and row places


def tied(n_users: int = 40, n_items: int = 12) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "user_id": rng.integers(0, n_users, 500),
            "item_id": rng.integers(0, n_items, 500),
            "time": rng.integers(0, 3, 500) * 86400,
            "rating": rng.integers(1, 6, 500),
        }
    )


def test_nothing_depends_on_the_place_of_a_row():
    frame = tied()
    items = pl.DataFrame({"item_id": np.arange(12), "title": [f"t{i}" for i in range(12)]})
    one, _ = dataset_from_frames({"a": DomainFrames(frame, items), "b": DomainFrames(frame)})
    shuffled = frame.sample(fraction=1, shuffle=True, seed=1)
    other, _ = dataset_from_frames(
        {"a": DomainFrames(shuffled, items.reverse()), "b": DomainFrames(frame.reverse())}
    )
    assert histories(one) == histories(other)
    assert one.domains[0].items.equals(other.domains[0].items)
    np.testing.assert_array_equal(one.events.rating, other.events.rating)


def test_renumbering_items_changes_numbers_alone():
    frames = {"a": DomainFrames(tied()), "b": DomainFrames(tied())}
    plain, _ = dataset_from_frames(frames)
    shuffled, _ = dataset_from_frames(frames, shuffle_items=3)
    again, _ = dataset_from_frames(frames, shuffle_items=3)
    assert histories(plain) == histories(shuffled)
    assert not plain.domains[0].items.equals(shuffled.domains[0].items)
    assert shuffled.domains[0].items.equals(again.domains[0].items)
    orders = [d.items["item_id"].to_list() for d in shuffled.domains]
    assert orders[0] != orders[1]


def test_ties_are_broken_at_random_by_their_own_seed():
    frame = tied()
    one, _ = dataset_from_frames({"a": DomainFrames(frame)})
    other, _ = dataset_from_frames({"a": DomainFrames(frame)}, cleaning=CleaningConfig(tie_seed=1))
    assert histories(one) != histories(other)
    events_ = one.events
    same_moment = (np.diff(events_.user) == 0) & (np.diff(events_.time) == 0)
    assert (np.diff(events_.time)[np.diff(events_.user) == 0] >= 0).all()
    rising = (np.diff(events_.item) > 0)[same_moment].mean()
    falling = (np.diff(events_.item) < 0)[same_moment].mean()
    assert abs(rising - falling) < 0.12


def test_the_hash_of_ids_never_changes():
    # Published histories depend on it: a change here changes every figure with ties in time.
    hashes = text_hash(pl.Series(["a", "ann", "猫", "x" * 1000]), "0")
    assert hashes.tolist() == [
        11517847249158231542,
        1797783223875239616,
        2988021214142832113,
        7509491511728810842,
    ]
    many = pl.Series(range(250_000)).cast(pl.String)
    assert len(np.unique(text_hash(many, "salt"))) == 250_000
    bits = np.unpackbits(text_hash(many, "salt").view(np.uint8)).mean()
    assert abs(bits - 0.5) < 0.01


def order_only(rows: list[tuple[str, int]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": ["u"] * len(rows),
            "item_id": [r[0] for r in rows],
            "order": [r[1] for r in rows],
        }
    )


def test_orders_without_a_clock_are_interleaved_by_relative_position():
    a = order_only([("a0", 0), ("a1", 1), ("a2", 2), ("a3", 3)])
    b = order_only([("b1", 70), ("b0", 10)])
    dataset, _ = dataset_from_frames({"a": DomainFrames(a), "b": DomainFrames(b)})
    merged = [name.split(":")[1] for name in history(dataset, "u")]
    assert merged[0] == "a0"
    assert merged[-1] == "a3"
    assert merged.index("b0") in (1, 2)
    assert merged.index("b1") in (3, 4)
    assert "relative position" in dataset.notes[0]
    assert np.isnan(dataset.events.time).all()


def test_a_clocked_domain_beside_one_with_an_order_keeps_its_clock():
    a = order_only([("a0", 0), ("a1", 1)])
    b = pl.DataFrame({"user_id": ["u"] * 2, "item_id": ["b1", "b0"], "time": [9.0, 3.0]})
    c = pl.DataFrame({"user_id": ["u"] * 2, "item_id": ["c0", "c1"], "time": [1.0, 4.0]})
    dataset, _ = dataset_from_frames(
        {"a": DomainFrames(a), "b": DomainFrames(b), "c": DomainFrames(c)}
    )
    merged = [name.split(":")[1] for name in history(dataset, "u")]
    assert [m for m in merged if m[0] != "a"] == ["c0", "b0", "c1", "b1"]
    assert merged.index("a0") == pytest.approx(1, abs=1)
    assert dataset.notes[0].startswith("a has no times")


def test_a_shared_order_is_followed_directly_and_else_interleaved():
    a, b = order_only([("a0", 0), ("a3", 3)]), order_only([("b2", 2), ("b1", 1)])
    own = order_only([("x0", 0), ("x1", 1)]).with_columns(user_id=pl.lit("v"))
    config = CleaningConfig(order_by="order")
    dataset, _ = dataset_from_frames(
        {"a": DomainFrames(pl.concat([a, own])), "b": DomainFrames(pl.concat([b, own]))},
        cleaning=config,
    )
    assert history(dataset, "u") == ["a:a0", "b:b1", "b:b2", "a:a3"]
    assert {name[2:] for name in history(dataset, "v")[:2]} == {"x0"}
    assert "50% of people" in dataset.notes[0]


def test_without_time_or_order_the_rows_are_followed():
    rows = events([("u", "z"), ("u", "a"), ("u", "m")])
    dataset, _ = dataset_from_frames({"d": DomainFrames(rows)})
    assert history(dataset, "u") == ["d:z", "d:a", "d:m"]
    assert "order of the rows" in dataset.notes[0]
    for way in ("time", "order"):
        with pytest.raises(DataError, match=way):
            dataset_from_frames({"d": DomainFrames(rows)}, cleaning=CleaningConfig(order_by=way))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]),
            st.sampled_from(["u", "v", "w"]),
            st.integers(0, 4),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=40,
    ),
    st.booleans(),
)
def test_every_event_arrives_once_and_in_order(rows, c_is_clocked):
    frames = {}
    for name in "abc":
        mine = [(u, f"{i}", t) for d, u, i, t in rows if d == name]
        column = "time" if c_is_clocked or name != "c" else "order"
        schema = {"user_id": pl.String, "item_id": pl.String, column: pl.Int64}
        frames[name] = DomainFrames(pl.DataFrame(mine, schema=schema, orient="row"))
    dataset, _ = dataset_from_frames(frames)
    found = sorted(
        (name.split(":")[0], user, name.split(":")[1])
        for user, names in histories(dataset).items()
        for name in names
    )
    assert found == sorted((d, u, f"{i}") for d, u, i, _ in rows)
    clocked = dataset.events.only(0, 1)
    assert (np.diff(clocked.time)[np.diff(clocked.user) == 0] >= 0).all()


# Configurations


def write_config(folder: Path, text: str) -> Config:
    path = folder / "isthmus.toml"
    path.write_text(text, "utf-8")
    return Config.load(path)


def test_a_configuration_maps_files_and_columns(tmp_path):
    (tmp_path / "e.csv").write_text(
        "who,what,when,how,shop\n007,a1,1400000000,buy,north\n8,a1,1400000001,view,north\n"
        "007,a2,1400000002,buy,south\n"
    )
    (tmp_path / "i.csv").write_text(
        'id,name,brand,price,code,photo\na1,Tea,Acme,1.5,007,"[1, 2]"\na2,Rice,,2,008,\n'
    )
    (tmp_path / "news.txt").write_text("First line.\n\nSecond line.\n")
    config = write_config(
        tmp_path,
        """
        [domains.shop]
        interactions = "e.csv"
        items = "i.csv"
        corpus = ["news.txt"]
        keep_kinds = ["buy"]
        only = {shop = ["north", "south"]}
        events = {user = "who", item = "what", time = "when", kind = "how"}
        [domains.shop.catalogue]
        item = "id"
        title = "name"
        text = ["name", "brand"]
        vectors = {photo = "photo"}
        """,
    )
    dataset, report = build_dataset(config)
    domain = dataset.domains[0]
    assert dataset.user_ids.to_list() == ["007"]
    assert domain.items.columns == [
        "item_id",
        "text",
        "title",
        "category",
        "brand",
        "price",
        "code",
    ]
    assert domain.items["text"].to_list() == ["Tea | Acme", "Rice"]
    assert domain.items["price"].to_list() == [1.5, 2.0]
    assert domain.items["code"].to_list() == ["007", "008"]
    np.testing.assert_array_equal(domain.vectors["photo"], [[1, 2], [np.nan, np.nan]])
    assert domain.corpus == ("First line.", "Second line.")
    assert report.rows_read == {"shop": 3}
    assert report.rows_kept == {"shop": 2}


def test_text_columns_are_those_of_the_file_whatever_is_called_title_here(tmp_path):
    (tmp_path / "events.csv").write_text("user_id,item_id\nu,n0\n")
    (tmp_path / "items.csv").write_text(
        "item_id,name,genre,category,title\nn0,Name 0,Genre 0,LongCategory 0,Mr 0\n"
    )
    config = write_config(
        tmp_path,
        """
        [domains.shop]
        interactions = "events.csv"
        items = "items.csv"
        [domains.shop.catalogue]
        title = "name"
        category = "genre"
        text = ["name", "category", "title"]
        """,
    )
    items = build_dataset(config)[0].domains[0].items
    assert items.rows() == [("n0", "Name 0 | LongCategory 0 | Mr 0", "Name 0", "Genre 0")]


def test_one_file_may_hold_several_domains(tmp_path):
    pl.DataFrame({"user_id": [1, 2, 1], "item_id": [5, 5, 6], "category": [1, 2, 2]}).write_parquet(
        tmp_path / "all.parquet"
    )
    config = write_config(
        tmp_path,
        """
        [domains.one]
        interactions = "all.parquet"
        only = {category = ["1"]}
        [domains.two]
        interactions = "all.parquet"
        only = {category = ["2"]}
        """,
    )
    dataset, _ = build_dataset(config)
    assert [d.items["item_id"].to_list() for d in dataset.domains] == [["5"], ["5", "6"]]


@pytest.mark.parametrize(
    ("category", "kept", "said", "shared"),
    [
        (["films", "films", "toys", "toys"], 2, "2 of 4 rows were taken, by 'category' (only)", ()),
        (
            ["Films > Old", "Films > New", "Toys", "Toys"],
            4,
            "no row has a value of only in 'category': all 4 rows were taken",
            ("films",),
        ),
        (None, 4, "no column 'category' (only): all 4 rows were taken", ("films",)),
    ],
)
def test_rows_of_a_catalogue_that_several_domains_share(tmp_path, category, kept, said, shared):
    events = {"user_id": ["u", "v"], "item_id": ["a", "a"], "category": ["films", "films"]}
    pl.DataFrame(events).write_csv(tmp_path / "events.csv")
    items = pl.DataFrame({"item_id": list("abcd"), "title": ["Tea", "Rice", "Car", "Doll"]})
    if category:
        items = items.with_columns(pl.Series("category", category))
    items.write_csv(tmp_path / "items.csv")
    config = write_config(
        tmp_path,
        """
        [domains.films]
        interactions = "events.csv"
        items = "items.csv"
        only = {category = ["films"]}
        """,
    )
    dataset, report = build_dataset(config)
    assert dataset.domains[0].n_items == kept
    assert f"films: items.csv: {said}" in report.lines()
    assert tuple(report.shared) == shared
    advice = " ".join(check_dataset(dataset, report).advice)
    assert ("items.csv is the catalogue of all that 'only' tells apart" in advice) == bool(shared)
    assert ("Only their texts can bring them up" in advice) == (not shared)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the research data is not here")
def test_food_and_kitchen_arrive_whole():
    folder = SHARED / "amazon-food-kitchen"
    domain = {"events": {"time": "timestamp", "order": "position"}, "catalogue": {"title": "title"}}
    raw = {
        "domains": {
            name: domain
            | {
                "interactions": str(folder / f"{name}.interactions.parquet"),
                "items": str(folder / f"{name}.items.parquet"),
            }
            for name in ("food", "kitchen")
        }
    }
    dataset, report = build_dataset(Config.parse(raw))
    assert dataset.n_users == 7_144
    assert [d.n_items for d in dataset.domains] == [11_837, 16_258]
    assert report.rows_kept == {"food": 83_663, "kitchen": 89_885}
    within = np.diff(dataset.events.user) == 0
    assert (np.diff(dataset.events.time)[within] >= 0).all()
    tied = within & (np.diff(dataset.events.time) == 0) & (np.diff(dataset.events.domain) == 0)
    assert abs((np.diff(dataset.events.item)[tied] > 0).mean() - 0.5) < 0.02
    published, _ = build_dataset(Config.parse(raw, overrides=["cleaning.order_by=order"]))
    tied = within & (np.diff(published.events.time) == 0)
    assert (np.diff(published.flat(published.events.domain, published.events.item))[tied] > 0).all()
