"""How a version came to be: what it started from, what it learnt, why it does or does not serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from isthmus.continual.judge import Verdict

UPDATE, FULL = "update", "full fine-tune"
"""Kinds of versions that learnt from an event log, and were held against their parents."""

ERASURE = "erasure"
"""Kind of a version that was made to be without people, by which nothing is learnt."""

TAUGHT, JOINED, ADAPTED = "taught", "joined", "adapted"
"""Kinds of versions that tell a task, have a domain more, or learnt its first events."""

_TOLD = {"rate": "ratings", "click": "clicks"}


@dataclass(frozen=True)
class Progress:
    """Kept in a model's folder with every version.

    Attributes:
        kind: `fit`, or one of those above.
        about: the task that was taught, or the domain that joined or was adapted; else "".
        updates: how many led here since the model was fitted.
        since_full: how many since the fit or the last full fine-tune.
        fitted_items: items per domain, the first ones, that the alignment of texts rests on; empty:
            all.
        parent: name of the version that it started from; None: it was fitted, or made of a
            recommender that says not from which version it was read.
        learnt: new events that it learnt.
        replayed: old events that it learnt again.
        held_back: new events that judged it, and are learnt next time.
        waiting: new events that are in its snapshot, and neither learnt nor judged it.
        unlearnt_after: offset of the log behind which all events are that are in its snapshot, and
            that it has not learnt; 0 also where that is not known.
        drift: streams that had fallen.
        rested: what its networks had learnt ranked worse, and those before went on.
        seconds: that its making took.
        settings: keys of `learning` that were set for this update alone, `learning.passes=1`.
        verdict: of the comparison with its parent; None: there was none.
        watch: state of the windows that look out for drift; None: nothing seen.
        earlier: what was done, in words, between the last version that was written and this one.
        written: whether it lies in a folder.
    """

    kind: str = "fit"
    about: str = ""
    updates: int = 0
    since_full: int = 0
    fitted_items: tuple[int, ...] = ()
    parent: str | None = None
    learnt: int = 0
    replayed: int = 0
    held_back: int = 0
    waiting: int = 0
    unlearnt_after: int = 0
    drift: tuple[str, ...] = ()
    rested: bool = False
    seconds: float = 0.0
    settings: tuple[str, ...] = ()
    verdict: Verdict | None = None
    watch: Mapping[str, Any] | None = field(default=None, repr=False)
    earlier: tuple[str, ...] = ()
    written: bool = field(default=False, compare=False)

    @property
    def reason(self) -> str:
        """Why this version does or does not serve, in words."""
        return " ".join([*self.earlier, self._own_reason])

    @property
    def _own_reason(self) -> str:
        if self.kind == ERASURE:
            return "As before, without people who were erased."
        if self.kind == TAUGHT:
            return f"Learnt to tell {_TOLD.get(self.about, self.about)}; recommends as before."
        if self.kind == JOINED:
            how = f"and its first {_events(self.learnt)} learnt" if self.learnt else "by its texts"
            return f"{self.about} joined, {how}; other domains as before."
        if self.kind == ADAPTED:
            return f"Learnt {_events(self.learnt)} of {self.about}; other domains as before."
        if self.verdict is None:
            return "Fitted from the start."
        alarm = f"Drift in {' and '.join(self.drift)}. " if self.drift else ""
        left = "What the networks learnt ranked worse and was left. " if self.rested else ""
        return alarm + left + self.verdict.reason

    def beside(self, kind: str, about: str = "", *, learnt: int = 0, waiting: int = 0) -> Self:
        """Of a version that is made of this one by other means than an update.

        What the next update goes by is kept. What this one learnt and how it was judged is not: it
        says nothing of the other.

        Args:
            kind: of the other version.
            about: the task or the domain.
            learnt: events that it learnt.
            waiting: new events that neither has learnt, beside those that wait already.
        """
        return type(self)(
            kind=kind,
            about=about,
            updates=self.updates,
            since_full=self.since_full,
            fitted_items=self.fitted_items,
            learnt=learnt,
            waiting=self.waiting + waiting,
            unlearnt_after=self.unlearnt_after,
            watch=self.watch,
            earlier=() if self.written else (*self.earlier, self._own_reason),
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: value for name, value in asdict(self).items() if name != "written"}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any] | None) -> Self:
        """What `as_json` gave; folders from before there were updates say nothing."""
        if saved is None:
            return cls(written=True)
        found = cls(**saved, written=True)
        verdict = None
        if saved["verdict"] is not None:
            relative = saved["verdict"]["relative"]
            verdict = Verdict(
                **{**saved["verdict"], "relative": None if relative is None else tuple(relative)}
            )
        return replace(
            found,
            fitted_items=tuple(found.fitted_items),
            drift=tuple(found.drift),
            settings=tuple(found.settings),
            earlier=tuple(found.earlier),
            verdict=verdict,
        )


def _events(n: int) -> str:
    return f"{n:,} event{'s' if n != 1 else ''}"
