"""ADWIN: a window over a stream of numbers that shrinks when their mean has changed.

The window is kept as buckets of 2^k values (an exponential histogram), so memory and time are
logarithmic. Whenever two parts of it have means that chance does not explain, the older part goes.

Source: Bifet and Gavaldà, "Learning from Time-Changing Data with Adaptive Windowing", SDM 2007,
with the variance-based bound of its section 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Self

BUCKETS_PER_SIZE = 5
"""Buckets of one size before the two oldest are merged (M in the paper)."""

LEAST_PART = 5
"""Least values on either side of a cut."""


class Adwin:
    """An adaptive window over values in [0, 1].

    Args:
        delta: bound on the chance of a false alarm at one look.
        every: values between two looks.
    """

    def __init__(self, delta: float = 0.002, every: int = 32) -> None:
        self.delta, self.every = delta, every
        # By size 2^k, each [sum, sum of squared deviations], newest first.
        self._rows: list[list[list[float]]] = [[]]
        self.width, self.total, self._spread, self._clock = 0, 0.0, 0.0, 0

    @property
    def mean(self) -> float:
        """Of the window; 0 where it is empty."""
        return self.total / self.width if self.width else 0.0

    def add(self, value: float) -> float | None:
        """Take a value.

        Returns:
            None while nothing has changed; else how far the mean of the window has moved by
            letting its older part go, above 0 where values rise.
        """
        if self.width:
            self._spread += self.width / (self.width + 1) * (value - self.mean) ** 2
        self.width, self.total = self.width + 1, self.total + value
        self._rows[0].insert(0, [value, 0.0])
        self._merge()
        self._clock += 1
        if self._clock % self.every or self.width < 2 * LEAST_PART:
            return None
        before = self.mean
        changed = False
        while self._cut():
            changed = True
        return self.mean - before if changed else None

    def extend(self, values: Iterable[float]) -> list[float]:
        """Take many values; gives the changes that were found."""
        found = [change for value in values if (change := self.add(float(value))) is not None]
        return found

    def state(self) -> dict[str, Any]:
        """Plain values to save."""
        return {
            "delta": self.delta,
            "every": self.every,
            "rows": self._rows,
            "width": self.width,
            "total": self.total,
            "spread": self._spread,
            "clock": self._clock,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The same window again."""
        window = cls(state["delta"], state["every"])
        window._rows = [[list(bucket) for bucket in row] for row in state["rows"]]
        window.width, window.total = int(state["width"]), float(state["total"])
        window._spread, window._clock = float(state["spread"]), int(state["clock"])
        return window

    def _merge(self) -> None:
        for k in range(len(self._rows)):
            if len(self._rows[k]) <= BUCKETS_PER_SIZE:
                return
            if k + 1 == len(self._rows):
                self._rows.append([])
            (sum_b, spread_b), (sum_a, spread_a) = self._rows[k].pop(), self._rows[k].pop()
            gap = (sum_a - sum_b) / 2**k
            merged = spread_a + spread_b + 2**k / 2 * gap**2
            self._rows[k + 1].insert(0, [sum_a + sum_b, merged])

    def _cut(self) -> bool:
        """Drop the oldest bucket if some cut shows a change."""
        variance = self._spread / self.width
        logarithm = math.log(2 * math.log(max(self.width, 3)) / self.delta)
        n_old, sum_old = 0, 0.0
        for k in range(len(self._rows) - 1, -1, -1):
            for bucket_sum, _ in reversed(self._rows[k]):
                n_old, sum_old = n_old + 2**k, sum_old + bucket_sum
                n_new = self.width - n_old
                if n_new < LEAST_PART:
                    return False
                if n_old < LEAST_PART:
                    continue
                harmonic = 1 / (n_old - LEAST_PART + 1) + 1 / (n_new - LEAST_PART + 1)
                bound = math.sqrt(2 * harmonic * variance * logarithm)
                bound += 2 / 3 * harmonic * logarithm
                if abs(sum_old / n_old - (self.total - sum_old) / n_new) > bound:
                    self._drop()
                    return True
        return False

    def _drop(self) -> None:
        k = max(k for k, row in enumerate(self._rows) if row)
        bucket_sum, bucket_spread = self._rows[k].pop()
        n = 2**k
        left = self.width - n
        gap = bucket_sum / n - (self.total - bucket_sum) / left
        self._spread -= bucket_spread + n * left / self.width * gap**2
        self._spread = max(self._spread, 0.0)
        self.width, self.total = left, self.total - bucket_sum
        while len(self._rows) > 1 and not self._rows[-1]:
            self._rows.pop()
