"""What to say when memory runs out: which setting to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from isthmus.errors import IsthmusError, TrainingError

# On the CPU neither PyTorch nor ONNX Runtime has a type for a failed allocation, only these words;
# PyTorch's own type for a GPU says them too.
_WORDS = (
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate memory",
    "out of memory",
    "bad_alloc",
)


@contextmanager
def enough_memory(*options: str, else_: str = "") -> Iterator[None]:
    """Turn running out of memory into an error that names the settings to lower.

    Args:
        options: configuration keys, the one that helps most first.
        else_: what else helps, in a few words.

    Raises:
        TrainingError: memory ran out within.
    """
    try:
        yield
    except Exception as error:
        if not _ran_out(error):
            raise
        lower = f"Lower {', or '.join(options)}"
        raise TrainingError(
            "memory ran out", where=options[0], hint=f"{lower}; {else_}" if else_ else lower
        ) from error


def _ran_out(error: Exception) -> bool:
    if isinstance(error, MemoryError | IsthmusError):
        return isinstance(error, MemoryError)
    said = str(error).lower()
    return any(words in said for words in _WORDS)
