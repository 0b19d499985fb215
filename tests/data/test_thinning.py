"""A part of a domain: nested, without a trace of the rest, and asked the same questions."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from isthmus.data.dataset import Dataset
from isthmus.data.splits import Split, make_split, user_hash
from isthmus.data.thinning import By, Thinned, thin
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.scoring import Requests

BOOKS, GEAR = 0, 1
SHARES = (0.1, 0.25, 0.6, 1.0)


@pytest.fixture(scope="module")
def world() -> Dataset:
    domains = (
        DomainSpec(name="books", n_items=60, events_per_user=9),
        DomainSpec(name="gear", n_items=50, events_per_user=6),
    )
    return generate_world(WorldConfig(n_users=300, n_themes=6, domains=domains, seed=4)).dataset


def clockless(dataset: Dataset) -> Dataset:
    return replace(
        dataset, events=replace(dataset.events, time=np.full(len(dataset.events), np.nan))
    )


CASES = [("global", "users"), ("global", "time"), ("leave-one-out", "users")]
CASES += [("leave-one-out", "time"), ("clockless", "users"), ("clockless", "time")]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def case(request: pytest.FixtureRequest, world: Dataset) -> tuple[Dataset, Split, By]:
    kind, by = request.param
    dataset = clockless(world) if kind == "clockless" else world
    return dataset, make_split(dataset, "auto" if kind == "clockless" else kind), by


def each(case: tuple[Dataset, Split, By]) -> list[Thinned]:
    dataset, split, by = case
    return [thin(dataset, split, GEAR, share, by) for share in SHARES]


def test_a_smaller_share_is_part_of_a_larger_one(case: tuple[Dataset, Split, By]) -> None:
    parts = each(case)
    for small, large in pairwise(parts):
        assert not (small.asked.in_train & ~large.asked.in_train).any()
        assert not (large.hidden & ~small.hidden).any()
        assert small.n_events < large.n_events
        for half in ("stopping", "tuning"):
            asked, more = (getattr(p.asked, half).position for p in (small, large))
            assert np.isin(asked, more).all()


def test_everything_is_the_whole(case: tuple[Dataset, Split, By]) -> None:
    dataset, split, _ = case
    whole = each(case)[-1]
    assert not whole.hidden.any()
    assert np.array_equal(whole.split.in_train, split.in_train)
    for name in ("stopping", "tuning", "test"):
        assert np.array_equal(getattr(whole.split, name).position, getattr(split, name).position)
    assert np.array_equal(whole.dataset.events.item, dataset.events.item)


def test_the_same_test_questions_are_asked_and_the_source_stays(
    case: tuple[Dataset, Split, By],
) -> None:
    dataset, split, _ = case
    books = dataset.events.domain == BOOKS
    for part in each(case):
        assert np.array_equal(part.asked.test.position, split.test.position)
        assert not part.hidden[books].any()
        assert np.array_equal(part.asked.in_train[books], split.in_train[books])
        assert part.dataset.n_items == dataset.n_items
        assert part.n_events == (part.asked.in_train & ~books).sum()


def test_nothing_that_is_gone_can_be_learnt_or_read(case: tuple[Dataset, Split, By]) -> None:
    dataset, split, _ = case
    for part in each(case)[:-1]:
        # Every event of the smaller snapshot is one of the whole that is not hidden, in its place.
        assert np.array_equal(part.dataset.events.item, dataset.events.item[~part.hidden])
        assert np.array_equal(part.dataset.events.user, dataset.events.user[~part.hidden])
        assert np.array_equal(part.split.in_train, split.in_train[~part.hidden])
        assert not (part.asked.in_train & part.hidden).any()
        for name in ("stopping", "tuning"):
            whole, smaller = (getattr(s, name).position for s in (part.asked, part.split))
            assert np.array_equal(np.flatnonzero(~part.hidden)[smaller], whole)
        asked = split.test.position[dataset.events.domain[split.test.position] == GEAR]
        shown = Requests.at(dataset, asked, max_history=10**6, hidden=part.hidden)
        whole = Requests.at(dataset, asked, max_history=10**6)
        assert shown.only(BOOKS).lengths.tolist() == whole.only(BOOKS).lengths.tolist()
        assert shown.only(GEAR).lengths.sum() < whole.only(GEAR).lengths.sum()


def test_people_who_are_not_kept_are_new_to_the_target(world: Dataset) -> None:
    for kind in ("global", "leave-one-out"):
        split = make_split(world, kind)
        part = thin(world, split, GEAR, 0.25, "users")
        kept = user_hash(world.user_ids.to_list(), "curve-users") < 0.25
        of_kept = kept[world.events.user]
        gear = world.events.domain == GEAR
        assert not part.hidden[of_kept].any()
        assert part.hidden[~of_kept & gear].all()
        # Their first choices in the test period are no history of their later ones, nor anybody's.
        position = split.test.position[gear[split.test.position] & ~of_kept[split.test.position]]
        assert Requests.at(world, position, hidden=part.hidden).only(GEAR).lengths.sum() == 0
        known = part.split.known_events(part.dataset)
        assert np.isin(known.user[known.domain == GEAR], np.flatnonzero(kept)).all()


def test_a_young_domain_keeps_its_latest_events(world: Dataset) -> None:
    split = make_split(world, "global")
    gear = world.events.domain == GEAR
    part = thin(world, split, GEAR, 0.25, "time")
    n = int((split.in_train & gear).sum())
    assert part.n_events == int(np.ceil(0.25 * n))
    kept = world.events.time[part.asked.in_train & gear]
    assert world.events.time[part.hidden].max() <= kept.min()
    assert part.note is None


def test_questions_from_before_the_domain_opened_are_not_asked(world: Dataset) -> None:
    split = make_split(world, "leave-one-out")
    part = thin(world, split, GEAR, 0.1, "time")
    opened = world.events.time[part.asked.in_train & (world.events.domain == GEAR)].min()
    asked = part.asked.validation.position
    about_gear = world.events.domain[asked] == GEAR
    assert about_gear.any()
    assert (world.events.time[asked[about_gear]] >= opened).all()


def test_without_a_clock_the_last_of_each_person_are_the_latest(world: Dataset) -> None:
    dataset = clockless(world)
    split = make_split(dataset, "leave-one-out")
    part = thin(dataset, split, GEAR, 0.25, "time")
    assert part.note is not None
    assert "gear has no clock" in part.note
    n = int((split.in_train & (dataset.events.domain == GEAR)).sum())
    assert part.n_events == int(np.ceil(0.25 * n))
    for user in range(dataset.n_users):
        span = slice(dataset.events.offsets[user], dataset.events.offsets[user + 1])
        own = (dataset.events.domain == GEAR)[span] & split.in_train[span]
        gone = part.hidden[span][own]
        assert not (np.diff(gone.astype(int)) > 0).any(), "an earlier event outlives a later one"


def test_what_is_kept_depends_on_raw_ids_alone(world: Dataset) -> None:
    """Renumbered people: the same events stay."""
    order = np.random.default_rng(0).permutation(world.n_users)
    events = world.events
    lengths = np.diff(events.offsets)[order]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    index = np.arange(offsets[-1]) + np.repeat(events.offsets[order] - offsets[:-1], lengths)
    columns = {name: getattr(events, name)[index] for name in ("domain", "item", "time")}
    columns |= {name: getattr(events, name)[index] for name in ("kind", "rating", "weight")}
    other = replace(
        world,
        user_ids=world.user_ids.gather(order),
        events=replace(events, offsets=offsets, **columns),
    )
    by: By
    for by in ("users", "time"):
        for make in (lambda d: d, clockless):
            one, two = make(world), make(other)
            first = thin(one, make_split(one, "leave-one-out"), GEAR, 0.3, by)
            second = thin(two, make_split(two, "leave-one-out"), GEAR, 0.3, by)
            assert np.array_equal(first.hidden[index], second.hidden)


def test_validation_questions_without_any_history_left_are_not_asked() -> None:
    domains = (
        DomainSpec(name="books", n_items=20, events_per_user=1),
        DomainSpec(name="gear", n_items=20, events_per_user=5),
    )
    dataset = generate_world(WorldConfig(n_users=200, n_themes=4, domains=domains)).dataset
    split = make_split(dataset, "leave-one-out")
    part = thin(dataset, split, GEAR, 0.2, "users")
    asked = part.split.validation.position
    assert (Requests.at(part.dataset, asked).lengths > 0).all()
    assert len(asked) < len(part.asked.test.position)


def test_impressions_of_what_is_gone_are_gone(world: Dataset) -> None:
    split = make_split(world, "global")
    assert world.impressions is not None
    gear = world.impressions.filter(pl.col("domain") == "gear")
    for by in ("users", "time"):
        part = thin(world, split, GEAR, 0.25, by)
        assert part.dataset.impressions is not None
        left = part.dataset.impressions.filter(pl.col("domain") == "gear")
        assert 0 < left.height < gear.height
        others = pl.col("domain") == "books"
        assert part.dataset.impressions.filter(others).equals(world.impressions.filter(others))
        if by == "users":
            assert (user_hash(left["user_id"].to_list(), "curve-users") < 0.25).all()
