"""The process that answers a worker's questions: `python -m isthmus.serving.answerer SOCKET`.

`process_answers` starts it, with the worker's settings in the environment and one end of a socket.
It keeps a version and a catalogue of its own, as every worker does, answers whatever has come
together, and ends when the worker closes its end of the socket or dies.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Sequence

import msgspec

from isthmus.serving.answering import READ_QUESTION, WRITE_ANSWER, Answering
from isthmus.serving.frames import ABOUT_ITSELF, Answer, Frames, frame
from isthmus.serving.keeper import Keeper
from isthmus.serving.messages import Recommend
from isthmus.serving.problems import told

_AT_ONCE = 1 << 18
"""Bytes that are read in one go."""
_WRITE = msgspec.msgpack.Encoder()


class Answerer:
    """Speaks to a worker over a socket; see the module.

    Args:
        line: this end of the socket.
        keeper: what answers rest on.
        history: latest logged events of a person that count.
        most_at_once: questions that are answered together.
    """

    def __init__(
        self, line: socket.socket, keeper: Keeper, *, history: int, most_at_once: int
    ) -> None:
        self._line, self._keeper, self._most = line, keeper, most_at_once
        self._answering = Answering(keeper, history=history)
        self._frames, self._waiting = Frames(), deque[tuple[int, bytes]]()
        self._speaking = threading.Lock()

    def run(self) -> None:
        """Answer until the worker has gone."""
        threading.Thread(target=self._tell_standing, name="standing", daemon=True).start()
        while self._hear():
            size = min(len(self._waiting), self._most)
            batch = [self._waiting.popleft() for _ in range(size)]
            answers = self._answers([body for _, body in batch])
            numbers = [number for number, _ in batch]
            self._say(*(frame(n, _WRITE.encode(a)) for n, a in zip(numbers, answers, strict=True)))

    def _hear(self) -> bool:
        """Take in whatever has come, and wait until a question has; False: the worker has gone."""
        while not self._waiting or select.select([self._line], [], [], 0)[0]:
            try:
                data = self._line.recv(_AT_ONCE)
            except ConnectionError:
                return False
            if not data:
                return False
            for number, content in self._frames.take(data):
                if number == ABOUT_ITSELF:
                    self._keeper.look_again()
                else:
                    self._waiting.append((number, content))
        return True

    def _answers(self, bodies: Sequence[bytes]) -> list[Answer]:
        """An answer per question, right or wrong."""
        read = [_read(body) for body in bodies]
        asked = [question for question in read if isinstance(question, Recommend)]
        try:
            found = iter(self._answering(asked) if asked else [])
        except Exception as error:
            found = iter([error] * len(asked))
        answers = []
        for question in read:
            answer = next(found) if isinstance(question, Recommend) else question
            if isinstance(answer, Exception):
                answers.append(Answer(*told(answer)))
            else:
                answers.append(Answer(200, {}, WRITE_ANSWER.encode(answer)))
        return answers

    def _tell_standing(self) -> None:
        """Tell the worker how it stands with this process, now and whenever that changes."""
        said = None
        while said is None or self._keeper.wait_for_news(said):
            standing = self._keeper.standing
            if standing != said and not self._say(frame(ABOUT_ITSELF, _WRITE.encode(standing))):
                return
            said = standing

    def _say(self, *frames: bytes) -> bool:
        """Send; whether there is still somebody to hear it."""
        with self._speaking:
            try:
                self._line.sendall(b"".join(frames))
            except ConnectionError:
                return False
        return True


def _read(body: bytes) -> Recommend | Exception:
    """A question, or what is wrong with it."""
    try:
        return READ_QUESTION.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        return error


def main() -> None:
    """Answer as the settings in the environment say."""
    # A terminal's Ctrl-C, and a supervisor that stops a whole group, strike this process as well.
    # The worker finishes what waits, and then closes the socket.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    from isthmus.serving.run import keeper_of, settings_told, settle_in

    line = socket.socket(fileno=int(sys.argv[1]))
    settle_in()
    keeper, config = keeper_of(settings_told())
    keeper.start(wait=False)
    Answerer(line, keeper, history=config.history, most_at_once=config.batch).run()
    logging.getLogger(__name__).info("the worker has gone, so this process ends")
    keeper.close()
    keeper.log.close()
    keeper.catalogue.close()


if __name__ == "__main__":
    main()
