"""A worker's end of the socket to the process that answers its questions; see `answerer`."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from isthmus.serving.batching import Overloaded
from isthmus.serving.frames import ABOUT_ITSELF, Answer, Frames, frame
from isthmus.serving.keeper import Standing
from isthmus.serving.problems import Away, Told

_log = logging.getLogger(__name__)
COMMAND = (sys.executable, "-m", "isthmus.serving.answerer")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
"""Seconds between a death and the next start; they double while it does not become ready."""
_GRACE_SECONDS = 5.0
_READ, _READ_STANDING = msgspec.msgpack.Decoder(Answer), msgspec.msgpack.Decoder(Standing)


class ProcessAnswers:
    """`Answers` by a process of its own, which is started again should it die.

    Args:
        most_waiting: questions that may wait.
        command: of the process; the number of a socket is added.
    """

    def __init__(self, *, most_waiting: int, command: Sequence[str] = COMMAND) -> None:
        self._most_waiting, self._command = most_waiting, command
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._asked = 0
        self._line: _Line | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._standing = _STARTING
        self._changed = threading.Condition()
        self._pause = _FIRST_PAUSE
        self._ended = False
        self._next: asyncio.Task[None] | None = None

    @property
    def standing(self) -> Standing:
        """See `Answers`."""
        return self._standing

    async def begin(self) -> None:
        """See `Answers`: starts the process; what is asked from now on waits for it to load."""
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen([*self._command, str(number)], pass_fds=[number])
        loop = asyncio.get_running_loop()
        _, self._line = await loop.create_unix_connection(lambda: _Line(self), sock=ours)

    async def ask(self, body: bytes) -> bytes:
        """See `Answers`."""
        if self._line is None:
            raise Away("what answers questions is being started again", hint="Ask in a moment")
        if len(self._waiting) >= self._most_waiting:
            raise Overloaded.of(len(self._waiting))
        self._asked += 1
        future = asyncio.get_running_loop().create_future()
        self._waiting[self._asked] = future
        self._line.say(self._asked, body)
        answer: Answer = await future
        if answer.status != 200:
            raise Told(answer.status, answer.headers, answer.body)
        return answer.body

    def wait_for(self, change: int, seconds: float) -> bool:
        """See `Answers`."""
        deadline = time.monotonic() + seconds
        line = self._line
        if line is not None:
            line.loop.call_soon_threadsafe(line.say, ABOUT_ITSELF, b"")
        with self._changed:
            while self._standing.read < change and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._standing.read >= change

    async def end(self) -> None:
        """See `Answers`."""
        if self._waiting:
            await asyncio.wait(self._waiting.values(), timeout=_GRACE_SECONDS)
        self._ended = True
        if self._next is not None:
            self._next.cancel()
        if self._line is not None:
            self._line.close()
        await self._bury()

    def heard(self, number: int, content: bytes) -> None:
        """Take a message of the process."""
        if number == ABOUT_ITSELF:
            self._stand(_READ_STANDING.decode(content))
            if self._standing.ready:
                self._pause = _FIRST_PAUSE
            return
        future = self._waiting.pop(number)
        # Who has given up meanwhile, by a timeout or a closed connection, hears nothing.
        if not future.done():
            future.set_result(_READ.decode(content))

    def lost(self) -> None:
        """The process has gone."""
        self._line = None
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(Away("what answers questions has died", hint="Ask again"))
        if not self._ended:
            self._stand(msgspec.structs.replace(_STARTING, problem=_DIED))
            self._next = asyncio.get_running_loop().create_task(self._begin_again())

    async def _begin_again(self) -> None:
        await self._bury()
        while self._line is None:
            _log.error("%s; another is started in %.1f s", _DIED, self._pause)
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            try:
                await self.begin()
            except OSError as error:
                _log.error("no process can be started: %s", error)

    async def _bury(self) -> None:
        """Wait for the process, which has lost its worker, to end; by force if it does not."""
        process = self._process
        if process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, _GRACE_SECONDS)
        process.kill()
        await asyncio.to_thread(process.wait)

    def _stand(self, standing: Standing) -> None:
        with self._changed:
            self._standing = standing
            self._changed.notify_all()


_STARTING = Standing(ready=False, version="", read=-1, problem=None)
_DIED = "the process that answers questions has died"


class _Line(asyncio.Protocol):
    """The worker's end of the socket, on its loop."""

    def __init__(self, answers: ProcessAnswers) -> None:
        self._answers, self._frames = answers, Frames()
        self.loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        for number, content in self._frames.take(data):
            self._answers.heard(number, content)

    def connection_lost(self, error: Exception | None) -> None:
        self._answers.lost()

    def say(self, number: int, content: bytes) -> None:
        assert self._transport is not None, "the connection was made before"
        self._transport.write(frame(number, content))

    def close(self) -> None:
        assert self._transport is not None, "the connection was made before"
        self._transport.close()
