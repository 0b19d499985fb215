"""Stands in for the answering process: says back what it is asked, and does as it is told.

`die` ends it, `hold` keeps back what follows until `go`, `wrong` is refused, and a look for
changes is answered with having read as many as there were looks. Called with a file that counts
the starts, how many of the first starts die at once, and the number of the socket.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import msgspec

from isthmus.serving.frames import ABOUT_ITSELF, Answer, Frames, frame


def main() -> None:
    starts, to_die, line = (
        Path(sys.argv[1]),
        int(sys.argv[2]),
        socket.socket(fileno=int(sys.argv[3])),
    )
    with starts.open("a") as file:
        file.write("x")
    if len(starts.read_text()) <= to_die:
        os._exit(3)
    frames, held, holding, looks = Frames(), b"", False, 0

    def standing() -> bytes:
        return frame(ABOUT_ITSELF, msgspec.msgpack.encode((True, "v000007", looks, None)))

    line.sendall(standing())
    while data := line.recv(1 << 16):
        for number, content in frames.take(data):
            if number == ABOUT_ITSELF:
                looks += 1
                line.sendall(standing())
                continue
            if content == b"die":
                os._exit(9)
            holding = (holding or content == b"hold") and content != b"go"
            status = 422 if content == b"wrong" else 200
            held += frame(number, msgspec.msgpack.encode(Answer(status, {"a": "b"}, content)))
            if not holding:
                line.sendall(held)
                held = b""


main()
