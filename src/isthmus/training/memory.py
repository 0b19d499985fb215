"""What to say when memory runs out: which setting to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from isthmus.errors import TrainingError

# PyTorch has no type for a failed allocation on the CPU, only these words.
_WORDS = ("not enough memory", "can't allocate memory", "out of memory")


@contextmanager
def enough_memory(*options: str) -> Iterator[None]:
    """Turn running out of memory into an error that names the settings to lower.

    Args:
        options: configuration keys, the one that helps most first.

    Raises:
        TrainingError: memory ran out within.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError):
            said = str(error).lower()
            if not any(words in said for words in _WORDS):
                raise
        raise TrainingError(
            "memory ran out", where=options[0], hint=f"Lower {', or '.join(options)}"
        ) from error
