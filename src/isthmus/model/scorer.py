"""A trained core model as a `Scorer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.config import ModelConfig
from isthmus.data.features import ItemFeatures
from isthmus.model.core import CoreModel
from isthmus.scoring import Requests, Scores, pick
from isthmus.training.checkpoint import State


class NeuralScorer:
    """Inner products of user queries and item vectors.

    A request without any history that the model reads scores zero everywhere: it has no opinion.

    Args:
        model: trained weights; they are not changed.
        reads: domain indices whose events the model reads; others are left out of the history.
        name: how the scorer is called in reports.
    """

    def __init__(self, model: CoreModel, reads: tuple[int, ...], *, name: str = "neural") -> None:
        self.model, self.reads, self.name = model.eval(), reads, name
        self._catalogues: dict[int, Tensor] = {}

    def catalogue(self, domain: int) -> Tensor:
        """Vectors of a domain's items, [n_items, dim], computed once."""
        if domain not in self._catalogues:
            self._catalogues[domain] = self.model.catalogue(domain)
        return self._catalogues[domain]

    @torch.inference_mode()
    def queries(self, requests: Requests, domain: int) -> Tensor:
        """One query per request, [batch, dim]; zero where nothing could be read."""
        read = requests.among(self.reads)
        read = read.keep(read.age < self.model.users.max_length)
        device = self.model.items.table.device
        full = np.flatnonzero(read.lengths > 0)
        queries = torch.zeros(len(requests), self.model.items.table.shape[1], device=device)
        if not len(full):
            return queries
        some = read.select(full)
        domains = torch.from_numpy(some.domain.astype(np.int64)).to(device)
        offset = np.asarray(self.model.bounds)[some.domain.astype(np.int64)]
        rows = torch.from_numpy(offset + some.item).to(device)
        states = self.model.last_states(
            self.model.item_vectors(rows),
            domains,
            torch.from_numpy(some.time).to(device),
            torch.from_numpy(some.offsets).to(device),
        )
        queries[torch.from_numpy(full).to(device)] = self.model.ask(states, domain)
        return queries

    @torch.inference_mode()
    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """Score items of `domain`; see `isthmus.scoring.Scorer`."""
        total = self.queries(requests, domain) @ self.catalogue(domain).T
        return Scores(pick(total.cpu().numpy(), items))

    def state(self) -> State:
        """Weights and switches; item features are kept apart, as several models share them."""
        weights = {name: w.detach().cpu().numpy() for name, w in self.model.state_dict().items()}
        weights["evidence"] = self.model.items.evidence.cpu().numpy()
        meta = {
            "name": self.name,
            "reads": list(self.reads),
            "config": self.model.config.model_dump(mode="json"),
        }
        return State(weights, meta)

    @classmethod
    def from_state(cls, state: State, features: Sequence[ItemFeatures]) -> Self:
        """The same scorer again, on the item features it was trained with."""
        arrays = dict(state.arrays)
        evidence = arrays.pop("evidence").astype(np.float32)
        config = ModelConfig.model_validate(state.meta["config"])
        model = CoreModel(features, evidence, config, seed=0)
        model.load_state_dict({n: torch.from_numpy(a.copy()) for n, a in arrays.items()})
        return cls(model, tuple(state.meta["reads"]), name=state.meta["name"])
