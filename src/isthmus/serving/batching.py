"""Questions that wait while others are answered are answered together.

One thread works; whatever has come meanwhile is its next batch. Nobody waits for company, and a
batch costs little more than a single question, so the queue stays short until the machine is full.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, Self, TypeVar

from isthmus.errors import IsthmusError

Q = TypeVar("Q")
A = TypeVar("A")


class Overloaded(IsthmusError):
    """More waits than can be answered in time."""

    @classmethod
    def of(cls, waiting: int) -> Self:
        """Where so many questions wait."""
        return cls(f"{waiting:,} questions wait already", hint="Ask again in a moment")


class Batcher(Generic[Q, A]):
    """A bounded queue between an event loop and a thread that works in batches.

    Args:
        work: answers a batch; one answer, or the exception to raise, per question.
        most_waiting: questions that may wait.
        most_at_once: questions of a batch.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Q]], Sequence[A | Exception]],
        *,
        most_waiting: int,
        most_at_once: int,
    ) -> None:
        self._work, self._most_waiting, self._most = work, most_waiting, most_at_once
        self._queue: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Questions in the queue."""
        return len(self._queue)

    async def ask(self, question: Q) -> A:
        """The answer.

        Raises:
            Overloaded: too many wait; also whatever `work` gave for this question.
        """
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._closed or len(self._queue) >= self._most_waiting:
                raise Overloaded.of(len(self._queue))
            self._queue.append((question, future))
            self._changed.notify()
        return await future

    def close(self) -> None:
        """Answer what waits, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            # Who has given up meanwhile, by a timeout or a closed connection, is not answered.
            batch = [entry for entry in batch if not entry[1].cancelled()]
            if not batch:
                continue
            try:
                answers = self._work([question for question, _ in batch])
            except Exception as error:
                answers = [error] * len(batch)
            told = list(zip((future for _, future in batch), answers, strict=True))
            for loop in {future.get_loop() for future, _ in told}:
                # One call wakes the loop for all of its questions.
                own = [entry for entry in told if entry[0].get_loop() is loop]
                with suppress(RuntimeError):  # it was closed, and nobody waits
                    loop.call_soon_threadsafe(_tell, own)

    def _next(self) -> list[tuple[Q, asyncio.Future[A]]]:
        """What waits, waiting for it; empty when closed."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            size = min(len(self._queue), self._most)
            return [self._queue.popleft() for _ in range(size)]


def _tell(told: Sequence[tuple[asyncio.Future[A], A | Exception]]) -> None:
    for future, answer in told:
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
