"""Group commit: many threads hand in work, one thread writes it, one flush serves them all.

While a flush is under way others queue, and the next one takes everything that waits. Who comes
alone is never made to wait for company. Where many come, commits keep a pace of a few milliseconds:
at a thousand events a second, one by one, that leaves a third of the flushes, and the processor to
those who ask.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from isthmus.errors import LogError, LogUnavailable
from isthmus.failpoints import reached

T = TypeVar("T")
R = TypeVar("R")
_LATELY = 16
"""Commits that tell whether many hand in, or one caller after each answer."""


class GroupCommit(Generic[T, R]):
    """A queue with a bound, and the thread that empties it.

    Args:
        commit: writes items durably and gives a result for each; called by one thread at a time.
        most_waiting: items that may wait; one batch of any size may where nothing else does.
        most_at_once: items that one call of `commit` is given, but for a larger single batch.
        pace: least seconds between the beginnings of two commits, while one of the latest had
            several batches.
    """

    def __init__(
        self,
        commit: Callable[[list[T]], list[R]],
        *,
        most_waiting: int = 100_000,
        most_at_once: int = 5_000,
        pace: float = 0.003,
    ) -> None:
        self._commit, self._most_waiting, self._most_at_once = commit, most_waiting, most_at_once
        self._queue: deque[tuple[Sequence[T], Future[list[R]]]] = deque()
        self._waiting, self._closed, self._pace = 0, False, pace
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()

    def submit(self, items: Sequence[T]) -> Future[list[R]]:
        """Hand in a batch; the future holds its results, or the error of the commit.

        A future that is cancelled before its turn leaves its items unwritten.

        Raises:
            LogUnavailable: too much waits already, or the log was closed.
            LogError: it was opened by a parent process.
        """
        if os.getpid() != self._process:
            raise LogError("the event log was opened before a fork", hint="Open it in each process")
        future: Future[list[R]] = Future()
        with self._changed:
            if self._closed:
                raise LogUnavailable("the event log was closed", hint="Open it again")
            if self._queue and self._waiting + len(items) > self._most_waiting:
                raise LogUnavailable(
                    f"{self._waiting:,} records wait to be written", hint="Send again in a moment"
                )
            self._queue.append((items, future))
            self._waiting += len(items)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="event-log", daemon=True)
                self._thread.start()
            self._changed.notify()
        return future

    def close(self) -> None:
        """Write what waits, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        begun, company = -math.inf, 0
        while self._wait():
            if company and (early := begun + self._pace - time.monotonic()) > 0:
                time.sleep(early)
            if not (group := self._next_group()):
                continue
            begun, company = time.monotonic(), _LATELY if len(group) > 1 else max(company - 1, 0)
            reached("log-taken")
            try:
                results = self._commit([item for items, _ in group for item in items])
            except BaseException as error:
                for _, future in group:
                    future.set_exception(error)
                continue
            start = 0
            for items, future in group:
                future.set_result(results[start : start + len(items)])
                start += len(items)
                reached("log-answered")

    def _wait(self) -> bool:
        """Whether there is more to write; False when closed."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            return bool(self._queue)

    def _next_group(self) -> list[tuple[Sequence[T], Future[list[R]]]]:
        """What waits, less what was cancelled meanwhile."""
        group: list[tuple[Sequence[T], Future[list[R]]]] = []
        size = 0
        with self._changed:
            while self._queue and (
                not group or size + len(self._queue[0][0]) <= self._most_at_once
            ):
                items, future = self._queue.popleft()
                self._waiting -= len(items)
                if future.set_running_or_notify_cancel():
                    group.append((items, future))
                    size += len(items)
        return group
