"""Histories within one domain each, and what came next in them."""

import numpy as np

from isthmus.data.next_items import next_items
from isthmus.data.world import WorldConfig, generate_world


def test_every_history_stands_whole_in_time_and_answers_have_something_before_them():
    world = generate_world(WorldConfig(n_users=60, seed=1)).dataset
    events = world.events
    usable = np.random.default_rng(0).random(world.n_items) < 0.7
    found = next_items(world, events, usable)
    flat = world.flat(events.domain, events.item)
    answers = 0
    for user in range(events.n_users):
        for domain in range(len(world.domains)):
            own = (events.user == user) & (events.domain == domain) & usable[flat]
            places = np.flatnonzero((found.person == user) & (found.domain == domain))
            np.testing.assert_array_equal(found.item[places], flat[own])
            assert (found.begin[places] == places[:1]).all()
            assert set(places[1:]) <= set(found.answers.tolist())
            answers += max(0, len(places) - 1)
        chosen = found.chosen[[user]].indices
        assert set(chosen.tolist()) == set(flat[(events.user == user) & usable[flat]].tolist())
    assert len(found.answers) == answers > 100
