"""More of what reads alike: cosine of text vectors to the items of the history.

No training on behaviour at all, so it serves new items from their first minute. Vectors are
whitened per domain first, which is half of what text gives; those of a side network are whitened
already and only centred.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from isthmus.alignment.features import Whitening
from isthmus.baselines.history import flat_items, history_matrix
from isthmus.data.dataset import Dataset, Events
from isthmus.data.features import ItemFeatures
from isthmus.scoring import Float, Requests, Scores, pick
from isthmus.training.checkpoint import State


class ContentKNNConfig(BaseModel):
    """What of a history counts, and how vectors are prepared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    merged: bool = Field(
        True, description="History of all domains; off: the target's own history alone."
    )
    elsewhere: float = Field(
        0.05, ge=0, description="Weight of the other domains' history; more tells against the own."
    )
    recency: float = Field(
        0.75, gt=0, le=1, description="Factor per event of age within one domain's history."
    )
    last: int = Field(20, ge=1, description="Latest events with a text that count, by domain.")
    whiten_dim: int | None = Field(
        None, ge=2, description="Directions kept by per-domain whitening; None: all."
    )
    shrinkage: float = Field(
        0.05, ge=0, le=1, description="Of whitening; guards small catalogues against noise."
    )


class ContentKNN:
    """Mean cosine to the latest items of the target, and faintly to those of other domains.

    The faint part leaves the order alone where the target's own history speaks, and answers for
    people who have none there.

    An item without a text scores the mean of its request, neither for nor against it. A request
    without any text in its history scores all items alike.
    """

    name = "text"

    def __init__(
        self,
        table: Float,
        row: NDArray[np.int64],
        item_offsets: NDArray[np.int64],
        config: ContentKNNConfig,
    ) -> None:
        """Args are what `state` saves.

        table: float32 [n_texts, dim] unit vectors of the distinct texts of each domain, ordered by
            content, so that no sum depends on an item's number and equal texts tie.
        row: int64 [n_items] place of each item in the table in flat numbering, -1 without text.
        item_offsets: int64 [n_domains + 1].
        config: as fitted.
        """
        self.config = config
        self._table, self._row, self._item_offsets = table, row, item_offsets

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        events: Events,
        features: Sequence[ItemFeatures],
        config: ContentKNNConfig | None = None,
    ) -> Self:
        """Whiten the text vectors of each domain; `events` teach it nothing.

        Args:
            dataset: the snapshot that the features belong to.
            events: unused, so that baselines are fitted alike.
            features: raw text vectors, one for each domain and of one width.
            config: see there.
        """
        config = config or ContentKNNConfig()
        tables, rows, start = [], [], 0
        for feature in features:
            whitening, distinct, inverse = _whitening(feature, config)
            row = np.full(len(feature), -1, np.int64)
            row[feature.present] = start + inverse.reshape(-1)
            tables.append(whitening.transform(distinct))
            rows.append(row)
            start += len(distinct)
        return cls(np.concatenate(tables), np.concatenate(rows), dataset.item_offsets, config)

    def whitening(self, feature: ItemFeatures) -> Whitening:
        """The map that `fit` found for a domain, found again from its raw vectors."""
        return _whitening(feature, self.config)[0]

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """See `Scorer`."""
        query = self._query(requests, domain)
        if self.config.merged and self.config.elsewhere:
            for other in np.unique(requests.domain[requests.domain != domain]):
                query += np.float32(self.config.elsewhere) * self._query(requests, other)
        row = self._row[self._item_offsets[domain] : self._item_offsets[domain + 1]]
        present = row >= 0
        total = np.zeros((len(requests), len(row)), np.float32)
        if present.any():
            own, count = np.unique(row[present], return_counts=True)
            texts = self._table[own[0] : own[-1] + 1]
            total[:, present] = (query @ texts.T)[:, row[present] - own[0]]
            total[:, ~present] = (query @ (count @ texts / count.sum()))[:, None]
        return Scores(pick(total, items))

    def _query(self, requests: Requests, domain: int) -> Float:
        """Decayed sum of the vectors of each history in one domain, float32 [batch, dim]."""
        own = requests.only(domain)
        flat = flat_items(own, self._item_offsets)
        column = np.where(flat >= 0, self._row[flat], -1)
        settings = self.config
        history = history_matrix(
            own, column, len(self._table), decay=settings.recency, last=settings.last
        )
        query: Float = history @ self._table
        return query

    def state(self) -> State:
        """Vectors of the distinct texts, which item has which, and the configuration."""
        return State(
            {"table": self._table, "row": self._row, "item_offsets": self._item_offsets},
            {"config": self.config.model_dump(mode="json")},
        )

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The same scorer again."""
        return cls(
            state.arrays["table"].astype(np.float32),
            state.arrays["row"].astype(np.int64),
            state.arrays["item_offsets"].astype(np.int64),
            ContentKNNConfig.model_validate(state.meta["config"]),
        )


def _whitening(
    feature: ItemFeatures, config: ContentKNNConfig
) -> tuple[Whitening, Float, NDArray[np.int64]]:
    """Whitening of one domain, its distinct raw vectors [n_texts, d], and the place of each."""
    distinct, inverse = np.unique(feature.vectors[feature.present], axis=0, return_inverse=True)
    # ZCA keeps the axes of the language model, so domains whitened apart can be compared. Shrunk
    # wholly, whitening takes off the mean and nothing else.
    whitening = Whitening.fit(
        distinct,
        dim=config.whiten_dim or distinct.shape[1],
        kind="zca",
        shrinkage=1.0 if feature.whitened else config.shrinkage,
    )
    return whitening, distinct, inverse
