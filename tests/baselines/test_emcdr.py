from __future__ import annotations

import numpy as np
import pytest
from baseline_world import asking, dataset_of
from neighbour_world import BOOKS, GEAR, ndcg, two_shops

from isthmus.baselines.als import ALS
from isthmus.baselines.emcdr import EMCDR, EMCDRConfig, _ridge
from isthmus.baselines.popular import Popular
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Split, leave_one_out
from isthmus.errors import ConfigError
from isthmus.experiment.controls import OVERLAP, alter
from isthmus.scoring import Requests

SMALL = EMCDRConfig(dim=16, alpha=10.0, l2=10.0, recency=0.9)


def fitted(dataset: Dataset, split: Split) -> EMCDR:
    return EMCDR.fit(dataset, split.train_events(dataset), SMALL, targets=[GEAR])


def test_people_new_to_the_target_are_ranked_by_their_map():
    dataset = two_shops(1.0).dataset
    split = leave_one_out(dataset)
    swapped = alter(OVERLAP, dataset, split, [], GEAR)[0]
    popular = Popular.fit(dataset, split.train_events(dataset))
    asked = [
        ndcg(scorer, dataset, split.test, newcomers=True)
        for scorer in (fitted(dataset, split), fitted(swapped, split), popular)
    ]
    assert asked[0] > 2 * asked[1]
    assert asked[0] > 2 * asked[2]


def test_where_nothing_carries_over_a_map_is_no_better_than_popularity():
    dataset = two_shops(0.0).dataset
    split = leave_one_out(dataset)
    popular = Popular.fit(dataset, split.train_events(dataset))
    mapped = ndcg(fitted(dataset, split), dataset, split.test, newcomers=True)
    assert mapped < 1.3 * ndcg(popular, dataset, split.test, newcomers=True)


def test_own_history_counts_beside_the_map_as_it_grows():
    dataset = two_shops(1.0, n_users=300).dataset
    events = dataset.events
    emcdr = EMCDR.fit(dataset, events, SMALL)
    als = ALS.fit(dataset, events, SMALL.als)
    requests = Requests.of_users(dataset, np.arange(dataset.n_users))
    new, own = requests.as_newcomers(GEAR), requests.only(GEAR)
    count = np.bincount(own.rows, minlength=len(own))[:, None]
    share = count / (count + SMALL.prior)
    expected = share * als.score(own, GEAR).total + (1 - share) * emcdr.score(new, GEAR).total
    np.testing.assert_allclose(emcdr.score(requests, GEAR).total, expected, atol=1e-4)


def test_as_in_the_paper_only_newcomers_are_mapped():
    dataset = two_shops(1.0, n_users=300).dataset
    paper = EMCDR.fit(dataset, dataset.events, SMALL.model_copy(update={"prior": 0.0}))
    als = ALS.fit(dataset, dataset.events, SMALL.als)
    requests = Requests.of_users(dataset, np.arange(dataset.n_users))
    known = np.bincount(requests.only(GEAR).rows, minlength=len(requests)) > 0
    ours, theirs = paper.score(requests, GEAR).total, als.score(requests, GEAR).total
    np.testing.assert_allclose(ours[known], theirs[known], atol=1e-5)
    assert np.abs(ours[~known]).max() > 0.01


def test_a_person_is_mapped_from_all_other_domains_together():
    # What people take of the last domain is even or odd as the sum of what they took before.
    rng = np.random.default_rng(0)
    tastes = rng.integers(0, 2, (240, 2))
    histories = [
        [(d, 2 * int(rng.integers(5)) + int(p)) for d, p in enumerate(taste) for _ in range(3)]
        + [(2, int(2 * taste[0] + taste[1]) * 4 + int(rng.integers(4))) for _ in range(3)]
        for taste in tastes
    ]
    dataset = dataset_of(histories, (10, 10, 16))
    emcdr = EMCDR.fit(dataset, dataset.events, EMCDRConfig(dim=4, l2=1, alpha=5))
    for first in (0, 1):
        for second in (0, 1):
            history = [(0, 2 * i + first) for i in range(3)] + [
                (1, 2 * i + second) for i in range(3)
            ]
            best = int(emcdr.score(asking(history), 2).total[0].argmax())
            assert best // 4 == 2 * first + second


def test_the_penalty_is_the_one_that_leaves_out_best():
    rng = np.random.default_rng(0)
    design, true = rng.normal(size=(60, 8)), rng.normal(size=(8, 3))
    np.testing.assert_allclose(_ridge(design, design @ true), true, atol=0.02)
    noise = rng.normal(size=(60, 3))
    shrunk = np.linalg.norm(_ridge(design, noise))
    assert shrunk < 0.5 * np.linalg.norm(np.linalg.lstsq(design, noise)[0])


def test_domains_that_share_nobody_are_refused():
    dataset = dataset_of([[(BOOKS, 0), (BOOKS, 1)], [(GEAR, 0), (GEAR, 1)]], (3, 3))
    with pytest.raises(ConfigError, match=r"nobody with training events in d1- has any in another"):
        EMCDR.fit(dataset, dataset.events, targets=[GEAR])
    alone = dataset_of([[(0, 0), (0, 1)]], (3,))
    with pytest.raises(ConfigError, match=r"d0- is the only one.*Add a second domain"):
        EMCDR.fit(alone, alone.events)
