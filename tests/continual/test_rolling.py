"""What is held back is the newest of what is new, and judges by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from continual_world import whole

from isthmus.continual.rolling import LEAST_JUDGES, rolling_split, weighing_questions


def learnt_before(share: float) -> np.ndarray:
    time = whole().events.time
    return time < np.quantile(time, share)


def test_the_newest_new_events_are_held_back_and_nothing_that_was_learnt() -> None:
    learnt = learnt_before(0.7)
    split = rolling_split(whole(), learnt, share=0.25, most=10_000, salt="1")
    held = ~split.in_train
    assert not (held & learnt).any()
    time = whole().events.time
    assert time[held].min() > time[~learnt & ~held].max()
    assert abs(held.sum() - 0.25 * (~learnt).sum()) < 10
    asked = np.concatenate([split.tuning.position, split.test.position])
    assert held[asked].all()
    assert split.cut_times[0] == time[held].min()


def test_a_bound_on_what_is_held_back_holds() -> None:
    split = rolling_split(whole(), learnt_before(0.5), share=0.9, most=100, salt="1")
    assert 90 <= (~split.in_train).sum() <= 110


def test_halves_are_of_other_people_and_change_with_the_salt() -> None:
    users = whole().events.user
    halves = [
        rolling_split(whole(), learnt_before(0.6), share=0.5, most=9_999, salt=salt)
        for salt in "12"
    ]
    tuning, test = ({*users[half.position]} for half in (halves[0].tuning, halves[0].test))
    assert tuning
    assert test
    assert not tuning & test
    assert {*users[halves[1].tuning.position]} != tuning


def test_events_at_one_moment_fall_on_one_side() -> None:
    days = replace(whole().events, time=np.floor(whole().events.time / 5e6) * 5e6)
    dataset = replace(whole(), events=days)
    split = rolling_split(dataset, days.time < np.quantile(days.time, 0.5), share=0.2,
                          most=9_999, salt="1")  # fmt: skip
    held = ~split.in_train
    assert held.any()
    assert not np.intersect1d(days.time[held], days.time[~held]).size


def test_answers_to_recommendations_do_not_judge_while_there_are_others() -> None:
    learnt = learnt_before(0.6)
    plain = rolling_split(whole(), learnt, share=0.5, most=9_999, salt="1")
    asked = np.concatenate([plain.tuning.position, plain.test.position])
    guided = asked[::2]
    split = rolling_split(whole(), learnt, share=0.5, most=9_999, salt="1", guided=guided)
    judging = np.concatenate([split.tuning.position, split.test.position])
    assert {*judging} == {*asked} - {*guided}
    # They are held back all the same, for nothing newer than the judges may be learnt.
    assert np.array_equal(split.in_train, plain.in_train)
    few = rolling_split(
        whole(), learnt, share=0.5, most=9_999, salt="1", guided=asked[: 1 - LEAST_JUDGES]
    )
    assert {*few.tuning.position, *few.test.position} == {*asked}


def test_without_times_the_last_new_event_of_some_people_is_held_back() -> None:
    events = replace(whole().events, time=np.full(len(whole().events), np.nan))
    dataset = replace(whole(), events=events)
    learnt = np.arange(len(events)) % 3 > 0
    split = rolling_split(dataset, learnt, share=0.3, most=9_999, salt="1")
    held = np.flatnonzero(~split.in_train)
    assert len(held)
    assert split.name == "leave-one-out"
    assert len(np.unique(events.user[held])) == len(held)
    assert not learnt[held].any()


def test_whatever_is_new_weighs_but_of_people_who_do_not_judge() -> None:
    events, learnt = whole().events, learnt_before(0.7)
    asked = weighing_questions(whole(), learnt, most=9_999, salt="1").position
    split = rolling_split(whole(), learnt, share=0.25, most=9_999, salt="1")
    assert not learnt[asked].any()
    assert (asked > events.offsets[events.user[asked]]).all()
    assert not {*events.user[asked]} & {*events.user[split.test.position]}
    # What is held back of them is a part of it, and what the update learns is the rest.
    assert {*split.tuning.position} < {*asked}
    few = weighing_questions(whole(), learnt, most=50, salt="1").position
    assert len(few) == 50
    assert {*few} < {*asked}
    assert events.time[few].min() >= np.sort(events.time[asked])[-50]


def test_answers_to_recommendations_do_not_weigh_while_there_are_others() -> None:
    learnt = learnt_before(0.7)
    asked = weighing_questions(whole(), learnt, most=9_999, salt="1").position
    guided = asked[::2]
    alone = weighing_questions(whole(), learnt, most=9_999, salt="1", guided=guided).position
    np.testing.assert_array_equal(alone, asked[1::2])
    few = asked[: len(asked) - LEAST_JUDGES + 1]
    again = weighing_questions(whole(), learnt, most=9_999, salt="1", guided=few).position
    np.testing.assert_array_equal(again, asked)
