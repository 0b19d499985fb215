"""A model is fitted to the beginning of a generated world, and lives through the rest of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from isthmus.config import Config
from isthmus.data.world import World
from isthmus.errors import RequestError, did_you_mean
from isthmus.evaluation.significance import Paired, paired
from isthmus.online.arms import (
    Learn,
    Local,
    counting_only,
    fitted_anew,
    from_scratch,
    incrementally,
)
from isthmus.online.oracle import Oracle
from isthmus.online.traffic import Answerer, Day, Traffic, TrafficConfig, run_traffic
from isthmus.recommender import Recommender
from isthmus.recommender.encoding import Encoder

ARMS: Mapping[str, Learn] = {
    "frozen": counting_only,
    "incremental": incrementally,
    "nightly": from_scratch,
}
"""Weights as they were, popularity alone counted on; updated every night; fitted anew every
night. All see the live history."""

ORACLE = "oracle"
"""Name of the answerer that knows what people like; see `Oracle`."""

BEGINS = 0.4
"""Share of the world's time that the base model knows."""


@dataclass(frozen=True)
class Simulation:
    """What came of a simulation.

    Attributes:
        days: stretches between nights, by answerer.
        seconds: process time of learning, of the answerers that learn in this process.
    """

    days: Mapping[str, list[Day]]
    seconds: Mapping[str, float]

    def click_through(self, name: str) -> list[float]:
        """Mean true-preference click-through of each stretch; NaN where nobody came."""
        return [
            float(day.expected.mean()) if len(day.expected) else float("nan")
            for day in self.days[name]
        ]

    def against(self, name: str, other: str, *, last: float = 1 / 3) -> Paired:
        """What an answerer has over another in the last part of the stream, over people."""
        (mine, people), (theirs, _) = self._late(name, last), self._late(other, last)
        return paired(mine, theirs, people)

    def _late(self, name: str, last: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        days = self.days[name][-max(1, round(len(self.days[name]) * last)) :]
        expected = np.concatenate([day.expected for day in days])
        return expected, np.concatenate([day.user for day in days])


def base_model(
    world: World, config: Config, encoder: Encoder, *, begins: float = BEGINS
) -> Recommender:
    """The model that is fitted to the beginning of a world, and that every answerer begins with.

    Args:
        world: generated.
        config: of the model.
        encoder: reads the texts.
        begins: share of the world's time that it knows.
    """
    whole, since = world.dataset, _since(world, begins)
    first = replace(whole, events=whole.events.keep(whole.events.time < since))
    raw = [encoder.encode(domain.items["text"].to_list()) for domain in first.domains]
    return fitted_anew(first, raw, config)


def simulate(
    world: World,
    config: Config,
    encoder: Encoder,
    *,
    arms: Sequence[str] = tuple(ARMS),
    others: Sequence[Answerer] = (),
    begins: float = BEGINS,
    night_days: float = 30.0,
    traffic: Callable[[float], TrafficConfig] = TrafficConfig,
    each: Callable[[str, Day], None] = lambda name, day: None,
) -> Simulation:
    """Fit a base model, and let the world's traffic flow past every answerer.

    Args:
        world: generated.
        config: of the base model and of what is learnt at night.
        encoder: reads the texts.
        arms: names in `ARMS`, or `ORACLE`. Without any of `ARMS` no model is fitted.
        others: further answerers, such as a running service (`isthmus.serving.remote`).
        begins: share of the world's time that the base model knows.
        night_days: days between two nights.
        traffic: how people behave, from the moment at which traffic begins.
        each: told what came of each stretch.

    Raises:
        RequestError: an unknown arm, nobody who answers, or no time for traffic.
    """
    known = (*ARMS, ORACLE)
    for name in arms:
        if name not in known:
            raise RequestError(f"no answerer is called {name!r}", hint=did_you_mean(name, known))
    if not (arms or others):
        raise RequestError("nobody answers", where="arms", hint=did_you_mean("", known))
    stream = Traffic(world, traffic(_since(world, begins)))
    local: list[Local] = []
    if any(name in ARMS for name in arms):
        base = base_model(world, config, encoder, begins=begins)
        local = [Local(name, base, ARMS[name]) for name in arms if name in ARMS]
    by_name: dict[str, Answerer] = {answerer.name: answerer for answerer in local}
    answerers = [by_name[n] if n in by_name else Oracle(stream, n) for n in arms]
    days = run_traffic(stream, [*answerers, *others], days=night_days, each=each)
    return Simulation(days, {a.name: sum(a.seconds) for a in local})


def _since(world: World, begins: float) -> float:
    """The moment at which traffic begins, Unix seconds."""
    return world.config.start + begins * (world.config.end - world.config.start)
