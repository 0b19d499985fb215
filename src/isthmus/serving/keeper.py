"""Keeps a `Live` true: new model versions, items that arrive or go, what is popular now, people who
are erased.

What must not be shown any more is taken out before the next answer; what takes time, reading new
texts and loading a new version, is done by a thread of its own while the present one goes on
answering, and then takes effect at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.continual.progress import Progress
from isthmus.errors import IsthmusError, LogUnavailable
from isthmus.online.catalogue import Catalogue, Item
from isthmus.online.log import EventLog
from isthmus.recommender.encoding import Encoder
from isthmus.serving.belonging import check_belongs
from isthmus.serving.counting import counted, tally
from isthmus.serving.live import Live
from isthmus.serving.messages import ItemRef, Recommend
from isthmus.serving.metrics import tell
from isthmus.serving.past import Past, past_of
from isthmus.training.checkpoint import described, promote, roll_back
from isthmus.training.versions import Live as Pointer
from isthmus.training.versions import read_pointer

_log = logging.getLogger(__name__)
RECORDED = 64
"""Latest questions that a new version is warmed with."""
_CHANGES_AT_ONCE = 10_000
_SELDOM_SECONDS = 60.0


@dataclass(frozen=True)
class _Refused:
    """A published version that could not be loaded, and when to try again."""

    pointer: Pointer
    pause: float
    until: float


class Keeper:
    """The present `Live`, and what it is made from.

    Attributes:
        live: to be read once per request.
        log: the event log.
        catalogue: registered items and people.
        ready: set once the first version is warm.
        problem: why the latest published version could not be taken over; None: all is well.

    Args:
        folder: of the model.
        log: the event log.
        catalogue: beside it.
        poll_seconds: between looks for a new version.
        count_seconds: between counts of what is popular.
        encoder: reads new texts; None: the model's own language model.

    Raises:
        CheckpointError: the folder holds no sound model.
        LogError: the model has learnt from another log.
    """

    name = "recorded questions"

    def __init__(
        self,
        folder: Path,
        log: EventLog,
        catalogue: Catalogue,
        *,
        poll_seconds: float = 1.0,
        count_seconds: float = 5.0,
        encoder: Encoder | None = None,
    ) -> None:
        self.folder, self.log, self.catalogue = folder, log, catalogue
        self.ready = threading.Event()
        self.problem: str | None = None
        self._poll, self._encoder = poll_seconds, encoder
        self._count_seconds, self._count_again = count_seconds, 0.0
        self._lock, self._changed = threading.RLock(), threading.Condition()
        self._nudged, self._closed = False, False
        self._seen, self._read = 0, 0
        self._erased: dict[str, int] = {}
        self._erased_upto = 0
        self.hidden_people: frozenset[str] = frozenset()
        self._recorded: deque[Recommend] = deque(maxlen=RECORDED)
        self._pointer = read_pointer(folder)
        self._refused: _Refused | None = None
        self.live = self._load()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Take in what is registered, warm up, then watch."""
        self.refresh()
        self._take_in()
        self._count()
        self._warm(self.live)
        self._show(self.live)
        self.ready.set()
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def refresh(self) -> Live:
        """The present `Live`, after all marks that have been acknowledged anywhere.

        Raises:
            LogUnavailable: the database cannot be asked.
        """
        if (head := self.catalogue.head()) > self._seen:
            with self._lock:
                for changes in self._changes(self._seen):
                    self._show(self.live.marked(changes))
                # A person forgotten takes a number, and leaves no change to be read.
                self._seen = max(self._seen, head)
                self.hidden_people = frozenset(self.catalogue.hidden_people())
            self._nudge()
        for mark in self.log.erased(self._erased_upto):
            self._erased[mark.person] = mark.offset
            self._erased_upto = mark.offset
        return self.live

    def wait_for(self, change: int, seconds: float) -> bool:
        """Wait until a change can be seen in answers of this process; whether it can."""
        deadline = time.monotonic() + seconds
        self._nudge()
        with self._changed:
            while self._read < change and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._read >= change

    def past(
        self, live: Live, user_id: str | None, history: Sequence[ItemRef], *, limit: int
    ) -> Past:
        """What somebody has done until now.

        Args:
            live: whose numbering counts.
            user_id: who; None: nobody who is known by an id.
            history: a session told with the question.
            limit: latest events that are read of the log.

        Raises:
            RequestError: the session names an unknown domain or item.
            LogUnavailable: the log cannot be asked.
        """
        given = live.given([(entry.domain, entry.item_id) for entry in history])
        if user_id is None or user_id in self.hidden_people or "\0" in user_id:
            return past_of(live.recommender.dataset, {}, given=given)
        return past_of(
            live.recommender.dataset,
            live.places,
            user_id=user_id,
            logged=self.log.history(user_id, limit=limit),
            given=given,
            forgotten=self._forgotten(live, user_id),
        )

    def record(self, asked: Recommend) -> None:
        """Remember a question, for warming up the next version with it."""
        self._recorded.append(asked)

    def forget(self, user_id: str) -> int:
        """Drop what is remembered of a person here; gives how many questions of theirs."""
        recorded = list(self._recorded)
        kept = [asked for asked in recorded if asked.user_id != user_id]
        gone = len(recorded) - len(kept)
        self._recorded = deque(kept, maxlen=RECORDED)
        return gone

    def versions(self) -> tuple[str, list[dict[str, Any]]]:
        """Name of the live version, and what is known of each that is kept, the latest first.

        Raises:
            CheckpointError: the folder cannot be read.
        """
        live = read_pointer(self.folder).folder.name
        found = []
        for name, manifest, meta in reversed(described(self.folder)):
            progress = Progress.from_json(meta.get("progress"))
            found.append(
                {
                    "version": name,
                    "live": name == live,
                    "written": manifest["written"],
                    "kind": progress.kind,
                    "reason": progress.reason,
                    "log_offset": (meta.get("log") or {}).get("offset"),
                }
            )
        return live, found

    def promote(self, version: str | None) -> str:
        """Put a version live, or the one that was live before; gives its name.

        Raises:
            CheckpointError: there is no such version, or it is damaged.
        """
        if version is None:
            found = roll_back(self.folder, kind="model")
        else:
            found = promote(self.folder, version, kind="model")
        self._nudge()
        return found.folder.name

    def _forgotten(self, live: Live, user_id: str) -> bool:
        """Whether a person was erased after the model had read the log."""
        if not self._erased:
            return False
        position = live.recommender.log
        upto = position.offset if position is not None else 0
        return self._erased.get(self.log.pseudonym(user_id), -1) > upto

    def _show(self, live: Live) -> None:
        self.live = live
        tell(live.version, {shelf.name: int(shelf.offered.sum()) for shelf in live.shelves})

    def _load(self) -> Live:
        live = Live.load(self.folder, encoder=self._encoder)
        position = live.recommender.log
        learnt = None if position is None else (position.id, position.offset)
        check_belongs(learnt, self.log, str(self.folder))
        return live

    def _run(self) -> None:
        self._prepare()
        while not self._closed:
            with self._changed:
                if not self._nudged:
                    self._changed.wait(self._poll)
                self._nudged = False
            try:
                self.refresh()
                self._take_in()
                self._follow()
                if time.monotonic() >= self._count_again:
                    self._count()
            except LogUnavailable as error:
                _log.warning("%s", error)
            except Exception as error:
                # The version that answers now goes on answering.
                self._complain(error)

    def _follow(self) -> None:
        """Take over a version that was published since."""
        pointer = read_pointer(self.folder)
        if pointer == self._pointer:
            if self._refused is not None:
                self._refused, self.problem = None, None
            return
        refused = self._refused
        if refused is not None and refused.pointer == pointer and time.monotonic() < refused.until:
            return
        live = self._loaded(pointer)
        read = 0
        for changes in self._changes(0):
            live = live.marked(changes)
            live = live.read(live.unread(changes))
            read = changes[-1].change
        live = counted(self.log, live, self.hidden_people)
        self._warm(live)
        with self._lock:
            # Marks that came while it was made ready.
            for changes in self._changes(read):
                live = live.marked(changes)
            self._show(live)
            self._pointer, self.problem, self._refused = pointer, None, None
            self._read = read
        self._nudge()
        self._prepare()
        _log.info("version %s answers now", live.version)

    def _loaded(self, pointer: Pointer) -> Live:
        """The published version; one that could not be loaded is tried again ever more seldom."""
        try:
            return self._load()
        except Exception:
            before, pause = self._refused, self._poll
            if before is not None and before.pointer == pointer:
                pause = min(2 * before.pause, _SELDOM_SECONDS)
            self._refused = _Refused(pointer, pause, time.monotonic() + pause)
            raise

    def _prepare(self) -> None:
        try:
            self.live.prepare()
        except Exception as error:
            # Answers need no language model; new items have to wait for the one that fits. Whatever
            # is wrong with it must not end the thread that takes over new versions.
            self._complain(error)

    def _take_in(self) -> None:
        """Read the texts of items that have arrived or changed."""
        head = self.catalogue.head()
        for changes in self._changes(self._read):
            for start in range(0, len(changes), 64):
                self._take_in_some(changes[start : start + 64])
        with self._changed:
            self._read = max(self._read, head)
            self._changed.notify_all()

    def _take_in_some(self, changes: Sequence[Item]) -> None:
        with self._lock:
            live, seen = self.live, self._seen
        grown = live.read(live.unread(changes))
        with self._lock:
            # Marks that were made meanwhile must not be undone.
            for later in self._changes(seen):
                grown = grown.marked(later)
            self._show(grown)
        with self._changed:
            self._read = max(self._read, changes[-1].change)
            self._changed.notify_all()

    def _count(self) -> None:
        """Count on what is popular; by this thread alone, so that no event counts twice."""
        while more := tally(self.log, self.live, self.hidden_people):
            with self._lock:
                self.live = self.live.counting(more.domain, more.item, more.time, upto=more.upto)
        self._count_again = time.monotonic() + self._count_seconds

    def _changes(self, after: int) -> list[list[Item]]:
        """Changes in stretches."""
        found = []
        while changes := self.catalogue.items(after, _CHANGES_AT_ONCE):
            found.append(changes)
            after = changes[-1].change
        return found

    def _warm(self, live: Live) -> None:
        """Answer recorded questions, or of some people whom the model knows, one and together."""
        people = live.recommender.dataset.user_ids
        rows = np.linspace(0, max(len(people) - 1, 0), num=min(8, len(people))).astype(int)
        made = [Recommend(user_id=people[int(row)]) for row in rows]
        questions = []
        for asked in [*self._recorded, *made]:
            try:
                past = self.past(live, asked.user_id, asked.history, limit=100)
                questions += live.questions(asked, past)
            except IsthmusError:
                # Recorded questions may name what this version does not have.
                continue
        live.answers(questions[:1])
        live.answers(questions)

    def _nudge(self) -> None:
        with self._changed:
            self._nudged = True
            self._changed.notify_all()

    def _complain(self, error: Exception) -> None:
        said = str(error)
        if said != self.problem:
            _log.error("the live version stays: %s", said)
        self.problem = said
