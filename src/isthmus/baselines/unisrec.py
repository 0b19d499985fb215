"""UniSRec: sequences of texts, pretrained by contrast over all domains, then tuned to one.

Source: Hou, Mu, Zhao, Li, Ding, Wen, "Towards Universal Sequence Representation Learning for
Recommender Systems", KDD 2022. An item is its raw text vector, whitened by learnt parameters in a
mixture of experts; a transformer (the core model's) reads the history. First every next item is
told from the other items of its batch, whatever their domains; then the experts are tuned to the
target, with IDs beside the texts (the paper's transductive setting), which count as much as there
is evidence for them, so that items without any event are ranked by their texts. Without IDs it is
the paper's inductive setting, which ranks worse on Food–Kitchen (docs/baselines.md).

The paper's second contrast, of a sequence with a shortened copy, doubles the cost of a step for a
weight of a thousandth, and is left out. People's histories are read merged over the domains.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from isthmus.baselines.history import flat_items
from isthmus.baselines.needs import need_texts
from isthmus.config import Config, ModelConfig
from isthmus.data.batches import PackedBatch
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split
from isthmus.model.core import CoreModel
from isthmus.model.learn import evidence, learn
from isthmus.model.scorer import NeuralScorer
from isthmus.scoring import Requests
from isthmus.training.checkpoint import State
from isthmus.training.next_item import NextItemTask


class UniSRecConfig(BaseModel):
    """The recipe; sizes of the transformer and its training are those of the core model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    experts: int = Field(4, ge=1, description="Learnt whitenings that are mixed for each item.")
    temperature: float = Field(0.07, gt=0, description="Of both losses; scores are cosines.")
    share: float = Field(0.5, gt=0, lt=1, description="Of the epochs, for pretraining.")
    ids: bool = Field(True, description="Item embeddings beside the texts once it is tuned.")
    frozen: bool = Field(True, description="Leave the transformer as it was pretrained.")


class WhiteningExperts(nn.Module):
    """Text vectors [n, text_dim] → item vectors [n, dim] of length 1.

    Each expert takes off a learnt mean and multiplies with a learnt matrix; a gate, noisy in
    training, says how much each counts for an item.
    """

    def __init__(self, text_dim: int, dim: int, experts: int, generator: torch.Generator) -> None:
        super().__init__()
        start = torch.randn(experts, text_dim, dim, generator=generator) / text_dim**0.5
        self.matrix = nn.Parameter(start)
        self.mean = nn.Parameter(torch.zeros(experts, text_dim))
        self.gate = nn.Parameter(torch.zeros(text_dim, experts))
        self.noise = nn.Parameter(torch.zeros(text_dim, experts))

    def forward(self, text: Tensor) -> Tensor:
        """[n, text_dim] → [n, dim]."""
        logits = text @ self.gate
        if self.training:
            logits = logits + torch.randn_like(logits) * F.softplus(text @ self.noise)
        shares = logits.softmax(1)
        offset = torch.einsum("et,etd->ed", self.mean, self.matrix)
        told = torch.einsum("nt,etd->end", text, self.matrix) - offset[:, None]
        return F.normalize(torch.einsum("ne,end->nd", shares, told), dim=1)


class UniSRecModel(CoreModel):
    """The core model with experts in the place of its projection, and cosines for scores.

    Args:
        features: raw text vectors per domain.
        evidence: float32 [n_items] training events per item, flat.
        config: sizes; IDs are read where `use_ids` is on.
        seed: of the initial weights.
        options: of the recipe.
    """

    def __init__(
        self,
        features: Sequence[ItemFeatures],
        evidence: NDArray[np.float32],
        config: ModelConfig,
        seed: int,
        options: UniSRecConfig,
    ) -> None:
        super().__init__(features, evidence, config, seed)
        self.options = options
        generator = torch.Generator().manual_seed(seed)
        experts = WhiteningExperts(features[0].dim, config.dim, options.experts, generator)
        self.items.add_module("project", experts)

    def ask(self, states: Tensor, domain: int) -> Tensor:
        """States [n, dim] → queries [n, dim]; with unit vectors of items, cosine / temperature."""
        return F.normalize(states, dim=1) / self.options.temperature


class InBatchContrast(NextItemTask):
    """Every next item of the batch is told from all its other next items, of any domain."""

    def loss(self, batch: PackedBatch, rng: np.random.Generator) -> Tensor:
        """Mean cross-entropy over the batch, a scalar."""
        rows, place = np.unique(
            np.concatenate([self.flat[batch.inputs], self.flat[batch.targets]]),
            return_inverse=True,
        )
        read, wanted = np.split(place, [len(batch.inputs)])
        candidates, answer = np.unique(wanted, return_inverse=True)
        vectors = self.model.item_vectors(self._tensor(rows))
        states = self.model.states(
            vectors.index_select(0, self._tensor(read)),
            self._tensor(self.domain[batch.inputs]),
            self._tensor(self.time[batch.inputs]),
            self._tensor(batch.offsets),
        )
        # One question for all domains: what the next item is, wherever.
        queries = self.model.ask(states, 0)
        logits = queries @ vectors.index_select(0, self._tensor(candidates)).T
        return F.cross_entropy(logits, self._tensor(answer))

    def _tensor(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self.device)


class UniSRec(NeuralScorer):
    """Cosines of histories and items, by their texts."""

    model: UniSRecModel

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        split: Split,
        raw: Sequence[ItemFeatures],
        target: int,
        config: Config,
        options: UniSRecConfig | None = None,
        *,
        folder: Path | None = None,
    ) -> Self:
        """Pretrain on all domains, then tune to one.

        Args:
            dataset: the snapshot.
            split: training events and early-stopping questions.
            raw: text vectors as the language model gives them, per domain.
            target: index of the domain to tune to.
            config: sizes, epochs and seed, shared with the core model.
            options: see there.
            folder: checkpoints to resume from; pretraining is kept beside it, for other targets.

        Raises:
            ConfigError: there are no texts, or there is one domain only.
        """
        options = options or UniSRecConfig()
        need_texts("unisrec", dataset, [bool(f.present.any()) for f in raw], target)
        model = UniSRecModel(
            raw,
            evidence(dataset, split.train_events(dataset)),
            _sizes(config.model, options),
            config.seed,
            options,
        )
        everything = tuple(range(len(dataset.domains)))
        early = max(1, round(config.training.epochs * options.share))
        model.items.use_ids = False
        learn(
            model,
            dataset,
            split,
            _for_epochs(config, early),
            reads=everything,
            weights=[1.0] * len(everything),
            task=InBatchContrast,
            label="unisrec, pretraining",
            folder=folder.parent / "unisrec-pretraining" if folder else None,
            depends=f"{options.experts} {options.temperature}",
        )
        model.items.use_ids = options.ids
        model.users.requires_grad_(not options.frozen)
        learn(
            model,
            dataset,
            split,
            _for_epochs(config, max(1, config.training.epochs - early)),
            reads=everything,
            weights=[float(d == target) for d in everything],
            label="unisrec, tuning",
            folder=folder,
            depends=repr(options),
        )
        return cls(model, everything, name="unisrec")

    def queries(self, requests: Requests, domain: int) -> Tensor:
        """See `NeuralScorer.queries`; items that were added later are passed over."""
        known = flat_items(requests, np.asarray(self.model.bounds)) >= 0
        return super().queries(requests.keep(known), domain)

    def state(self) -> State:
        """Weights and switches; text vectors are kept apart."""
        state = super().state()
        return State(
            state.arrays, {**state.meta, "options": self.model.options.model_dump(mode="json")}
        )

    @classmethod
    def from_state(cls, state: State, features: Sequence[ItemFeatures]) -> Self:
        """The same scorer again, on the text vectors it was trained with."""
        arrays = dict(state.arrays)
        seen = arrays.pop("evidence").astype(np.float32)
        sizes = ModelConfig.model_validate(state.meta["config"])
        options = UniSRecConfig.model_validate(state.meta["options"])
        model = UniSRecModel(features, seen, sizes, 0, options)
        model.load_state_dict({n: torch.from_numpy(a.copy()) for n, a in arrays.items()})
        return cls(model, tuple(state.meta["reads"]), name=state.meta["name"])


def _sizes(config: ModelConfig, options: UniSRecConfig) -> ModelConfig:
    """The core model's sizes without what the recipe does not have."""
    return config.model_copy(
        update={
            "use_text": True,
            "use_ids": options.ids,
            "fusion": "sum",
            "head": "low-rank",
            "adapter_rank": 0,
            "time_gaps": False,
            "cross_attention_penalty": 0.0,
        }
    )


def _for_epochs(config: Config, epochs: int) -> Config:
    training = config.training.model_copy(update={"epochs": epochs, "newcomer_steps": 0.0})
    return config.model_copy(update={"training": training})
