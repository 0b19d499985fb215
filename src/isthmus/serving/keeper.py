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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from isthmus.continual.progress import Progress
from isthmus.errors import IsthmusError, LogUnavailable
from isthmus.online.catalogue import Catalogue, Item
from isthmus.online.log import EventLog
from isthmus.recommender.encoding import Encoder
from isthmus.serving.belonging import check_belongs, learnt_of
from isthmus.serving.counting import Tally, counted, tallies
from isthmus.serving.live import Live
from isthmus.serving.messages import ItemRef, Recommend
from isthmus.serving.metrics import tell
from isthmus.serving.past import Past, past_of
from isthmus.serving.warming import Recorded, warm
from isthmus.training.checkpoint import Checkpoint, described, promote, roll_back
from isthmus.training.versions import Live as Pointer
from isthmus.training.versions import read_pointer

_log = logging.getLogger(__name__)
_CHANGES_AT_ONCE = 10_000
_SELDOM_SECONDS = 60.0
_REST_SECONDS = 0.02
"""Between two stretches of the log that are read for counting; one takes a fifth of this."""


class Standing(msgspec.Struct, array_like=True, frozen=True):
    """How it stands with what answers.

    Attributes:
        ready: whether the first version is warm.
        version: that answers; empty while none is loaded.
        read: number of the latest change of the catalogue that answers know of, texts included.
        problem: why the latest published version could not be taken over, or else why texts of new
            items could not be read; None: all is well.
    """

    ready: bool
    version: str
    read: int
    problem: str | None


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

    Args:
        folder: of the model.
        log: the event log.
        catalogue: beside it.
        poll_seconds: between looks for a new version.
        count_seconds: between counts of what is popular.
        encoder: reads new texts; None: the model's own language model.
        settled: called when a version has been made ready to answer.

    Raises:
        CheckpointError: the folder holds no sound model.
        LogError: the model has learnt from another log.
    """

    def __init__(
        self,
        folder: Path,
        log: EventLog,
        catalogue: Catalogue,
        *,
        poll_seconds: float = 1.0,
        count_seconds: float = 5.0,
        encoder: Encoder | None = None,
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder, self.log, self.catalogue = folder, log, catalogue
        self.ready = threading.Event()
        self._failed: str | None = None
        self._unread: str | None = None
        self._poll, self._encoder, self._settled = poll_seconds, encoder, settled
        self._count_seconds, self._count_again = count_seconds, 0.0
        self._lock, self._changed = threading.RLock(), threading.Condition()
        self._nudged, self._closed = False, False
        self._seen, self._read = 0, 0
        self._erased: dict[str, int] = {}
        self._erased_upto = 0
        self.hidden_people: frozenset[str] = frozenset()
        self._recorded = Recorded()
        self._keep_again = 0.0
        self._pointer = read_pointer(folder)
        self._refused: _Refused | None = None
        self.live = self._load()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self, *, wait: bool = True) -> None:
        """Know who and what is marked, warm up, then watch.

        Args:
            wait: until it is warm; else that is done by a thread of its own, and `ready` is set
                then. Answers before that are right, but slow.

        Raises:
            LogUnavailable: the database cannot be asked.
        """
        self.refresh()
        if wait:
            self._begin()
        self._thread.start()

    def _begin(self) -> None:
        """Take in what is registered, and warm up."""
        self._recorded.load(self.catalogue)
        self._take_in()
        self._count()
        warm(self.live, self._recorded, self._asking)
        self._settled()
        with self._lock:
            self._show(self.live)
        self._failed = None
        self.ready.set()
        self._tell_news()

    def close(self) -> None:
        """Stop watching."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
            try:
                self._recorded.keep(self.catalogue)
            except IsthmusError as error:
                _log.warning("recorded questions are not kept: %s", error)

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
            self.look_again()
        for mark in self.log.erased(self._erased_upto):
            self._erased[mark.person] = mark.offset
            self._erased_upto = mark.offset
        return self.live

    def wait_for(self, change: int, seconds: float) -> bool:
        """Wait until a change can be seen in answers of this process; whether it can."""
        deadline = time.monotonic() + seconds
        self.look_again()
        with self._changed:
            while self._read < change and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._read >= change

    @property
    def problem(self) -> str | None:
        """Why the latest published version could not be taken over, or else why texts of new items
        could not be read; None: all is well.
        """
        return self._failed or self._unread

    @property
    def standing(self) -> Standing:
        """How it stands now."""
        return Standing(self.ready.is_set(), self.live.version, self._read, self.problem)

    def wait_for_news(self, known: Standing) -> bool:
        """Wait until it may stand otherwise than known, at most as long as between two looks.

        Returns:
            Whether there can be news: False once it was closed.
        """
        with self._changed:
            if self.standing == known and not self._closed:
                self._changed.wait(self._poll)
            return not self._closed

    def past(
        self, live: Live, user_id: str | None, history: Sequence[ItemRef], *, limit: int
    ) -> Past:
        """What somebody has done until now.

        Args:
            live: whose numbering counts.
            user_id: who; None: nobody who is known by an id.
            history: a session told with the question.
            limit: latest events that are read of the log; what does not count in a table, by its
                kind or rating, is not among them.

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
            logged=self.log.choices(user_id, limit=limit, config=live.recommender.config),
            given=given,
            forgotten=self._forgotten(live, user_id),
        )

    def _asking(self, live: Live, asked: Recommend) -> Past:
        return self.past(live, asked.user_id, asked.history, limit=100)

    def record(self, asked: Recommend) -> None:
        """Remember how was asked, for warming up the next version; not by whom."""
        self._recorded.add(asked)

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
            NotOfThisLog: it cannot serve beside the log; the live one stays.
            LogUnavailable: the log cannot be asked just now.
        """
        if version is None:
            found = roll_back(self.folder, kind="model", check=self._check_belongs)
        else:
            found = promote(self.folder, version, kind="model", check=self._check_belongs)
        self.look_again()
        return found.folder.name

    def _check_belongs(self, found: Checkpoint) -> None:
        check_belongs(learnt_of(found.meta), self.log, str(self.folder))

    def absent(self, live: Live, user_id: str) -> bool:
        """Whether somebody is hidden, or was erased after the model had read the log."""
        return user_id in self.hidden_people or self._forgotten(live, user_id)

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
        self._tell_news()

    def _load(self) -> Live:
        live = Live.load(self.folder, encoder=self._encoder)
        position = live.recommender.log
        learnt = None if position is None else (position.id, position.offset)
        check_belongs(learnt, self.log, str(self.folder))
        return live

    def _run(self) -> None:
        while not self.ready.is_set() and not self._closed:
            self._try(self._begin)
            with self._changed:
                if not self.ready.is_set() and not self._closed:
                    self._changed.wait(self._poll)
        self._prepare()
        while not self._closed:
            with self._changed:
                if not self._nudged and not self._closed:
                    self._changed.wait(self._poll)
                self._nudged = False
            self._try(self._look)

    def _look(self) -> None:
        """What is to be done over and over; where one thing fails, the others are done still."""
        self.refresh()
        self._try(self._take_in)
        self._try(self._follow)
        now = time.monotonic()
        if now >= self._count_again:
            self._try(self._count)
        if now >= self._keep_again:
            self._keep_again = now + _SELDOM_SECONDS
            self._try(lambda: self._recorded.keep(self.catalogue))

    def _try(self, work: Callable[[], None]) -> None:
        """Do something; where it fails, the version that answers now goes on answering."""
        try:
            work()
        except LogUnavailable as error:
            _log.warning("%s", error)
        except Exception as error:
            self._complain(error)

    def _follow(self) -> None:
        """Take over a version that was published since."""
        pointer = read_pointer(self.folder)
        if pointer == self._pointer:
            if self._refused is not None:
                self._refused, self._failed = None, None
            return
        refused = self._refused
        if refused is not None and refused.pointer == pointer and time.monotonic() < refused.until:
            return
        live = self._loaded(pointer)
        known = self._changes(0)
        for changes in known:
            live = live.marked(changes)
        read = 0
        for changes in known:
            if (grown := self._grown(live, changes)) is None:
                break
            live, read = grown, changes[-1].change
        live = counted(self.log, live, self.hidden_people)
        warm(live, self._recorded, self._asking)
        with self._lock:
            # Marks that came while it was made ready.
            for changes in self._changes(known[-1][-1].change if known else 0):
                live = live.marked(changes)
            self._show(live)
            self._pointer, self._failed, self._refused = pointer, None, None
            self._read = read
        self.look_again()
        self._settled()
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
        """Read the texts of items that have arrived or changed, up to one that cannot be read."""
        head = self.catalogue.head()
        for changes in self._changes(self._read):
            for start in range(0, len(changes), 64):
                if not self._take_in_some(changes[start : start + 64]):
                    return
        with self._changed:
            self._read = max(self._read, head)
            self._changed.notify_all()

    def _take_in_some(self, changes: Sequence[Item]) -> bool:
        """Read the texts of some changes; False: they cannot be read, and wait."""
        with self._lock:
            live, seen = self.live, self._seen
        if (grown := self._grown(live, changes)) is None:
            return False
        with self._lock:
            # Marks that were made meanwhile must not be undone.
            for later in self._changes(seen):
                grown = grown.marked(later)
            self._show(grown)
        with self._changed:
            self._read = max(self._read, changes[-1].change)
            self._changed.notify_all()
        return True

    def _grown(self, live: Live, changes: Sequence[Item]) -> Live | None:
        """A `Live` that has read the texts of changes; None: they cannot be read."""
        try:
            grown = live.read(live.unread(changes))
        except Exception as error:
            # As in `_prepare`: what is known can be recommended without them.
            said = str(error)
            if said != self._unread:
                _log.error("new items wait, for their texts cannot be read: %s", said)
            self._unread = said
            return None
        self._unread = None
        return grown

    def _count(self) -> None:
        """Count on what is popular; by this thread alone, so that no event counts twice."""
        found = []
        for stretch in tallies(self.log, self.live, self.hidden_people):
            found.append(stretch)
            if self._closed:
                return
            if self.ready.is_set():
                # Answers and the loop that takes events want the interpreter as well.
                time.sleep(_REST_SECONDS)
        if found:
            with self._lock:
                self.live = Tally.of(found).counted_by(self.live)
        self._count_again = time.monotonic() + self._count_seconds

    def _changes(self, after: int) -> list[list[Item]]:
        """Changes in stretches."""
        found = []
        while changes := self.catalogue.items(after, _CHANGES_AT_ONCE):
            found.append(changes)
            after = changes[-1].change
        return found

    def look_again(self) -> None:
        """Look for what has changed now, not only when it is time to."""
        with self._changed:
            self._nudged = True
            self._changed.notify_all()

    def _tell_news(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _complain(self, error: Exception) -> None:
        said = str(error)
        if said != self._failed:
            _log.error("the live version stays: %s", said)
        self._failed = said
