"""How a version came to be: what it started from, what it learnt, why it does or does not serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from isthmus.continual.judge import Verdict

ERASURE = "erasure"
"""Kind of a version that was made to be without people, by which nothing is learnt."""


@dataclass(frozen=True)
class Progress:
    """Kept in a model's folder with every version.

    Attributes:
        kind: `fit`, `update`, `full fine-tune`, or `ERASURE`.
        updates: how many led here since the model was fitted.
        since_full: how many since the fit or the last full fine-tune.
        fitted_items: items per domain, the first ones, that the alignment of texts rests on; empty:
            all.
        parent: name of the version that it started from; None: it was fitted.
        learnt: new events that it learnt.
        replayed: old events that it learnt again.
        held_back: new events that judged it, and are learnt next time.
        waiting: new events that are in its snapshot, and neither learnt nor judged it.
        drift: streams that had fallen.
        rested: what its networks had learnt ranked worse, and those before went on.
        seconds: that its making took.
        settings: keys of `learning` that were set for this update alone, `learning.passes=1`.
        verdict: of the comparison with its parent; None: it was fitted.
        watch: state of the windows that look out for drift; None: nothing seen.
    """

    kind: str = "fit"
    updates: int = 0
    since_full: int = 0
    fitted_items: tuple[int, ...] = ()
    parent: str | None = None
    learnt: int = 0
    replayed: int = 0
    held_back: int = 0
    waiting: int = 0
    drift: tuple[str, ...] = ()
    rested: bool = False
    seconds: float = 0.0
    settings: tuple[str, ...] = ()
    verdict: Verdict | None = None
    watch: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def reason(self) -> str:
        """Why this version does or does not serve, in words."""
        if self.kind == ERASURE:
            return "As before, without people who were erased."
        if self.verdict is None:
            return "Fitted from the start."
        alarm = f"Drift in {' and '.join(self.drift)}. " if self.drift else ""
        left = "What the networks learnt ranked worse and was left. " if self.rested else ""
        return alarm + left + self.verdict.reason

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any] | None) -> Self:
        """What `as_json` gave; folders from before there were updates say nothing."""
        if saved is None:
            return cls()
        found = cls(**saved)
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
            verdict=verdict,
        )
