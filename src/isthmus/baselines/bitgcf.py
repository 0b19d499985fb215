"""BiTGCF: a graph of people and items in each domain, joined at the people they share.

Source: Liu, Li, Li, Pan, "Cross Domain Recommendation via Bi-Directional Transfer Graph
Collaborative Filtering Networks", CIKM 2020. In every layer people and items of a domain take on
what their neighbours are (LightGCN, He et al. 2020), and then a person's state in a domain takes on
their states in the others: half of it keeps a fixed share of its own, half is weighted by the
events in each domain. Here for any number of domains, and with the sampled softmax in the place of
binary cross-entropy with one negative.

Whoever asks is answered from their history, not from a row of a table: the same layers are run for
them as for a new node that nothing points to, with the items as training left them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from isthmus.baselines.als import taken_matrix
from isthmus.baselines.history import flat_items, history_matrix
from isthmus.baselines.needs import need_shared_people
from isthmus.baselines.transfer_graphs import GraphTask, TransferGraphs, transferred
from isthmus.config import Config
from isthmus.data.dataset import Dataset, Events
from isthmus.data.splits import Queries, Split
from isthmus.evaluation.stopping import mean_ndcg
from isthmus.scoring import Float, Requests, Scores, pick
from isthmus.training.checkpoint import State
from isthmus.training.loop import pick_device, train


class BiTGCFConfig(BaseModel):
    """Size, transfer and training; whatever else training takes is that of the core model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dim: int = Field(64, ge=1, description="Width of all states.")
    layers: int = Field(1, ge=1, description="Times that items take on their people.")
    retention: float | None = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of its own that one half of a person's state in a domain keeps; None: "
        "nothing is transferred.",
    )
    temperature: float = Field(0.1, gt=0, description="Of the loss; scores are cosines.")
    recency: float = Field(0.6, gt=0, le=1, description="Factor per event of age in a request.")
    batch: int = Field(8192, ge=1, description="Events of each domain in a step.")
    epochs: int = Field(200, ge=1, description="Most passes over the training events.")
    learning_rate: float = Field(0.05, gt=0, description="Peak, AdamW.")


class BiTGCF:
    """Cosines of items to who asks, each the mean of its states over the layers."""

    name = "bitgcf"

    def __init__(
        self,
        layers: Float,
        degree: NDArray[np.int64],
        item_offsets: NDArray[np.int64],
        config: BiTGCFConfig,
    ) -> None:
        """Args are what `state` saves.

        layers: float32 [layers + 1, n_items, dim] states of all items, in the flat numbering.
        degree: int64 [n_items] people of each item.
        item_offsets: int64 [n_domains + 1].
        config: as fitted.
        """
        self.config = config
        self._layers, self._degree, self._item_offsets = layers, degree, item_offsets
        mean = layers.mean(0)
        self._items = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        split: Split,
        config: Config,
        options: BiTGCFConfig | None = None,
        *,
        targets: Sequence[int] | None = None,
        folder: Path | None = None,
    ) -> BiTGCF:
        """Train on all domains, with early stopping on questions about each.

        Args:
            dataset: the snapshot.
            split: training events and early-stopping questions.
            config: negatives, patience, device and seed, shared with the core model.
            options: see there.
            targets: domains that must share people with others; None: all.
            folder: checkpoints to resume from; the same for every target.

        Raises:
            ConfigError: a target shares nobody with the other domains.
        """
        options = options or BiTGCFConfig()
        events = split.train_events(dataset)
        for target in range(len(dataset.domains)) if targets is None else targets:
            need_shared_people(cls.name, dataset, events, target)
        taken = taken_matrix(dataset, events)
        graphs = TransferGraphs(
            dataset,
            taken,
            dim=options.dim,
            layers=options.layers,
            retention=options.retention,
            seed=config.seed,
            device=pick_device(config.training.device),
        )
        task = GraphTask(
            graphs,
            dataset,
            events,
            batch=options.batch,
            negatives=config.training.negatives,
            temperature=options.temperature,
        )
        degree = np.bincount(taken.indices, minlength=dataset.n_items)

        def scorer() -> BiTGCF:
            return cls(_states(graphs, degree), degree, dataset.item_offsets, options)

        domains = np.unique(dataset.events.domain[split.stopping.position]).tolist()
        asked = dict.fromkeys(domains, split.stopping)
        training = config.training.model_copy(
            update={
                "epochs": options.epochs,
                "learning_rate": options.learning_rate,
                # Sparse products know no half precision.
                "bf16": "off",
            }
        )
        train(
            task,
            lambda: mean_ndcg(scorer(), dataset, asked, config.evaluation),
            training,
            seed=config.seed,
            label=cls.name,
            folder=folder,
            mark=_mark(
                graphs,
                events,
                split.stopping,
                f"{options!r} {training!r} {config.evaluation!r} {config.seed}",
            ),
        )
        return scorer()

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """See `Scorer`."""
        flat = flat_items(requests, self._item_offsets)
        recency, n_items = self.config.recency, len(self._items)
        history = history_matrix(requests, flat, n_items, decay=recency, distinct=True)
        history.data /= np.sqrt(np.maximum(self._degree, 1))[history.indices]
        bounds = list(pairwise(self._item_offsets))
        own = [history[:, start:stop] for start, stop in bounds]
        counts = np.stack([np.diff(part.indptr) for part in own], axis=1)
        size = np.sqrt(np.maximum(counts, 1)).astype(np.float32)
        total = np.zeros((len(requests), self.config.dim), np.float32)
        for layer in self._layers:
            fresh = [
                torch.from_numpy(part @ layer[start:stop] / size[:, d, None])
                for d, (part, (start, stop)) in enumerate(zip(own, bounds, strict=True))
            ]
            if self.config.retention is not None:
                fresh = transferred(fresh, torch.from_numpy(counts), self.config.retention)
            total += fresh[domain].numpy()
        start, stop = bounds[domain]
        return Scores(pick(total @ self._items[start:stop].T, items))

    def state(self) -> State:
        """States of the items by layer, and the configuration."""
        return State(
            {
                "layers": self._layers,
                "degree": self._degree,
                "item_offsets": self._item_offsets,
            },
            {"config": self.config.model_dump(mode="json")},
        )

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The same scorer again."""
        return cls(
            state.arrays["layers"].astype(np.float32),
            state.arrays["degree"].astype(np.int64),
            state.arrays["item_offsets"].astype(np.int64),
            BiTGCFConfig.model_validate(state.meta["config"]),
        )


def _states(graphs: TransferGraphs, degree: NDArray[np.int64]) -> Float:
    """States of all items by layer, float32 [layers + 1, n_items, dim]."""
    with torch.inference_mode():
        layers = torch.stack([torch.cat(states) for states in graphs.run()[1]])
        # Nothing was learnt of an item that nobody took; its first state is mere chance.
        layers[:, torch.from_numpy(degree == 0)] = 0.0
    return layers.cpu().numpy()


def _mark(graphs: TransferGraphs, events: Events, asked: Queries, settings: str) -> str:
    """What the outcome of training depends on, the initial states included, as a short text."""
    digest = hashlib.blake2b(settings.encode())
    first = [table.detach().cpu().numpy() for table in graphs.items]
    for array in (events.offsets, events.domain, events.item, asked.position, *first):
        digest.update(array.tobytes())
    return digest.hexdigest()
