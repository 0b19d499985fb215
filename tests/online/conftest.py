"""Logs on both databases: a test that asks for `place` runs once on each."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from log_samples import Opener

from isthmus.online.intake import Limits
from isthmus.online.log import EventLog, open_log


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new log can be."""
    if request.param == "sqlite":
        return str(tmp_path / "events.db")
    return request.getfixturevalue("cluster").fresh()


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens logs that are closed at the end."""
    logs: list[EventLog] = []

    def open_one(place: str | Path, **limits: object) -> EventLog:
        logs.append(open_log(place, limits=Limits(**limits)))
        return logs[-1]

    yield open_one
    for log in logs:
        log.close()


@pytest.fixture
def log(place: str, opened: Opener) -> EventLog:
    return opened(place)
