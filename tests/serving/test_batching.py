"""Questions that wait are answered together, and none of them suffers by another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from isthmus.serving.batching import Batcher, Overloaded


class Slow:
    """Doubles numbers, once it is let go; refuses those below zero, and breaks at zero."""

    def __init__(self) -> None:
        self.free, self.begun = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, batch: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(batch))
        self.begun.set()
        assert self.free.wait(10)
        if 0 in batch:
            raise ZeroDivisionError
        return [2 * n if n > 0 else ValueError(n) for n in batch]


@pytest.fixture
def slow() -> Iterator[Slow]:
    work = Slow()
    yield work
    work.free.set()


async def ask_behind(work: Slow, batcher: Batcher[int, int], numbers: Sequence[int]) -> list:
    """Ask 1, and the numbers while that is being answered."""
    first = asyncio.create_task(batcher.ask(1))
    await asyncio.to_thread(work.begun.wait, 10)
    others = [asyncio.create_task(batcher.ask(n)) for n in numbers]
    await asyncio.sleep(0)
    work.free.set()
    return await asyncio.gather(first, *others, return_exceptions=True)


def test_what_waits_is_answered_together_and_nobody_waits_for_company(slow: Slow) -> None:
    batcher = Batcher(slow, most_waiting=10, most_at_once=4)
    answers = asyncio.run(ask_behind(slow, batcher, [2, 3, 4, 5, 6]))
    batcher.close()
    assert answers == [2, 4, 6, 8, 10, 12]
    assert slow.batches == [[1], [2, 3, 4, 5], [6]]


def test_a_question_that_is_refused_leaves_the_others_their_answers(slow: Slow) -> None:
    batcher = Batcher(slow, most_waiting=10, most_at_once=4)
    one, two, refused, three = asyncio.run(ask_behind(slow, batcher, [2, -7, 3]))
    batcher.close()
    assert [one, two, three] == [2, 4, 6]
    assert isinstance(refused, ValueError)
    assert len(slow.batches) == 2


def test_a_batch_that_breaks_is_told_so_and_the_next_is_answered(slow: Slow) -> None:
    batcher = Batcher(slow, most_waiting=10, most_at_once=2)
    one, zero, with_it, next_one = asyncio.run(ask_behind(slow, batcher, [0, 2, 3]))
    batcher.close()
    assert (one, next_one) == (2, 6)
    assert isinstance(zero, ZeroDivisionError)
    assert isinstance(with_it, ZeroDivisionError)


def test_more_than_may_wait_are_sent_away(slow: Slow) -> None:
    batcher = Batcher(slow, most_waiting=2, most_at_once=4)
    *answered, last = asyncio.run(ask_behind(slow, batcher, [2, 3, 4]))
    batcher.close()
    assert answered == [2, 4, 6]
    assert isinstance(last, Overloaded)


def test_who_has_given_up_is_not_answered(slow: Slow) -> None:
    batcher = Batcher(slow, most_waiting=10, most_at_once=4)

    async def give_up() -> list[int]:
        first = asyncio.create_task(batcher.ask(1))
        await asyncio.to_thread(slow.begun.wait, 10)
        gone, other = (asyncio.create_task(batcher.ask(n)) for n in (2, 3))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        slow.free.set()
        return await asyncio.gather(first, other)

    assert asyncio.run(give_up()) == [2, 6]
    batcher.close()
    assert slow.batches == [[1], [3]]
