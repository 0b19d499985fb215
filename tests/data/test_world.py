"""The generated world: reproducible, dials that do what they say, behaviour true to taste."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.config import Config
from isthmus.data.build import build_dataset
from isthmus.data.world import DomainSpec, World, WorldConfig, generate_world
from isthmus.errors import DataError, RequestError

SMALL = {
    "n_users": 400,
    "n_themes": 8,
    "domains": (
        DomainSpec(name="books", n_items=160, events_per_user=12),
        DomainSpec(name="films", n_items=120, events_per_user=5),
        DomainSpec(name="gear", n_items=120, events_per_user=6),
    ),
}


def small(**given: object) -> World:
    return generate_world(WorldConfig(**{**SMALL, **given}))


@pytest.fixture(scope="module")
def world() -> World:
    return small()


def test_same_seed_gives_the_same_world_byte_for_byte(world, tmp_path):
    for folder, other in (("a", world), ("b", small())):
        other.write(tmp_path / folder, kind="csv")
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_another_seed_gives_another_world(world):
    other = small(seed=1)
    assert not world.catalogues["gear"].table.equals(other.catalogues["gear"].table)
    assert not np.allclose(world.taste(range(50), "gear"), other.taste(range(50), "gear"))


def test_a_further_domain_leaves_the_others_as_they_were(world):
    courses = DomainSpec(name="courses", n_items=100)
    larger = small(domains=(courses, *SMALL["domains"]))
    for name in ("books", "films", "gear"):
        assert larger.catalogues[name].table.equals(world.catalogues[name].table)
        np.testing.assert_array_equal(larger.taste(range(400), name), world.taste(range(400), name))
        still = world.active[name] & larger.active[name]
        a, b = (w.shown[name].take(still[w.shown[name].user]) for w in (world, larger))
        np.testing.assert_array_equal(a.item, b.item)
        np.testing.assert_array_equal(a.clicked, b.clicked)


def agreement(world: World) -> float:
    """Mean correlation over users of log taste in books with log taste in gear."""
    books, gear = (np.log(world.taste(range(400), name)) for name in ("books", "gear"))
    return float(np.mean([np.corrcoef(b, g)[0, 1] for b, g in zip(books, gear, strict=True)]))


def test_tastes_agree_across_domains_as_the_transfer_dial_says():
    none, some, much, full = (agreement(small(transfer=t)) for t in (0, 0.3, 0.7, 1))
    # All people like some themes more, so even strangers' tastes are slightly alike.
    assert abs(none) < 0.15
    assert none + 0.15 < some < much - 0.15
    assert full == pytest.approx(1)


def test_transfer_leaves_a_single_domain_as_it_was():
    focus = [(small(transfer=t).taste(range(400), "gear") ** 2).sum(1).mean() for t in (0, 0.5, 1)]
    np.testing.assert_allclose(focus, focus[0], rtol=0.1)


def change(world: World) -> float:
    """Mean share of interest that moved between the first and the last day."""
    first, last = (
        world.taste(range(400), "gear", time) for time in (world.config.start, world.config.end)
    )
    return float(np.abs(first - last).sum(axis=1).mean() / 2)


def test_drift_moves_tastes_and_none_leaves_them_fixed():
    still, slow, fast = (change(small(drift=d)) for d in (0, 0.2, 1))
    assert still == 0
    assert 0.1 < slow < fast - 0.1


@pytest.mark.parametrize("drift", [0.0, 0.6])
def test_tastes_are_shares_and_preferences_are_chances(drift):
    world = small(drift=drift)
    shares = world.taste([0, 7, 399], "films", world.config.start + 1e7)
    assert shares.shape == (3, 24)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    liking = world.preference([0, 7, 399], "films")
    assert liking.shape == (3, 120)
    assert liking.dtype == np.float32
    assert ((liking > 0) & (liking < 1)).all()


def test_preference_of_all_items_is_that_of_each_page(world):
    shown = world.shown["gear"]
    for row in range(0, len(shown.user), 997):
        user, item = shown.user[row], shown.item[row]
        whole = world.preference(user, "gear", shown.time[row])
        assert whole[0, item] == pytest.approx(shown.preference[row], abs=0.01)


def test_an_unknown_domain_is_named(world):
    with pytest.raises(RequestError, match=r"'boks'.*'books'"):
        world.preference([0], "boks")


def test_clicked_items_are_preferred_to_those_shown_and_left(world):
    for name, shown in world.shown.items():
        clicked = np.bincount(shown.user, shown.preference * shown.clicked, minlength=400)
        left = np.bincount(shown.user, shown.preference * ~shown.clicked, minlength=400)
        n = np.bincount(shown.user, shown.clicked, minlength=400)
        m = np.bincount(shown.user, ~shown.clicked, minlength=400)
        both = (n > 2) & (m > 2)
        assert (clicked[both] / n[both] > left[both] / m[both]).mean() > 0.9, name


def test_clicks_come_as_often_as_the_preference_says(world):
    shown = world.shown["books"]
    band = np.digitize(shown.preference, [0.1, 0.25, 0.5])
    for b in range(4):
        told, seen = shown.preference[band == b].mean(), shown.clicked[band == b].mean()
        error = 4 * np.sqrt(told * (1 - told) / (band == b).sum())
        assert seen == pytest.approx(told, abs=error)


@pytest.mark.parametrize("slate", [1, 4])
def test_propensities_are_the_chance_to_be_shown(slate):
    gear = DomainSpec(name="gear", n_items=9, events_per_user=3)
    world = generate_world(
        WorldConfig(
            n_users=1,
            n_themes=3,
            slate=slate,
            click_rate=0.004,
            drift=0,
            new_items=0,
            domains=(gear,),
        )
    )
    shown = world.shown["gear"]
    left = np.setdiff1d(np.arange(9), shown.item[shown.clicked])
    assert len(left) >= 3
    told = np.array([shown.propensity[shown.item == item].mean() for item in left], float)
    seen = np.array([(shown.item == item).sum() for item in left])
    np.testing.assert_allclose(seen / seen.sum(), told / told.sum(), atol=0.03)
    if slate == 1:
        every = [shown.propensity[shown.item == item][0] for item in range(9)]
        assert sum(every) == pytest.approx(1, abs=1e-5)


def test_inverse_propensity_finds_what_naive_counting_misses(world):
    """Clicks weighted by 1 / propensity estimate liking over the whole catalogue."""
    shown = world.shown["books"]
    truth = world.preference(range(400), "books")[world.active["books"]].mean()
    weight = 1 / shown.propensity
    corrected = (weight * shown.clicked).sum() / weight.sum()
    naive = shown.clicked.mean()
    assert abs(corrected - truth) < 0.5 * abs(naive - truth)


def test_popularity_has_a_heavy_tail_and_its_dial_works(world):
    def head(w: World) -> float:
        shown = w.shown["books"]
        counts = np.sort(np.bincount(shown.item[shown.clicked], minlength=160))[::-1]
        return counts[:16].sum() / counts.sum()

    even, usual, strong = (
        head(small(popularity_bias=0)),
        head(world),
        head(small(popularity_bias=1.2)),
    )
    assert even < usual < strong
    assert usual > 0.2


def test_ratings_follow_preference_and_users_differ(world):
    for shown in world.shown.values():
        stars = shown.stars[shown.clicked].astype(float)
        assert set(np.unique(stars)) == {1, 2, 3, 4, 5}
        assert np.corrcoef(stars, shown.preference[shown.clicked])[0, 1] > 0.4
    shown = world.shown["books"]
    user, stars = shown.user[shown.clicked], shown.stars[shown.clicked]
    mean = np.bincount(user, stars, 400) / np.maximum(np.bincount(user, minlength=400), 1)
    many = np.bincount(user, minlength=400) >= 10
    assert np.corrcoef(mean[many], world.people.generosity[many])[0, 1] > 0.3


def test_overlap_is_the_share_active_everywhere():
    for overlap in (0.0, 0.4, 1.0):
        world = small(overlap=overlap, n_users=1000)
        where = np.sum(list(world.active.values()), axis=0)
        assert (where == 3).mean() == pytest.approx(overlap, abs=0.05)
        assert set(np.unique(where)) <= {1, 3}
        for name, shown in world.shown.items():
            assert world.active[name][shown.user].all()


def test_nobody_acts_twice_on_an_item_or_sees_it_again_after(world):
    for shown in world.shown.values():
        pair = shown.user * 1000 + shown.item
        clicked = pair[shown.clicked]
        assert len(np.unique(clicked)) == len(clicked)
        moment = dict(zip(clicked.tolist(), shown.time[shown.clicked].tolist(), strict=True))
        later = [moment.get(p, np.inf) < t for p, t in zip(pair, shown.time, strict=True)]
        assert not any(later)


def test_events_come_in_the_wanted_number_and_within_the_time(world):
    for spec in world.config.domains:
        shown = world.shown[spec.name]
        per_user = shown.clicked.sum() / world.active[spec.name].sum()
        assert per_user == pytest.approx(spec.events_per_user, rel=0.15)
        assert shown.time.min() >= world.config.start
        assert shown.time.max() <= world.config.end + 3600
        released = world.catalogues[spec.name].released
        assert (released[shown.item] <= shown.time).all()
    hours = np.bincount((world.shown["books"].time // 3600 % 24).astype(int), minlength=24)
    assert hours[19:22].sum() > 4 * hours[2:5].sum()
    books, gear = (np.median(world.shown[name].time) for name in ("books", "gear"))
    assert books < gear


def test_the_price_sensitive_domain_heeds_budget_and_risk():
    world = small(domains=(DomainSpec(name="gear", n_items=120, sensitivity=2.0),))
    catalogue, people = world.catalogues["gear"], world.people
    liking = np.log(world.preference(range(400), "gear"))
    dear = catalogue.cost > 1
    poor, rich = people.budget < 0, people.budget > 1.5
    gap = liking[:, dear].mean(axis=1) - liking[:, ~dear].mean(axis=1)
    assert gap[rich].mean() > gap[poor].mean() + 0.5


def test_friends_and_circles_share_tastes(world):
    dataset = world.dataset
    place = {raw: i for i, raw in enumerate(world.people.ids)}
    taste = np.log(world.taste(range(400), "books"))
    a, b = (
        taste[[place[raw] for raw in dataset.links[column]]] for column in ("user_id", "other_id")
    )
    stranger = np.random.default_rng(0).permutation(len(b))

    def alike(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean([np.corrcoef(p, q)[0, 1] for p, q in zip(x, y, strict=True)]))

    assert alike(a, b) > alike(a, b[stranger]) + 0.1
    assert (dataset.links["user_id"] != dataset.links["other_id"]).all()
    names = [theme.name.lower().replace(" ", "-") for theme in world.themes]
    circle = dataset.groups["group_id"].str.replace(r"-circle-\d$", "")
    interest = world.taste(range(400), "books").reshape(400, 8, 3).sum(axis=2)
    joined = interest[
        [place[raw] for raw in dataset.groups["user_id"]], [names.index(c) for c in circle]
    ]
    assert joined.mean() > 2 / 8


def test_the_dataset_has_the_rows_of_the_world(world):
    dataset = world.dataset
    assert dataset.names == ("books", "films", "gear")
    assert dataset.user_ids.to_list() == world.people.ids.tolist()
    for domain in dataset.domains:
        ids = world.catalogues[domain.name].table["item_id"]
        assert domain.items["item_id"].to_list() == ids.to_list()
    assert len(dataset.events) == sum(shown.clicked.sum() for shown in world.shown.values())
    assert dataset.impressions.height == sum(len(shown.user) for shown in world.shown.values())
    assert set(dataset.triples["relation"]) == {
        "belongs_to",
        "is_about",
        "made_by",
        "part_of",
        "related_to",
    }
    heads = dataset.triples.filter(pl.col("relation") == "belongs_to")["head"]
    assert heads.to_list() == [
        f"{d.name}:{raw}" for d in dataset.domains for raw in d.items["item_id"]
    ]


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_written_world_reads_back_as_the_same_dataset(world, tmp_path, kind):
    path = world.write(tmp_path / "shop", kind=kind)
    config = Config.load(path)
    assert config.target == "gear"
    dataset, _ = build_dataset(config)
    for name in ("offsets", "domain", "item", "time", "rating"):
        np.testing.assert_array_equal(
            getattr(dataset.events, name), getattr(world.dataset.events, name)
        )
    for mine, theirs in zip(world.dataset.domains, dataset.domains, strict=True):
        assert mine.items["text"].to_list() == theirs.items["text"].to_list()
    for table in ("user_attributes", "links", "groups", "triples", "impressions"):
        assert getattr(dataset, table).height == getattr(world.dataset, table).height


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(world, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DataError, match="taken"):
        world.write(tmp_path / "taken")


def test_a_catalogue_too_small_for_its_themes_is_refused():
    with pytest.raises(ValueError, match="raise n_items or lower n_themes"):
        WorldConfig(domains=(DomainSpec(name="gear", n_items=50),))


@settings(max_examples=8, deadline=None)
@given(
    n_users=st.integers(1, 40),
    n_themes=st.integers(2, 5),
    transfer=st.floats(0, 1),
    drift=st.floats(0, 1),
    overlap=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_any_world_holds_together(n_users, n_themes, transfer, drift, overlap, seed):
    world = generate_world(
        WorldConfig(
            n_users=n_users,
            n_themes=n_themes,
            transfer=transfer,
            drift=drift,
            overlap=overlap,
            seed=seed,
            domains=(
                DomainSpec(name="books", n_items=3 * n_themes, events_per_user=4),
                DomainSpec(name="courses", n_items=20, events_per_user=2),
            ),
        )
    )
    for name, shown in world.shown.items():
        assert ((shown.propensity > 0) & (shown.propensity <= 1)).all()
        assert (shown.item < len(world.catalogues[name])).all()
        assert (shown.user < n_users).all()
        assert (np.diff(shown.user) >= 0).all()
        assert ((shown.stars > 0) == shown.clicked).all()
