"""The window keeps what is alike, lets go of what was otherwise, and seldom cries wolf."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.continual.adwin import BUCKETS_PER_SIZE, Adwin


def coin(chance: float, n: int, seed: int) -> list[float]:
    return (np.random.default_rng(seed).random(n) < chance).astype(float).tolist()


@pytest.mark.parametrize(("before", "after"), [(0.2, 0.6), (0.6, 0.2)])
def test_an_abrupt_change_is_found_and_its_direction_told(before: float, after: float) -> None:
    for seed in range(10):
        window = Adwin()
        assert not window.extend(coin(before, 400, seed))
        found = window.extend(coin(after, 300, seed + 100))
        assert found
        assert all((change > 0) == (after > before) for change in found)
        assert abs(window.mean - after) < 0.2


def test_a_slow_change_is_found_as_well() -> None:
    rng = np.random.default_rng(1)
    chance = np.linspace(0.2, 0.7, 4000)
    window = Adwin()
    assert window.extend((rng.random(4000) < chance).astype(float))
    assert window.mean > 0.5


def test_false_alarms_are_as_rare_as_asked_for() -> None:
    alarms = sum(bool(Adwin(0.01).extend(coin(0.3, 1000, seed))) for seed in range(100))
    # 31 looks a stream, each with a chance of at most .01 by a bound that is far from tight.
    assert alarms <= 5


def test_a_window_without_change_grows_and_stays_small_in_memory() -> None:
    window = Adwin()
    window.extend(coin(0.5, 5000, 0))
    assert window.width == 5000
    buckets = sum(len(row) for row in window.state()["rows"])
    assert buckets <= (BUCKETS_PER_SIZE + 1) * (np.log2(5000) + 1)


VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=400)


@settings(max_examples=40, deadline=None)
@given(VALUES, st.booleans())
def test_the_window_is_a_suffix_of_the_stream(values: list[float], shifted: bool) -> None:
    stream = [*values, *([1.0] * 100 + [0.0] * 100 if shifted else [])]
    window = Adwin(0.05)
    window.extend(stream)
    kept = stream[len(stream) - window.width :]
    assert window.mean == pytest.approx(np.mean(kept), abs=1e-9)
    state = window.state()
    assert state["spread"] == pytest.approx(np.var(kept) * len(kept), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(VALUES, VALUES)
def test_saved_and_loaded_it_goes_on_as_if_it_had_not_stopped(
    first: list[float], second: list[float]
) -> None:
    window = Adwin()
    window.extend(first)
    again = Adwin.from_state(json.loads(json.dumps(window.state())))
    assert again.extend(second) == window.extend(second)
    assert again.state() == window.state()
