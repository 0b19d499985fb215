"""Work of many threads is written together, and nobody waits longer than is said."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait

import pytest

from isthmus.online import group_commit
from isthmus.online.group_commit import GroupCommit


class Disk:
    """Takes what is written, each time once it is let go."""

    def __init__(self) -> None:
        self.written: list[list[int]] = []
        self.free, self.begun = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, items: list[int]) -> list[int]:
        self.begun.release()
        assert self.free.acquire(timeout=10)
        self.written.append(items)
        return [-item for item in items]


def in_company(disk: Disk, commit: GroupCommit[int, int], first: int) -> list[Future[list[int]]]:
    """Hand in three batches, of which the second and third wait together."""
    handed = [commit.submit([first])]
    assert disk.begun.acquire(timeout=10)
    handed += [commit.submit([first + 1]), commit.submit([first + 2])]
    disk.free.release(2)
    assert disk.begun.acquire(timeout=10)
    wait(handed, timeout=10)
    return handed


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every pause that a writer has made, none of them taken."""
    pauses: list[float] = []
    monkeypatch.setattr(group_commit.time, "sleep", pauses.append)
    return pauses


def test_what_waits_is_written_together_and_each_is_given_its_own(slept: list[float]) -> None:
    disk = Disk()
    commit = GroupCommit(disk)
    handed = in_company(disk, commit, 1)
    commit.close()
    assert [future.result() for future in handed] == [[-1], [-2], [-3]]
    assert disk.written == [[1], [2, 3]]


def test_one_after_the_other_nobody_waits(slept: list[float]) -> None:
    disk = Disk()
    commit = GroupCommit(disk, pace=60.0)
    disk.free.release(5)
    for n in range(5):
        assert commit.submit([n]).result(timeout=10) == [-n]
    commit.close()
    assert not slept


def test_after_company_commits_keep_a_pace_until_all_come_alone_again(slept: list[float]) -> None:
    disk = Disk()
    commit = GroupCommit(disk, pace=60.0)
    in_company(disk, commit, 1)
    assert not slept
    lately = group_commit._LATELY
    disk.free.release(lately + 3)
    for n in range(lately + 3):
        commit.submit([10 + n]).result(timeout=10)
    commit.close()
    assert len(slept) == lately
    assert all(0 < pause <= 60 for pause in slept)
