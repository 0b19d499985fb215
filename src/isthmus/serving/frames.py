"""What a worker and its answering process say to each other, over a socket between the two.

A message is a number, a length and so many bytes. Questions count from 1, and an answer bears the
number of its question. Number 0 is about the process itself: the worker asks it to look for what
has changed, it tells how it stands.
"""

from __future__ import annotations

import struct

import msgspec

ABOUT_ITSELF = 0
_HEAD = struct.Struct("<QI")


class Answer(msgspec.Struct, array_like=True):
    """An answer, right or wrong, as HTTP gives it.

    Attributes:
        status: of HTTP.
        headers: beyond content type and length where all is well.
        body: JSON.
    """

    status: int
    headers: dict[str, str]
    body: bytes


def frame(number: int, content: bytes) -> bytes:
    """One message as it goes over the wire."""
    return _HEAD.pack(number, len(content)) + content


class Frames:
    """Takes bytes as they come, and gives the messages that are whole."""

    def __init__(self) -> None:
        self._came = bytearray()

    def take(self, data: bytes) -> list[tuple[int, bytes]]:
        """Number and content of each message that `data` completes."""
        self._came += data
        found = []
        start = 0
        while len(self._came) - start >= _HEAD.size:
            number, length = _HEAD.unpack_from(self._came, start)
            content = start + _HEAD.size
            if len(self._came) < content + length:
                break
            start = content + length
            found.append((number, bytes(self._came[content:start])))
        del self._came[:start]
        return found
