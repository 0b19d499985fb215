"""The short form of the service's part of benchmarks/crash.py: a few kills of each, on SQLite."""

from __future__ import annotations

from pathlib import Path

from crash_service import study


def test_killed_service_and_learner_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    (tmp_path / "round").mkdir()
    found = study(str(tmp_path / "events.db"), tmp_path / "first", tmp_path / "round", kills=3)
    assert found["faults"] == []
    assert found["versions"]
    assert found["kills"] == 6
    # At a write boundary too: on a slow machine the learner may not come as far as one of its own.
    assert "log-written" in found["by_failpoint"]
    assert min(found["acknowledged"][kind] for kind in ("events", "item")) > 0
