from __future__ import annotations

import numpy as np
import pytest
from baseline_world import asking, dataset_of, random_world
from neighbour_world import BOOKS, GEAR, ndcg, one_left, two_shops

from isthmus.baselines.als import ALS, ALSConfig
from isthmus.baselines.cmf import CMF, CMFConfig
from isthmus.data.splits import leave_one_out
from isthmus.errors import ConfigError
from isthmus.scoring import Requests

SIZES = {"dim": 16, "alpha": 10.0, "l2": 10.0, "recency": 0.9}


def gains(transfer: float) -> tuple[float, float]:
    """NDCG@10 of CMF over that of ALS for people with one event in the target, and with all."""
    dataset = two_shops(transfer).dataset
    split = leave_one_out(dataset)
    events = split.train_events(dataset)
    cmf = CMF.fit(dataset, events, GEAR, CMFConfig(**SIZES))
    als = ALS.fit(dataset, events, ALSConfig(**SIZES))
    one, every = (
        ndcg(cmf, dataset, split.test, hidden=hidden)
        / ndcg(als, dataset, split.test, hidden=hidden)
        for hidden in (one_left(dataset), None)
    )
    return one, every


def test_shared_people_help_those_with_little_history_where_taste_carries_over():
    one, _ = gains(1.0)
    assert one > 1.1
    one, every = gains(0.0)
    assert one < 1.05
    assert every < 1.05


def test_equal_weights_are_one_factorisation_of_everything():
    dataset = random_world(4)
    sizes = {"dim": 4, "sweeps": 30, "alpha": 5.0, "l2": 0.5}
    cmf = CMF.fit(dataset, dataset.events, 0, CMFConfig(elsewhere=1.0, **sizes))
    als = ALS.fit(dataset, dataset.events, ALSConfig(merged=True, **sizes))
    requests = Requests.of_users(dataset, np.arange(dataset.n_users))
    for domain in (0, 1):
        np.testing.assert_allclose(
            cmf.score(requests, domain).total, als.score(requests, domain).total, atol=1e-3
        )


def test_factors_solve_the_weighted_problem():
    """At the solution no factor of an item or of a person can move and lower the loss."""
    dataset = random_world(6)
    config = CMFConfig(dim=3, elsewhere=0.4, sweeps=300, alpha=5.0, l2=0.8, recency=1.0)
    cmf = CMF.fit(dataset, dataset.events, 0, config)
    state = cmf.state().arrays
    items, offsets = state["factors"].astype(np.float64), state["item_offsets"]
    weight = np.repeat(state["weight"], np.diff(offsets))
    assert state["weight"].tolist() == [1.0, 0.4]
    taken = np.zeros((dataset.n_users, dataset.n_items))
    taken[dataset.events.user, dataset.flat(dataset.events.domain, dataset.events.item)] = 1
    confidence = weight * (1 + 5.0 * taken)
    people = np.stack(
        [
            np.linalg.solve(items.T @ (c[:, None] * items) + 0.8 * np.eye(3), items.T @ (c * t))
            for c, t in zip(confidence, taken, strict=True)
        ]
    )
    requests = Requests.of_users(dataset, np.arange(dataset.n_users))
    for domain in (0, 1):
        own = items[offsets[domain] : offsets[domain + 1]]
        np.testing.assert_allclose(cmf.score(requests, domain).total, people @ own.T, atol=1e-4)
    gradient = ((confidence * (people @ items.T - taken)).T @ people) + 0.8 * items
    assert np.abs(gradient).max() < 1e-3


def test_a_person_of_three_domains_is_asked_about_from_any_of_them():
    rng = np.random.default_rng(0)
    histories = [
        [(d, 2 * int(rng.integers(5)) + person % 2) for d in (0, 1, 2) for _ in range(3)]
        for person in range(80)
    ]
    dataset = dataset_of(histories, (10, 10, 10))
    cmf = CMF.fit(dataset, dataset.events, 2, CMFConfig(dim=4, l2=1.0, alpha=5.0))
    for source in (0, 1):
        for parity in (0, 1):
            scores = cmf.score(asking([(source, parity), (source, 2 + parity)]), 2).total[0]
            assert scores[parity::2].mean() > scores[1 - parity :: 2].mean() + 0.1


def test_domains_that_share_nobody_are_refused():
    dataset = dataset_of([[(BOOKS, 0), (BOOKS, 1)], [(GEAR, 0), (GEAR, 1)]], (3, 3))
    with pytest.raises(ConfigError, match=r"cmf: it carries over by people.*people\.mapping"):
        CMF.fit(dataset, dataset.events, GEAR)
