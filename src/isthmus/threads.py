"""How many CPU threads the small and the large matrix products take.

PyTorch keeps its threads, and the BLAS under NumPy and SciPy has a pool of its own, whose threads
wait for each other by spinning. Beside other work on the machine that is ruinous: L-BFGS on five
numbers then takes milliseconds a step, and an update five times its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController


def use_threads(number: int) -> None:
    """From now on, in this process: PyTorch's products and NumPy's take so many threads."""
    torch.set_num_threads(number)
    _controller().limit(limits=number, user_api="blas")


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """So many threads until the block ends, and as many as before afterwards; None: no change."""
    if number is None:
        yield
        return
    before = torch.get_num_threads()
    with _controller().limit(limits=number, user_api="blas"):
        torch.set_num_threads(number)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def one_thread_for_blas() -> AbstractContextManager[object]:
    """NumPy's and SciPy's products run on the calling thread alone, until the block ends."""
    limits: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limits


@cache
def _controller() -> ThreadpoolController:
    """What looked up the loaded libraries; looking takes milliseconds, so once."""
    # SciPy brings a BLAS of its own, which must be loaded to be found.
    import scipy.linalg

    assert scipy.linalg.blas
    return ThreadpoolController()
