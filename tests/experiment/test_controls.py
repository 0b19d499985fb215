"""Controls keep what they say they keep, and destroy what they say they destroy."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from isthmus.data.dataset import Dataset, Events
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split, make_split
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.errors import ConfigError
from isthmus.experiment.controls import CONTROLS, alter, check_control

BOOKS, FILMS, GEAR = 0, 1, 2


@pytest.fixture(scope="module")
def world() -> Dataset:
    domains = (
        DomainSpec(name="books", n_items=60, events_per_user=9),
        DomainSpec(name="films", n_items=30, events_per_user=4),
        DomainSpec(name="gear", n_items=50, events_per_user=5),
    )
    config = WorldConfig(
        n_users=300, n_themes=6, focus=4, domains=domains, missing_text=0.2, seed=4
    )
    return generate_world(config).dataset


@pytest.fixture(scope="module")
def raw(world: Dataset) -> list[ItemFeatures]:
    """Each item with a text has a vector that no other has."""
    return [
        ItemFeatures(np.arange(d.n_items, dtype=np.float32)[:, None] * present[:, None], present)
        for d in world.domains
        for present in [d.items["text"].is_not_null().to_numpy()]
    ]


@pytest.fixture(scope="module", params=["global", "leave-one-out"])
def split(request: pytest.FixtureRequest, world: Dataset) -> Split:
    return make_split(world, request.param)


def alike(dataset: Dataset, domain: int) -> tuple[float, float]:
    """How often an item and the person's next one are of one category, and how often by chance."""
    names = dataset.domains[domain].items["category"].str.split(" > ").list.head(2).list.join("/")
    theme = names.fill_null("none").rank("dense").to_numpy()
    at = np.flatnonzero(dataset.events.domain == domain)
    of_event = theme[dataset.events.item[at]]
    same_user = np.diff(dataset.events.user[at]) == 0
    shares = np.bincount(of_event) / len(of_event)
    return float((of_event[1:] == of_event[:-1])[same_user].mean()), float((shares**2).sum())


@pytest.mark.parametrize("control", CONTROLS)
def test_the_target_and_the_shape_of_every_history_stay(
    world: Dataset, raw: list[ItemFeatures], split: Split, control: str
) -> None:
    altered, _ = alter(control, world, split, raw, GEAR)
    before, after = world.events, altered.events
    assert np.array_equal(before.offsets, after.offsets)
    gear = before.domain == GEAR
    assert np.array_equal(gear, after.domain == GEAR)
    for column in ("item", "time", "kind", "rating", "weight"):
        values = getattr(before, column), getattr(after, column)
        assert np.array_equal(values[0][gear], values[1][gear], equal_nan=True)
    # Histories stay in order of time.
    same_user = np.diff(after.user) == 0
    assert (np.diff(after.time)[same_user] >= 0).all()
    assert altered.domains[GEAR].items["item_id"].equals(world.domains[GEAR].items["item_id"])


def test_shuffled_texts_are_the_same_texts_on_other_items(
    world: Dataset, raw: list[ItemFeatures], split: Split
) -> None:
    altered, features = alter("shuffled-text", world, split, raw, GEAR)
    assert altered.events is world.events
    for d, (before, after) in enumerate(zip(raw, features, strict=True)):
        assert np.array_equal(before.present, after.present)
        assert sorted(before.vectors[:, 0]) == sorted(after.vectors[:, 0])
        moved = before.vectors[before.present, 0] != after.vectors[before.present, 0]
        assert moved.mean() > 0.8
        # A text goes where its vector goes.
        texts = world.domains[d].items["text"].to_list()
        shown = altered.domains[d].items["text"].to_list()
        assert [t is None for t in texts] == [t is None for t in shown]
        for item in np.flatnonzero(before.present):
            assert shown[item] == texts[int(after.vectors[item, 0])]


def test_shuffled_source_keeps_popularity_and_loses_structure(
    world: Dataset, raw: list[ItemFeatures], split: Split
) -> None:
    altered, features = alter("shuffled-source", world, split, raw, GEAR)
    before, after = world.events, altered.events
    assert all(a is b for a, b in zip(features, raw, strict=True))
    assert np.array_equal(before.domain, after.domain)
    assert np.array_equal(before.time, after.time)
    for domain in (BOOKS, FILMS):
        for learnt in (True, False):
            at = (before.domain == domain) & (split.in_train == learnt)
            assert sorted(before.item[at]) == sorted(after.item[at])
    # People read what is like what they read before, which is chance after the shuffle.
    true, chance = alike(world, BOOKS)
    assert true > chance + 0.08
    assert alike(altered, BOOKS) == pytest.approx((chance, chance), abs=0.03)
    taken = {(u, i) for u, i in zip(before.user, before.item, strict=True)}
    books = after.domain == BOOKS
    still = [(u, i) in taken for u, i in zip(after.user[books], after.item[books], strict=True)]
    assert np.mean(still) < 0.5


def test_random_overlap_hands_whole_histories_to_others(
    world: Dataset, raw: list[ItemFeatures], split: Split
) -> None:
    altered, features = alter("random-overlap", world, split, raw, GEAR)
    before, after = world.events, altered.events
    assert all(a is b for a, b in zip(features, raw, strict=True))
    for domain in (BOOKS, FILMS):
        assert alike(altered, domain) == pytest.approx(alike(world, domain), abs=0.03)
    # Every event is there once, with its rating.
    events = (zip(e.domain, e.item, e.rating, strict=True) for e in (before, after))
    first, second = (sorted(tuple(map(float, row)) for row in rows) for rows in events)
    assert first == second

    def sources(events: Events) -> dict[int, list[tuple[int, int]]]:
        at = np.flatnonzero(events.domain != GEAR)
        found: dict[int, list[tuple[int, int]]] = {}
        for user, domain, item in zip(
            events.user[at], events.domain[at], events.item[at], strict=True
        ):
            found.setdefault(int(user), []).append((int(domain), int(item)))
        return found

    old, new = sources(before), sources(after)
    assert {u: len(h) for u, h in old.items()} == {u: len(h) for u, h in new.items()}
    ends = {tuple(history[-k:]): user for user, history in old.items() for k in range(1, 41)}
    longest = max(old, key=lambda u: len(old[u]))
    of_another = [
        tuple(history) in ends and history != old[user]
        for user, history in new.items()
        if len(old[user]) < len(old[longest])
    ]
    assert np.mean(of_another) > 0.98
    # Everybody who was in both worlds still is, with as much behind each question.
    assert set(old) == set(new)


@pytest.mark.parametrize("control", CONTROLS)
def test_shuffles_depend_on_raw_ids_alone(
    world: Dataset, raw: list[ItemFeatures], control: str
) -> None:
    """Items and people renumbered: the same items end up in the same places."""
    rng = np.random.default_rng(0)
    split = make_split(world, "global")
    orders = [rng.permutation(d.n_items) for d in world.domains]
    item = world.events.item.copy()
    for d, order in enumerate(orders):
        here = world.events.domain == d
        item[here] = np.argsort(order)[item[here]]
    other = replace(
        world,
        domains=tuple(
            replace(d, items=d.items[o.tolist()])
            for d, o in zip(world.domains, orders, strict=True)
        ),
        events=replace(world.events, item=item),
    )
    people = rng.permutation(world.n_users)
    lengths = np.diff(world.events.offsets)[people]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    place = np.repeat(world.events.offsets[people] - offsets[:-1], lengths) + np.arange(len(item))
    columns = ("domain", "item", "time", "kind", "rating", "weight")
    moved_events = {name: getattr(other.events, name)[place] for name in columns}
    other = replace(
        other,
        user_ids=world.user_ids.gather(people),
        events=replace(other.events, offsets=offsets, **moved_events),
    )
    moved = [ItemFeatures(f.vectors[o], f.present[o]) for f, o in zip(raw, orders, strict=True)]
    one, first = alter(control, world, split, raw, GEAR)
    two, second = alter(control, other, make_split(other, "global"), moved, GEAR)
    for d, order in enumerate(orders):
        here = one.events.domain[place] == d
        assert np.array_equal(here, two.events.domain == d)
        assert np.array_equal(one.events.item[place][here], order[two.events.item[here]])
        assert np.array_equal(first[d].vectors[order], second[d].vectors)
        texts = one.domains[d].items["text"].gather(order)
        assert texts.equals(two.domains[d].items["text"])


def test_what_cannot_be_destroyed_is_said(world: Dataset) -> None:
    for control in CONTROLS:
        check_control(control, world, GEAR)
    with pytest.raises(ConfigError, match="shuffled-text"):
        check_control("shuffled-texts", world, GEAR)
    gear_alone = replace(world, events=world.events.only(GEAR))
    with pytest.raises(ConfigError, match="nothing to shuffle"):
        check_control("shuffled-source", gear_alone, GEAR)
    # Half the people act in gear only, the others elsewhere only.
    strangers = world.events.keep((world.events.user % 2 == 0) == (world.events.domain == GEAR))
    with pytest.raises(ConfigError, match="shares no person"):
        check_control("random-overlap", replace(world, events=strangers), GEAR)
    check_control("shuffled-source", replace(world, events=strangers), GEAR)
    mute = tuple(
        replace(d, items=d.items.with_columns(text=pl.lit(None, pl.String))) for d in world.domains
    )
    with pytest.raises(ConfigError, match="no items have texts"):
        check_control("shuffled-text", replace(world, domains=mute), GEAR)
