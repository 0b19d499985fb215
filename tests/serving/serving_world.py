"""A small fitted model, an encoder that needs no language model, and a service around them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from isthmus.blend import Blend, GateDecision
from isthmus.config import Config, ServingConfig
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.online.catalogue import open_catalogue
from isthmus.online.intake import Limits
from isthmus.online.log import open_log
from isthmus.recommender import Recommender
from isthmus.serving.app import make_app
from isthmus.serving.exports import Exports
from isthmus.serving.keeper import Keeper
from isthmus.serving.keys import KeyFile
from isthmus.serving.service import Service
from word_encoder import WordEncoder


@cache
def fitted(seed: int = 0) -> Recommender:
    """Books and gear, partly shared people, some items without a text, gear with a price."""
    world = WorldConfig(
        n_users=200,
        n_themes=5,
        domains=(DomainSpec(name="books", n_items=80), DomainSpec(name="gear", n_items=60)),
        missing_text=0.05,
        seed=0,
    )
    dataset = generate_world(world).dataset
    books, gear = dataset.domains
    price = pl.Series("price", np.arange(gear.n_items) % 40 + 0.5)
    gear = replace(gear, items=gear.items.with_columns(price))
    config = Config.model_validate(
        {
            "seed": seed,
            "model": {"dim": 16, "layers": 1, "heads": 2, "max_length": 20, "adapter_rank": 2},
            "training": {"epochs": 1, "evaluate_every": 1, "batch_events": 512, "negatives": 32},
            "evaluation": {"bootstrap": 100, "min_slice": 20, "cutoffs": [10]},
            "language": {"whiten_dim": 16},
        }
    )
    return Recommender.fit(replace(dataset, domains=(books, gear)), config, encoder=WordEncoder())


@cache
def grown() -> Recommender:
    """The fitted one after films have joined it and it has learnt from their first events."""
    domains = tuple(
        DomainSpec(name=name, n_items=n) for name, n in (("books", 80), ("gear", 60), ("films", 50))
    )
    world = generate_world(WorldConfig(n_users=200, n_themes=5, domains=domains, seed=0))
    usual = fitted()
    config = usual.config.override("blend.slice_users=20")
    model = Recommender(usual.dataset, config, usual.split, usual.raw, usual.system)
    return model.add_domain("films", world.frames["films"], encoder=WordEncoder())


def gated(gate: float | GateDecision) -> Recommender:
    """The fitted one with every gate at `gate`, and every part weighing the same."""
    usual = fitted()
    decision = gate if isinstance(gate, GateDecision) else GateDecision(gate)

    def even(side: Any) -> Any:
        weights = {d: dict.fromkeys(side.parts, 0.5) for d in side.blend.weights}
        return replace(side, blend=Blend(side.parts, weights, name=side.name))

    system = replace(
        usual.system,
        transferred=even(usual.system.transferred),
        alone={d: even(side) for d, side in usual.system.alone.items()},
        gates=dict.fromkeys(usual.system.gates, decision),
    )
    return Recommender(usual.dataset, usual.config, usual.split, usual.raw, system)


def users() -> list[str]:
    """People with a history whom the model knows."""
    dataset = fitted().dataset
    has = np.diff(dataset.events.offsets) > 0
    return dataset.user_ids.filter(pl.Series(has)).to_list()


@dataclass(frozen=True)
class Running:
    """A service, its application, and a client that speaks to it."""

    service: Service
    app: ASGIApp
    client: TestClient
    folder: Path

    def recommend(self, **asked: Any) -> dict[str, Any]:
        answer = self.client.post("/v1/recommend", json=asked)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def items(self, **asked: Any) -> list[str]:
        """Ids of the one list that was asked for."""
        (listing,) = self.recommend(**asked)["lists"]
        return [item["item_id"] for item in listing["items"]]

    def report(self, event_id: str, user_id: str, domain: str, item_id: str, **more: Any) -> int:
        event = {"event_id": event_id, "user_id": user_id, "domain": domain, "item_id": item_id}
        status: int = self.client.post("/v1/events", json={**event, **more}).status_code
        return status


@contextmanager
def running(
    folder: Path,
    *,
    keys: Path | None = None,
    model: Path | None = None,
    where: str | Path | None = None,
    limits: Limits | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """A service on the fitted model with a log of its own."""
    if model is None:
        model = folder / "model"
        fitted().save(model)
    quick = {"poll_seconds": 0.05, "count_seconds": 3600.0, "rate": 0.0}
    config = ServingConfig(**{**quick, **settings})
    where = where or folder / "events.db"
    keeper = Keeper(
        model,
        open_log(where, limits=limits),
        open_catalogue(where),
        poll_seconds=config.poll_seconds,
        count_seconds=config.count_seconds,
        encoder=WordEncoder(),
    )
    keeper.start()
    service = Service(keeper, config, Exports(folder / "exports", keeper))
    app = make_app(service, None if keys is None else KeyFile(keys))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield Running(service, app, client, folder)
