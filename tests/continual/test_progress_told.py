"""What a version says of how it came to be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.continual.judge import Verdict
from isthmus.continual.progress import ADAPTED, JOINED, TAUGHT, Progress


def updated() -> Progress:
    verdict = Verdict(True, "It is better.", 90, 40, (0.1, 0.05, 0.15), 0.9, {})
    return Progress(
        kind="update",
        updates=3,
        since_full=2,
        fitted_items=(9, 7),
        parent="v000003",
        learnt=80,
        replayed=70,
        held_back=20,
        waiting=4,
        unlearnt_after=17,
        drift=("chosen items",),
        rested=True,
        seconds=1.5,
        settings=("learning.passes=1",),
        verdict=verdict,
        watch={"figures": {}},
    )


@pytest.mark.parametrize(
    ("kind", "about", "learnt", "reason"),
    [
        (TAUGHT, "rate", 0, "Learnt to tell ratings; recommends as before."),
        (TAUGHT, "click", 0, "Learnt to tell clicks; recommends as before."),
        (JOINED, "gear", 0, "gear joined, by its texts; other domains as before."),
        (
            *(JOINED, "gear", 1200),
            "gear joined, and its first 1,200 events learnt; other domains as before.",
        ),
        (ADAPTED, "gear", 1, "Learnt 1 event of gear; other domains as before."),
    ],
)
def test_what_is_made_of_a_version_says_so_and_repeats_no_verdict(
    kind: str, about: str, learnt: int, reason: str
) -> None:
    before = replace(updated(), written=True)
    made = before.beside(kind, about, learnt=learnt)
    assert (made.kind, made.reason, made.learnt) == (kind, reason, learnt)
    own = (made.parent, made.verdict, made.replayed, made.held_back, made.drift, made.settings)
    assert own == (None, None, 0, 0, (), ())
    assert not made.rested
    assert not made.seconds
    # What the next update goes by.
    kept = ("updates", "since_full", "fitted_items", "waiting", "unlearnt_after", "watch")
    assert all(getattr(made, name) == getattr(before, name) for name in kept)
    assert Progress.from_json(made.as_json()) == made
    assert Progress.from_json(before.as_json()) == before


def test_steps_that_were_not_written_apart_are_all_named() -> None:
    fitted = Progress()
    taught = fitted.beside(TAUGHT, "rate")
    joined = taught.beside(JOINED, "gear")
    assert joined.reason == (
        "Fitted from the start. Learnt to tell ratings; recommends as before. "
        "gear joined, by its texts; other domains as before."
    )
    read = Progress.from_json(joined.as_json())
    assert read.reason == joined.reason
    assert read.beside(TAUGHT, "click").reason == "Learnt to tell clicks; recommends as before."


def test_what_older_models_say_is_still_read() -> None:
    assert Progress.from_json(None).reason == "Fitted from the start."
    saved = updated().as_json()
    del saved["about"], saved["earlier"], saved["unlearnt_after"]
    assert Progress.from_json(saved) == replace(updated(), unlearnt_after=0)
