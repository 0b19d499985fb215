"""Pairs of items by how much more often than chance they occur together."""

import numpy as np
import pytest

from isthmus.data.pairs import surprising_pairs
from isthmus.data.world import WorldConfig, generate_world


@pytest.fixture(scope="module")
def world():
    return generate_world(WorldConfig(n_users=150, seed=1)).dataset


def by_hand(dataset, window, decay):
    """Counts of unordered pairs, one user at a time."""
    events, counts = dataset.events, {}
    flat = dataset.flat(events.domain, events.item)
    for u in range(events.n_users):
        items = flat[events.offsets[u] : events.offsets[u + 1]]
        for i in range(len(items)):
            for j in range(i + 1, min(len(items), i + window + 1)):
                if items[i] != items[j]:
                    for pair in ((items[i], items[j]), (items[j], items[i])):
                        counts[pair] = counts.get(pair, 0.0) + decay ** (j - i - 1)
    return counts


def test_weight_is_count_times_positive_pmi_within_the_two_domains(world):
    counts = by_hand(world, 4, 0.5)
    pairs = surprising_pairs(world, world.events, window=4, decay=0.5)
    home = np.searchsorted(world.item_offsets, np.arange(world.n_items), side="right") - 1
    expected = {}
    towards, total = {}, {}
    for (i, j), n in counts.items():
        towards[i, home[j]] = towards.get((i, home[j]), 0) + n
        total[home[i], home[j]] = total.get((home[i], home[j]), 0) + n
    for (i, j), n in counts.items():
        chance = towards[i, home[j]] * towards[j, home[i]] / total[home[i], home[j]]
        if n > chance * (1 + 1e-12):
            expected[i, j] = n * np.log(n / chance)
    found = dict(zip(zip(pairs.first, pairs.second, strict=True), pairs.weight, strict=True))
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[k] for k in expected], list(expected.values()), rtol=1e-9)
    assert pairs.together.nnz == len(counts)
    np.testing.assert_array_equal(pairs.kind, home[pairs.first] * 3 + home[pairs.second])


def test_pairs_stand_in_both_directions_with_one_weight(world):
    pairs = surprising_pairs(world, world.events)
    found = dict(zip(zip(pairs.first, pairs.second, strict=True), pairs.weight, strict=True))
    for (i, j), weight in found.items():
        assert found[j, i] == pytest.approx(weight)
    assert set(range(9)) == set(pairs.kind.tolist())


def test_only_the_given_events_count(world):
    none = world.events.keep(np.zeros(len(world.events), bool))
    assert len(surprising_pairs(world, none)) == 0
