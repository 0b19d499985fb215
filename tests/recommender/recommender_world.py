"""A small generated world, an encoder that needs no model, and quick settings, for tests nearby."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from isthmus.blend import Blend, GateDecision, SliceGate
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.recommender import Recommender
from isthmus.transfer.sides import Side
from word_encoder import WordEncoder


def quick_config(**sections: object) -> Config:
    """Two epochs of a narrow model; `sections` go over it."""
    usual = {
        "model": {"dim": 16, "layers": 1, "heads": 2, "max_length": 20, "adapter_rank": 2},
        "training": {"epochs": 2, "evaluate_every": 1, "batch_events": 512, "negatives": 64},
        "evaluation": {"bootstrap": 100, "min_slice": 20, "cutoffs": [10]},
        "language": {"whiten_dim": 16},
    }
    return Config.model_validate({**usual, **sections})


def small_world(n_users: int = 250, *, seed: int = 0) -> Dataset:
    """Books and gear, partly shared people, some items without a text."""
    config = WorldConfig(
        n_users=n_users,
        n_themes=6,
        domains=(DomainSpec(name="books", n_items=90), DomainSpec(name="gear", n_items=70)),
        missing_text=0.05,
        seed=seed,
    )
    return generate_world(config).dataset


def by_group(newcomers: float, others: float) -> GateDecision:
    """A gate that tells people new to the target from those who have done something there."""
    slices = [
        SliceGate(low, high, elsewhere, weight)
        for low, high, weight in ((0, 0, newcomers), (1, None, others))
        for elsewhere in (True, False)
    ]
    return GateDecision(others, slices=tuple(slices))


def set_by_hand(*, gate: float | GateDecision) -> Recommender:
    """The one below with every gate at `gate` and all parts of both sides weighing the same."""
    usual = fitted()
    decision = gate if isinstance(gate, GateDecision) else GateDecision(gate)
    system = usual.system

    def even(side: Side) -> Side:
        weights = {d: dict.fromkeys(side.parts, 0.5) for d in side.blend.weights}
        return replace(side, blend=Blend(side.parts, weights, name=side.name))

    system = replace(
        system,
        transferred=even(system.transferred),
        alone={d: even(side) for d, side in system.alone.items()},
        gates=dict.fromkeys(system.gates, decision),
    )
    return Recommender(usual.dataset, usual.config, usual.split, usual.raw, system)


@cache
def fitted() -> Recommender:
    """One recommender for all tests that only ask it."""
    return Recommender.fit(small_world(), quick_config(), encoder=WordEncoder())
