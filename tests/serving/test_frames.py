"""Messages come out whole however the bytes arrive."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.serving.frames import Frames, frame

MESSAGES = st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=50)), max_size=8)


@given(MESSAGES, st.lists(st.integers(1, 40), min_size=1))
def test_messages_come_out_as_they_went_in(messages: list[tuple[int, bytes]], cuts: list) -> None:
    sent = b"".join(frame(*message) for message in messages)
    frames, found, n = Frames(), [], 0
    while sent:
        size = cuts[n % len(cuts)]
        found += frames.take(sent[:size])
        sent, n = sent[size:], n + 1
    assert found == messages
