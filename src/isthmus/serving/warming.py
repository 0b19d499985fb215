"""Warming a version up, so that its first answers are as quick as the later ones.

What is recorded of questions for this is their form, and nothing of who asked. Domains, number of
items, filter, diversity and switches decide which tables and masks an answer needs; ids, sessions,
exclusions and cursors tell of a person, and are not kept.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle

import msgspec
import numpy as np

from isthmus.errors import IsthmusError
from isthmus.online.catalogue import Catalogue
from isthmus.serving.live import Live
from isthmus.serving.messages import Recommend
from isthmus.serving.past import Past

MOST = 64
"""Latest forms that are kept."""
_LONGEST = 2000
"""Characters of one that is worth keeping."""
_WRITE, _READ = msgspec.json.Encoder(), msgspec.json.Decoder(Recommend)


class Recorded:
    """The latest forms of questions, each once; kept in the log's database for the next start."""

    def __init__(self) -> None:
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._kept: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def add(self, asked: Recommend) -> None:
        """Remember the form of a question."""
        form = Recommend(
            domains=asked.domains,
            k=asked.k,
            filter=asked.filter,
            diversity=asked.diversity,
            seen=asked.seen,
            explain=asked.explain,
        )
        text = _WRITE.encode(form).decode()
        if len(text) > _LONGEST:
            return
        with self._lock:
            self._asked[text] = time.time()
            self._asked.move_to_end(text)
            while len(self._asked) > MOST:
                self._asked.popitem(last=False)

    def asked_by(self, people: Sequence[str]) -> Iterator[Recommend]:
        """Every form, asked by these people in turn; by nobody where there are none."""
        with self._lock:
            texts = list(self._asked)
        for text, user_id in zip(texts, cycle([*people] or [None]), strict=False):
            form = _READ.decode(text)
            form.user_id = user_id
            yield form

    def load(self, catalogue: Catalogue) -> None:
        """Begin with what was kept.

        Raises:
            LogUnavailable: the database cannot be asked.
        """
        for text, asked in catalogue.questions():
            try:
                _READ.decode(text)
            except msgspec.DecodeError:
                # Of another version of this library.
                continue
            with self._lock:
                self._asked.setdefault(text, asked)
        with self._lock:
            self._kept = frozenset(self._asked)

    def keep(self, catalogue: Catalogue) -> None:
        """Write down what is new.

        Raises:
            LogUnavailable: the database cannot be written.
        """
        with self._lock:
            asked = dict(self._asked)
        if asked.keys() - self._kept:
            catalogue.keep_questions(asked, MOST)
            self._kept = frozenset(asked)


def warm(live: Live, recorded: Recorded, past: Callable[[Live, Recommend], Past]) -> None:
    """Have questions answered as they were asked of late, and plain ones, one and together.

    Args:
        live: the version.
        recorded: how was asked.
        past: what whoever asks has done.
    """
    ids = live.recommender.dataset.user_ids
    rows = np.linspace(0, max(len(ids) - 1, 0), num=min(8, len(ids))).astype(int)
    people = [str(ids[int(row)]) for row in rows]
    plain = (Recommend(user_id=user_id) for user_id in people)
    questions = []
    for asked in [*recorded.asked_by(people), *plain]:
        try:
            questions += live.questions(asked, past(live, asked))
        except IsthmusError:
            # A recorded question may name what this version does not have.
            continue
    live.answers(questions[:1])
    live.answers(questions)
