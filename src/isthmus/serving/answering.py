"""Who answers questions: a thread of the worker's, or a process of its own beside it.

Threads of one process share its interpreter. Where a thread answered, it waited half its time for
the loop that takes events, and the events for it; beside a thousand events a second an answer took
three times as long as in a process of its own (docs/service.md).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Protocol

import msgspec

from isthmus.config import ServingConfig
from isthmus.errors import IsthmusError
from isthmus.serving.batching import Batcher
from isthmus.serving.keeper import Keeper, Standing
from isthmus.serving.messages import Recommend, Recommendation
from isthmus.serving.metrics import listed

READ_QUESTION = msgspec.json.Decoder(Recommend)
WRITE_ANSWER = msgspec.json.Encoder()


class Answers(Protocol):
    """Answers the questions of one worker; see the module."""

    @property
    def standing(self) -> Standing:
        """How it stands with what answers."""

    async def begin(self) -> None:
        """Be ready to be asked; called once, by the loop that will ask."""

    async def ask(self, body: bytes) -> bytes:
        """The answer to one question, both in JSON.

        Raises:
            Exception: what is wrong with the question, or with answering it; `problems.told` puts
                it in words.
        """

    def wait_for(self, change: int, seconds: float) -> bool:
        """Wait until a change of the catalogue can be seen in answers; whether it can."""

    async def end(self) -> None:
        """Answer what waits, then take no more."""


class Answering:
    """Answers batches of questions from a keeper's present version.

    Args:
        keeper: what answers rest on.
        history: latest logged events of a person that count.
    """

    def __init__(self, keeper: Keeper, *, history: int) -> None:
        self._keeper, self._history = keeper, history

    def __call__(self, batch: Sequence[Recommend]) -> list[Recommendation | Exception]:
        """Per question an answer, or what is wrong with it; all of one version."""
        live = self._keeper.refresh()
        found: list[Recommendation | Exception] = []
        questions = []
        for asked in batch:
            try:
                past = self._keeper.past(live, asked.user_id, asked.history, limit=self._history)
                own = live.questions(asked, past)
            except IsthmusError as error:
                found.append(error)
                continue
            found.append(Recommendation(secrets.token_hex(12), live.version, []))
            questions += [(len(found) - 1, question) for question in own]
        lists = live.answers([question for _, question in questions])
        for (place, _), listing in zip(questions, lists, strict=True):
            answer = found[place]
            assert isinstance(answer, Recommendation), "only answers have questions"
            answer.lists.append(listing)
            listed(listing.domain, listing.fallback).inc()
        self._keeper.record(batch[-1])
        return found


class ThreadAnswers:
    """`Answers` by a thread of this process.

    Args:
        keeper: of this process, started.
        config: bounds.
    """

    def __init__(self, keeper: Keeper, config: ServingConfig) -> None:
        self._keeper = keeper
        self._batches: Batcher[Recommend, Recommendation] = Batcher(
            Answering(keeper, history=config.history),
            most_waiting=config.max_waiting,
            most_at_once=config.batch,
        )

    @property
    def standing(self) -> Standing:
        """See `Answers`."""
        return self._keeper.standing

    async def begin(self) -> None:
        """See `Answers`: the thread runs already."""

    async def ask(self, body: bytes) -> bytes:
        """See `Answers`."""
        return WRITE_ANSWER.encode(await self._batches.ask(READ_QUESTION.decode(body)))

    def wait_for(self, change: int, seconds: float) -> bool:
        """See `Answers`."""
        return self._keeper.wait_for(change, seconds)

    async def end(self) -> None:
        """See `Answers`."""
        self._batches.close()
