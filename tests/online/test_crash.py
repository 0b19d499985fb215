"""The short form of benchmarks/crash.py: a kill at every write boundary, and one at random."""

from __future__ import annotations

from crash import study
from isthmus.failpoints import LOG


def test_killed_at_every_write_boundary_nothing_acknowledged_is_missing(place: str) -> None:
    found = study(place, kills=len(LOG) + 1)
    assert found["faults"] == []
    assert found["replay_equal"]
    assert found["by_failpoint"] == dict.fromkeys(LOG, 1)
    assert found["requests"]
