"""Where pairs fade is found on validation, each domain by its own questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from baseline_world import Row, dataset_of

from isthmus.baselines.cooccurrence import CoOccurrence, CoOccurrenceConfig
from isthmus.baselines.fading import fit_fading
from isthmus.baselines.popular import DAY
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, Split

CUT = 400 * DAY


def world(*answers: int) -> tuple[Dataset, Split]:
    """Domains where 1 followed 0 for a year, then 2 did; the answer after the cut is one of them.

    By default both are asked about: what follows lately in the first, what once did in the second.
    """
    histories: list[Sequence[Row]] = []
    times: list[Sequence[float]] = []
    for domain, answer in enumerate(answers or (2, 1)):
        for day, item, people in ((10, 1, 9), (395, 2, 4), (401, answer, 5)):
            histories += [[(domain, 0), (domain, item)]] * people
            times += [[day * DAY, (day + 1) * DAY]] * people
    dataset = dataset_of(histories, (4, 4), times)
    in_train = dataset.events.time < CUT
    asked = Queries(np.flatnonzero(dataset.events.time > 401.5 * DAY))
    none = Queries(np.empty(0, np.int64))
    return dataset, Split("global", in_train, asked, none, none, (CUT, CUT))


def fitted(
    dataset: Dataset,
    split: Split,
    *,
    domains: Sequence[int] = (0, 1),
    reads: Sequence[int] = (0, 1),
) -> CoOccurrence:
    return fit_fading(
        dataset,
        split,
        CoOccurrenceConfig(shrinkage=0.0),
        Config(),
        reads=reads,
        domains=domains,
        fades_to=0.1,
    )


def test_pairs_fade_where_that_answers_better() -> None:
    dataset, split = world()
    assert fitted(dataset, split).config.fades_to == (0.1,)
    assert fitted(*world(1, 2)).config.fades_to == (1.0, 0.1)
    assert fitted(*world(2, 2)).config.fades_to == (0.1, 0.1)
    assert fitted(*world(1, 1)).config.fades_to == ()


def test_the_scorer_is_the_one_that_was_found() -> None:
    dataset, split = world(1, 2)
    found, known = fitted(dataset, split), split.known(dataset)
    same = CoOccurrence.fit(
        dataset, dataset.events.keep(known), found.config, learnt=split.in_train
    )
    state, due = found.state(), same.state()
    assert state.meta == due.meta
    for name, array in due.arrays.items():
        np.testing.assert_array_equal(state.arrays[name], array)


@pytest.mark.parametrize("answers", [(2, 2), (1, 1)])
def test_only_domains_that_are_asked_about_and_read_matter(answers: tuple[int, int]) -> None:
    dataset, split = world(*answers)
    fading = answers == (2, 2)
    assert fitted(dataset, split, domains=[1]).config.fades_to == ((1.0, 0.1) if fading else ())
    alone = fitted(dataset, split, domains=[0], reads=[0])
    assert alone.config.fades_to == ((0.1,) if fading else ())


def test_nothing_fades_in_leave_one_out_or_unasked() -> None:
    dataset, split = world(2, 2)
    assert fitted(dataset, replace(split, name="leave-one-out")).config.fades_to == ()
    nobody = replace(split, stopping=split.tuning, tuning=split.stopping)
    assert fitted(dataset, nobody).config.fades_to == ()
    first = split.stopping.where(dataset.events.domain[split.stopping.position] == 0)
    assert fitted(dataset, replace(split, stopping=first)).config.fades_to == (0.1,)


@pytest.mark.parametrize(("lucky", "enough"), [(1, False), (4, True)])
def test_one_lucky_answer_in_thirty_is_not_enough(lucky: int, enough: bool) -> None:
    # Most take what nobody had, which neither knows of; a few what followed lately.
    answers = [1] * 9 + [2] * 4 + [2] * lucky + [3] * (30 - lucky)
    days = [10] * 9 + [395] * 4 + [401] * 30
    dataset = dataset_of(
        [[(0, 0), (0, answer)] for answer in answers],
        (4,),
        [[day * DAY, (day + 1) * DAY] for day in days],
    )
    asked = Queries(np.flatnonzero(dataset.events.time > 401.5 * DAY))
    none = Queries(np.empty(0, np.int64))
    split = Split("global", dataset.events.time < CUT, asked, none, none, (CUT, CUT))
    found = fitted(dataset, split, domains=[0], reads=[0])
    assert found.config.fades_to == ((0.1,) if enough else ())
