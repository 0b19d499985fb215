"""One independent random stream per purpose, named rather than counted.

A stream depends on the seed and its name alone, so adding a domain or a table to the world leaves
everything else as it was.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np


def stream(seed: int, *names: str) -> np.random.Generator:
    """The generator of a named purpose, such as `stream(0, "books", "catalogue")`."""
    digest = blake2b("/".join(names).encode(), digest_size=16).digest()
    words = np.frombuffer(digest, dtype="<u4").tolist()
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))
