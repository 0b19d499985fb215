"""How much one caller may ask for: a bucket of tokens that fills at a steady rate."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from isthmus.errors import IsthmusError

_CALLERS = 10_000
"""Callers that are remembered; who has not called for longest is forgotten first."""


class TooMany(IsthmusError):
    """More requests than a caller may make.

    Attributes:
        retry_after: seconds until the next one is allowed.
    """

    def __init__(self, rate: float, retry_after: float) -> None:
        super().__init__(
            f"more than {rate:g} requests a second",
            hint=f"Wait {retry_after:.1f} seconds, or send events in batches",
        )
        self.retry_after = retry_after


class RateLimit:
    """Token buckets by caller.

    Args:
        rate: requests a second in the long run; 0: any.
        burst: requests at once.
        clock: seconds.
    """

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, float(burst), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count one request.

        Raises:
            TooMany: the caller must wait.
        """
        if not self._rate:
            return
        now = self._clock()
        left, last = self._buckets.get(caller, (self._burst, now))
        left = min(self._burst, left + (now - last) * self._rate)
        allowed = left >= 1
        self._buckets[caller] = (left - allowed, now)
        self._buckets.move_to_end(caller)
        if len(self._buckets) > _CALLERS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise TooMany(self._rate, (1 - left) / self._rate)
