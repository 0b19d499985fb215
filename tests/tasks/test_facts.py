"""What is known of ratings before a question, against a plain loop over the events."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tasks_world import once

from isthmus.tasks.examples import Role, rated_events
from isthmus.tasks.facts import FOLDS, PRIOR, RatingFacts


def by_hand(facts: RatingFacts, user: int, end: int, domain: int, item: int, time: float) -> list:
    """Sum and count of the item, of the person, and of the person in the domain."""
    dataset = facts.dataset
    events = dataset.events
    of_item = [
        float(events.rating[e]) - facts.mean[domain]
        for e in range(len(events))
        if (events.domain[e], events.item[e]) == (domain, item) and events.time[e] < time
    ]
    own = [e for e in range(events.offsets[user], end) if not np.isnan(events.rating[e])]
    here = [e for e in own if events.domain[e] == domain]
    sums = [of_item, [facts.deviation[e] for e in own], [facts.deviation[e] for e in here]]
    return [value for each in sums for value in (sum(each), len(each))]


def test_facts_are_those_strictly_before_the_question() -> None:
    usual = once()
    facts = RatingFacts.of(usual.dataset, usual.split)
    examples = rated_events(usual.dataset, usual.split)
    rows = np.random.default_rng(0).choice(len(examples), 25, replace=False)
    found = facts.at(examples.take(rows), in_training=False)
    for row, one in zip(rows, found, strict=True):
        expected = by_hand(
            facts,
            int(examples.user[row]),
            int(examples.end[row]),
            int(examples.domain[row]),
            int(examples.item[row]),
            float(examples.time[row]),
        )
        assert one == pytest.approx(expected, abs=1e-4)


def test_a_rating_says_nothing_of_itself() -> None:
    """Changing the answers of all questions of one moment changes no fact of theirs."""
    usual = once()
    examples = rated_events(usual.dataset, usual.split).of(Role.TEST)
    last = examples.take(examples.time == examples.time.max())
    before = RatingFacts.of(usual.dataset, usual.split).at(last, in_training=False)
    rating = usual.dataset.events.rating.copy()
    rating[last.end] = 1.0
    changed = replace(usual.dataset, events=replace(usual.dataset.events, rating=rating))
    after = RatingFacts.of(changed, usual.split).at(last, in_training=False)
    assert np.array_equal(before, after)


def test_without_clocks_a_training_rating_is_judged_by_other_peoples() -> None:
    usual = once()
    events = usual.dataset.events
    no_clock = replace(
        usual.dataset, events=replace(events, time=np.full_like(events.time, np.nan))
    )
    split = replace(usual.split, name="leave-one-out")
    facts = RatingFacts.of(no_clock, split)
    examples = rated_events(no_clock, split).of(Role.TRAIN)
    one = examples.take(np.array([7]))
    fold = facts.by_item.folds
    mates = (events.item == one.item[0]) & (events.domain == one.domain[0]) & split.in_train
    others = mates & (fold[events.user] != fold[one.user[0]])
    found = facts.at(one, in_training=True)[0]
    assert found[1] == others.sum() < mates.sum()
    assert found[0] == pytest.approx(
        (events.rating[others] - facts.mean[one.domain[0]]).sum(), 1e-4
    )
    assert facts.at(one, in_training=False)[0, 1] == mates.sum()
    assert set(np.unique(fold)) == set(range(FOLDS))


def test_one_rating_without_a_time_tells_no_answer_and_stops_no_other_clock() -> None:
    usual = once()
    events, split = usual.dataset.events, usual.split
    time, rating = events.time.copy(), events.rating.copy()
    gear = np.flatnonzero((events.domain == 1) & ~np.isnan(rating))
    time[gear[0]] = np.nan
    mixed = replace(usual.dataset, events=replace(events, time=time))
    examples = rated_events(mixed, split).of(Role.TEST)
    rating[gear[~split.in_train[gear]]] = 1.0
    changed = replace(mixed, events=replace(mixed.events, rating=rating))
    clocked, before, after = (
        RatingFacts.of(dataset, split).at(examples, in_training=False)[:, :2]
        for dataset in (usual.dataset, mixed, changed)
    )
    here = examples.domain == 1
    assert np.array_equal(before[here], after[here])
    learnt = gear[split.in_train[gear]]
    assert np.array_equal(
        before[here, 1], np.bincount(events.item[learnt], minlength=100)[examples.item[here]]
    )
    assert np.array_equal(before[~here], clocked[~here])


def test_somebody_new_and_an_item_nobody_rated_have_no_facts() -> None:
    usual = once()
    facts = RatingFacts.of(usual.dataset, usual.split)
    examples = rated_events(usual.dataset, usual.split)
    one = replace(
        examples.take(np.array([0])),
        user=np.array([-1]),
        end=np.array([0]),
        time=np.array([-np.inf]),
    )
    assert not facts.at(one, in_training=False).any()


def test_a_persons_deviation_leaves_out_what_the_item_explains() -> None:
    usual = once()
    facts = RatingFacts.of(usual.dataset, usual.split)
    events = usual.dataset.events
    first = np.flatnonzero(~np.isnan(events.rating))[0]
    d, item = events.domain[first], events.item[first]
    earlier = (events.domain == d) & (events.item == item) & (events.time < events.time[first])
    shrunk = (events.rating[earlier] - facts.mean[d]).sum() / (earlier.sum() + PRIOR)
    assert facts.deviation[first] == pytest.approx(
        events.rating[first] - facts.mean[d] - shrunk, abs=1e-4
    )
