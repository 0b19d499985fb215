"""Every error that Isthmus raises on purpose.

Each message says what is wrong, where (file, column, row, configuration key) and what to do,
in that order. The command line prints the message alone and exits with code 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_CLOSED = (".", "?", "!", "…")


class IsthmusError(Exception):
    """Base of the hierarchy.

    Args:
        what: the fact, without a closing full stop.
        where: file, column, row or configuration key that it concerns.
        hint: what the user can do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        parts = [f"{where}: {what}" if where else what]
        if hint:
            parts.append(hint)
        super().__init__(" ".join(part if part.endswith(_CLOSED) else f"{part}." for part in parts))


class ConfigError(IsthmusError):
    """The configuration file or an override cannot be understood."""


class DataError(IsthmusError):
    """A table is missing, unreadable or holds something that cannot be used."""


class LanguageModelError(IsthmusError):
    """A language model cannot be found, loaded or run."""


class CheckpointError(IsthmusError):
    """A saved folder is damaged, foreign, newer than this library, or cannot be written."""


class RequestError(IsthmusError):
    """A question to a trained model that it cannot answer: unknown domain, item or filter."""


class LogError(IsthmusError):
    """An event log is not one, is damaged, newer than this library, or not the model's."""


class LogUnavailable(LogError):
    """The event log cannot be reached or written just now; nothing acknowledged is lost.

    Attributes:
        retry_after: seconds after which it is worth another try.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        retry_after: float = 1.0,
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.retry_after = retry_after


class TrainingError(IsthmusError):
    """Training cannot start or cannot go on."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names the closest known names, or all of them where none is close."""
    choices = sorted(known)
    near = get_close_matches(name, choices, n=3, cutoff=0.6)
    if near:
        return "Did you mean " + " or ".join(repr(choice) for choice in near) + "?"
    shown = ", ".join(choices[:20]) + (", …" if len(choices) > 20 else "")
    return f"Known: {shown}" if choices else "None is known"
