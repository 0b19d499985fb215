"""What a step of the learner leaves out or gives up, in sentences for whoever runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MOST = 5
"""Reasons or names that a sentence lists; of more, how many there are."""


def left_out_note(
    left_out: Mapping[str, int], unknown: Sequence[str], known: Sequence[str]
) -> str | None:
    """How many events were left out and why; where a domain is unknown, what to do.

    Args:
        left_out: how many events, by reason.
        unknown: domains that events name, and the model does not have.
        known: domains that it has.

    Returns:
        None where nothing was left out.
    """
    if not left_out:
        return None
    total = sum(left_out.values())
    reasons = sorted(left_out, key=lambda reason: -left_out[reason])
    said = [f"{left_out[reason]:,} {reason}" for reason in reasons[:MOST]]
    if rest := reasons[MOST:]:
        said.append(f"{sum(left_out[r] for r in rest):,} for {len(rest):,} further reasons")
    note = f"{total:,} event{'s were' if total != 1 else ' was'} left out: {'; '.join(said)}."
    if not unknown:
        return note
    more = f" and {len(unknown) - MOST:,} more" if len(unknown) > MOST else ""
    names = ", ".join(map(repr, unknown[:MOST])) + more
    return (
        f"{note} The model has {_listed(known)}. If {names} should be one of these, correct the "
        "name where events are written, and import those events again with new ids; to take in a "
        "new domain, fit all domains together with 'isthmus fit'."
    )


def compacted_note(upto: int) -> str | None:
    """That a version that has read no log knows what was deleted of it from tables alone.

    Args:
        upto: offset up to which records were deleted.

    Returns:
        None where none were.
    """
    if not upto:
        return None
    return (
        f"Records up to {upto:,} have been compacted away, and the version that serves had read no "
        "log: of these events it knows those that its tables held. If they were not there, go on "
        "from a later version with 'isthmus models promote', or fit again."
    )


def heads_note(
    tasks: Sequence[str], version: str, parent: str | None, *, live: bool, again: bool
) -> str:
    """That a version has no heads for tasks that the one before tells, and how to have them.

    Args:
        tasks: that were taught.
        version: the new one.
        parent: the one that has the heads; None: it is gone.
        live: whether the new one serves.
        again: whether the new one holds back what heads learn by.
    """
    note = f"The heads for {_listed(tasks)} were not carried over: {version} only ranks."
    if parent and not live:
        return f"{note} {parent} has them still."
    commands = _listed([f"'isthmus teach {task}'" for task in tasks])
    way = f"teach it by {commands}" if again else "fit again with 'isthmus fit', and teach that"
    if parent:
        way = (
            f"go back to {parent}, which has them, with 'isthmus models promote {parent}', or {way}"
        )
    return f"{note} To have them, {way}."


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
