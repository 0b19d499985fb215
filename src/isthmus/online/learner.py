"""The incremental learner: a model's folder and an event log in, a new version now and then.

Runs by hand, in a loop, or as a process beside the service. All that a step depends on is in the
folder and the log, so a killed one is made again by the next, and stopping between two steps
changes nothing. Whoever serves finds the switch in the folder's pointer.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from isthmus.config import Config
from isthmus.continual.progress import ERASURE, FULL, UPDATE
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Split
from isthmus.errors import LogError, TrainingError
from isthmus.online.catalogue import Catalogue, Item
from isthmus.online.events import Event
from isthmus.online.guided import guided_positions
from isthmus.online.intake import DAY
from isthmus.online.log import CompactionReport, EventLog, between
from isthmus.online.notes import compacted_note, heads_note, left_out_note
from isthmus.online.registered import with_registered
from isthmus.online.replay import Replayed, place_in, replay
from isthmus.recommender import Recommender
from isthmus.recommender.encoding import Encoder
from isthmus.recommender.storage import KIND, LogPosition
from isthmus.recommender.updating import Snapshot, grown, learning_as, updated
from isthmus.training.checkpoint import described
from isthmus.training.versions import drop_others, kept_versions, read_pointer, settle

_NOTHING = "No new events: nothing to learn."
_HALF_DONE = "update"
"""Folder inside the model's for checkpoints of an update under way."""


@dataclass(frozen=True)
class Step:
    """What came of a look at the log.

    Attributes:
        reason: in words.
        version: the version that was written; None: none was.
        live: whether it serves now.
        new_events: how many there were that the live version had not seen.
        left_out: records that were not taken, by reason.
        heads_dropped: tasks that the version before was taught, and this one does not tell.
        notes: what was left out, dropped or gone, and what to do about it, in sentences.
    """

    reason: str
    version: str | None = None
    live: bool = False
    new_events: int = 0
    left_out: dict[str, int] | None = None
    heads_dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Learner:
    """Keeps the model in a folder up with an event log.

    Args:
        folder: the model's.
        log: the event log that it follows.
        catalogue: what was registered beside it; None: nothing.
        encoder: reads the texts of new items; None loads the configured language model.
        settings: keys of `learning` to set otherwise than the model was fitted with, such as
            `learning.passes=1`; they hold for this learner alone.

    Raises:
        ConfigError: a setting that is none of `learning`, or cannot be.
    """

    def __init__(
        self,
        folder: Path | str,
        log: EventLog,
        *,
        catalogue: Catalogue | None = None,
        encoder: Encoder | None = None,
        settings: Sequence[str] = (),
    ) -> None:
        self.folder, self.log, self.catalogue = Path(folder), log, catalogue
        self._encoder, self._settings = encoder, tuple(settings)
        learning_as(Config(), self._settings)

    def step(self, *, full: bool = False, wait: bool = True, least: int | None = None) -> Step:
        """Learn what is new, if it is enough, and put the better version live.

        Erased people are taken out first, whether or not anything is learnt.

        Args:
            full: a full fine-tune over all events.
            wait: too few new events are left for later.
            least: how many are not too few; None: `learning.least_events`.

        Raises:
            LogError: model and log do not belong together, or records in between are gone.
            LogUnavailable: the log cannot be read just now.
            CheckpointError: the model cannot be read or written.
            TrainingError: too little is new to learn from and to judge by, and `wait` is off.
        """
        live = self._settled()
        if not full and self._at_the_end(live):
            return Step(_NOTHING)
        recommender = Recommender.load(self.folder, version=live)
        found = self._replayed(recommender)
        if found.forgotten:
            erased = self._without_erased(recommender, found, live)
            with _said_too(erased.notes):
                return _both(erased, self.step(full=full, wait=wait, least=least))
        n_new = len(found.fresh) + recommender.progress.waiting
        if not full:
            if not n_new:
                return _noting(Step(_NOTHING), found)
            unseen, since = n_new, ""
            if tried := self._tried(live):
                name, offset = tried
                been = name in read_pointer(self.folder).been
                since = f" since {name}, which was {'rolled back' if been else 'kept back'}"
                unseen = int((found.offsets > offset).sum())
            if not unseen:
                return _noting(Step(f"No new events{since}.", new_events=n_new), found)
            least = self._config(recommender).learning.least_events if least is None else least
            if wait and unseen < least:
                reason = f"{unseen:,} new events{since}: waiting for {least:,}."
                return _noting(Step(reason, new_events=n_new), found)
        return self._learnt(recommender, found, live, full=full)

    def compact(self) -> CompactionReport | None:
        """Delete records older than `online.retention_days` that the live version has taken in.

        Returns:
            What was deleted; None: the model keeps records for ever.

        Raises:
            LogError: model and log do not belong together.
            LogUnavailable: the log cannot be written just now.
            CheckpointError: the model cannot be read.
        """
        live = read_pointer(self.folder).folder.name
        meta = next(meta for name, _, meta in described(self.folder) if name == live)
        days = Config.parse(meta["config"], where=f"{self.folder}: config").online.retention_days
        if days is None:
            return None
        followed = LogPosition(**meta["log"]) if meta.get("log") else None
        consumed = place_in(self.log, followed)
        return self.log.compact(before=time.time() - days * DAY, consumed=consumed)

    def _config(self, recommender: Recommender) -> Config:
        return learning_as(recommender.config, self._settings)

    def _settled(self) -> str:
        """Name of the live version, after what a killed step had begun was finished."""
        read_pointer(self.folder)
        settle(self.folder)
        live = read_pointer(self.folder).folder.name
        meta = next(meta for name, _, meta in described(self.folder) if name == live)
        if (meta.get("progress") or {}).get("kind") == ERASURE and (
            kept_versions(self.folder)[0] != live
        ):
            # Versions from before the erasure still hold the erased.
            drop_others(self.folder)
        return live

    def _at_the_end(self, live: str) -> bool:
        """Whether the live version has followed this log to its end; nothing large is read."""
        meta = next(meta for name, _, meta in described(self.folder) if name == live)
        waiting = (meta.get("progress") or {}).get("waiting", 0)
        followed = meta.get("log") or {}
        at_the_end = followed.get("offset") == self.log.head()
        return not waiting and at_the_end and followed.get("id") == self.log.id

    def _replayed(self, recommender: Recommender) -> Replayed:
        # Before the registrations, so that none is missing of what the events are on.
        end = self.log.head()
        dataset, registered = self._with_registered(recommender)
        found = replay(
            self.log,
            dataset,
            recommender.log,
            config=recommender.config,
            upto=end,
            split=recommender.split,
            hidden=self.catalogue.hidden_people() if self.catalogue else (),
        )
        found = replace(found, position=replace(found.position, registered=registered))
        if recommender.log is None and found.left_out and not len(found.fresh):
            reasons = "; ".join(f"{n:,} {why}" for why, n in found.left_out.items())
            raise LogError(
                f"none of the log's events is one that this model could learn: {reasons}",
                where=str(self.folder),
                hint="Name the event log of this model's catalogues",
            )
        return found

    def _with_registered(self, recommender: Recommender) -> tuple[Dataset, int]:
        """The live version's snapshot with what was registered since, and up to which number."""
        upto = recommender.log.registered if recommender.log else 0
        items: list[Item] = []
        while self.catalogue and (some := self.catalogue.items(upto)):
            items += some
            upto = some[-1].change
        fitted_items = recommender.fitted_items
        return with_registered(recommender.dataset, items, fitted_items=fitted_items), upto

    def _learnt(self, recommender: Recommender, found: Replayed, live: str, *, full: bool) -> Step:
        assert found.split is not None, "asked for"
        after = _unlearnt_after(recommender, found.split, found)
        if tried := self._tried(live):
            # Answers that a version kept back has learnt in vain judge the next one: with all left
            # out, too few questions tell, and one good version after another is kept back.
            after = max(after, tried[1])
        records = (logged.record for logged in between(self.log, after, found.position.offset))
        events = [record for record in records if isinstance(record, Event)]
        unlearnt = np.union1d(np.flatnonzero(~found.split.in_train), found.fresh)
        guided = guided_positions(found.dataset, unlearnt, events)
        half_done = self.folder / _HALF_DONE
        with _said_too(_noting(Step(""), found).notes):
            update = updated(
                recommender,
                replace(_snapshot(found), guided=guided),
                self._encoder,
                full=full,
                folder=half_done,
                settings=self._settings,
            )
        challenger = update.recommender
        challenger.progress = replace(
            update.progress,
            parent=live,
            unlearnt_after=_unlearnt_after(recommender, challenger.split, found),
        )
        better, reason = update.verdict.no_worse, challenger.progress.reason
        if better and read_pointer(self.folder).folder.name != live:
            better, reason = False, f"{live} is not live any more. {reason}"
        keep = self._config(recommender).learning.keep_versions
        version = challenger.save(self.folder, live=better, keep=keep).name
        shutil.rmtree(half_done, ignore_errors=True)
        n_new = len(found.fresh) + recommender.progress.waiting
        step = _noting(Step(reason, version, better, n_new), found)
        return _without_heads(step, recommender, challenger, version, live)

    def _without_erased(self, recommender: Recommender, found: Replayed, live: str) -> Step:
        """The same weights over a snapshot without the erased, and no version that holds them."""
        without = grown(recommender, _snapshot(found), self._encoder)
        progress = without.progress.beside(ERASURE, waiting=len(found.fresh))
        after = _unlearnt_after(recommender, without.split, found)
        without.progress = replace(progress, parent=live, unlearnt_after=after)
        version = without.save(self.folder).name
        drop_others(self.folder)
        step = _noting(Step(without.progress.reason, version, live=True), found)
        return _without_heads(step, recommender, without, version, None)

    def _tried(self, live: str) -> tuple[str, int] | None:
        """The latest version that learnt on from the live one, and how far it has read the log."""
        found, started = None, {live}
        for name, manifest, meta in described(self.folder):
            progress, place = meta.get("progress") or {}, meta.get("log") or {}
            if manifest["kind"] != KIND or progress.get("parent") not in started:
                continue
            started.add(name)
            if progress["kind"] in (UPDATE, FULL) and place.get("id") == self.log.id:
                found = name, place["offset"]
        return found


def _snapshot(found: Replayed) -> Snapshot:
    assert found.split is not None, "asked for"
    return Snapshot(found.dataset, found.split, found.fresh, found.position)


def _unlearnt_after(recommender: Recommender, split: Split, found: Replayed) -> int:
    """The offset behind which the log has all that a split of what was found leaves unlearnt.

    Args:
        recommender: the live version, that has followed the log so far.
        split: about the dataset that was found.
        found: what has come since.
    """
    earlier = np.setdiff1d(np.flatnonzero(~split.in_train), found.fresh)
    if len(earlier):
        return recommender.progress.unlearnt_after
    return recommender.log.offset if recommender.log else 0


@contextmanager
def _said_too(notes: Sequence[str]) -> Iterator[None]:
    """Where too little is new to learn from, the error ends with these sentences."""
    try:
        yield
    except TrainingError as error:
        if not notes:
            raise
        first = [f"{error.hint.rstrip('.')}."] if error.hint else []
        hint = " ".join([*first, *notes])
        raise TrainingError(error.what, where=error.where, hint=hint) from error


def _noting(step: Step, found: Replayed) -> Step:
    """The step with what was left out of the log, or has gone from it."""
    left_out = left_out_note(found.left_out, found.unknown_domains, found.dataset.names)
    notes = filter(None, (left_out, compacted_note(found.compacted)))
    return replace(step, left_out=found.left_out, notes=(*step.notes, *notes))


def _without_heads(
    step: Step, before: Recommender, after: Recommender, version: str, parent: str | None
) -> Step:
    """The step with the tasks that the recommender before was taught and the one after was not."""
    tasks = tuple(str(task) for task in before.taught if task not in after.taught)
    if not tasks:
        return step
    # What follows on an erasure in the same step may count what is still held back.
    again = parent is not None and len(after.split.validation) > 0
    note = heads_note(tasks, version, parent, live=step.live, again=again)
    return replace(step, heads_dropped=tasks, notes=(*step.notes, note))


def _both(erased: Step, then: Step) -> Step:
    """What came of a step that took erased people out before it learnt."""
    counts = Counter(erased.left_out) + Counter(then.left_out)
    return replace(
        then,
        left_out=dict(counts),
        heads_dropped=(*erased.heads_dropped, *then.heads_dropped),
        notes=(*erased.notes, *then.notes),
    )


def new_events(log: EventLog, after: int, upto: int) -> int:
    """Events, not impressions, with offsets above `after` and at most `upto`."""
    return sum(isinstance(logged.record, Event) for logged in between(log, after, upto))
