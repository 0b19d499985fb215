"""How much one caller may ask for: a bucket of tokens that fills at a steady rate."""

from __future__ import annotations

import math
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

    def __init__(self, what: str, retry_after: float, hint: str) -> None:
        super().__init__(what, hint=f"Wait {retry_after:.1f} seconds, {hint}")
        self.retry_after = retry_after


class RateLimit:
    """Token buckets by caller.

    Args:
        rate: requests a second in the long run; 0: any.
        burst: requests at once.
        clock: seconds.
        what: to say to who exceeds it; None: the rate.
        hint: what to do beside waiting.
    """

    def __init__(
        self,
        rate: float,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        what: str | None = None,
        hint: str = "or send events in batches",
    ) -> None:
        self._rate, self._burst, self._clock = rate, float(burst), clock
        self._what, self._hint = what or f"more than {rate:g} requests a second", hint
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
            raise TooMany(self._what, (1 - left) / self._rate, self._hint)


def refusals(a_minute: float) -> RateLimit:
    """How often one address is told that a key is missing or wrong.

    Only who is refused is held up: behind a proxy all callers share an address, and strangers must
    not shut out who has a good key. A secret of 256 random bits need not fear to be guessed.
    """
    return RateLimit(
        a_minute / 60,
        max(1, math.ceil(a_minute)),
        what="too many requests with a missing or wrong key from this address",
        hint="and send a good one",
    )
