"""A fitted system over a larger snapshot: the same weights, with room for what has come.

Catalogues grow at their ends, so old items only move in the flat numbering. A new item is known by
its text, put through the maps that were fitted to the old ones, and by nothing else: its ID row is
zero, and counts for nothing until it has events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.alignment.domains import FeatureAlignment
from isthmus.baselines.content import ContentKNN
from isthmus.baselines.cooccurrence import CoOccurrence
from isthmus.baselines.popular import RecentPopular
from isthmus.blend import Blend
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.model.core import CoreModel
from isthmus.model.scorer import NeuralScorer
from isthmus.scoring import Scorer
from isthmus.training.checkpoint import State
from isthmus.transfer.sides import Side
from isthmus.transfer.system import System

Encode = Callable[[str, Sequence[str | None]], ItemFeatures]
"""A domain's name and texts of its items → their vectors."""


@dataclass(frozen=True)
class Room:
    """Where old items stand among the grown catalogues.

    Attributes:
        place: int64 [n_items before] flat number that each old item has now.
        offsets: int64 [n_domains + 1] of the larger snapshot.
        n_before: int64 [n_domains + 1] of the smaller one.
    """

    place: NDArray[np.int64]
    offsets: NDArray[np.int64]
    n_before: NDArray[np.int64]

    @classmethod
    def between(cls, before: NDArray[np.int64], after: NDArray[np.int64]) -> Room:
        """From the flat offsets of both snapshots."""
        sizes = np.diff(before)
        place = np.arange(before[-1]) + np.repeat(after[:-1] - before[:-1], sizes)
        return cls(place, after, before)

    def padded(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Values per old item [n_items before, …] → per item now, zero for new ones."""
        grown = np.zeros((int(self.offsets[-1]), *values.shape[1:]), values.dtype)
        grown[self.place] = values
        return grown


def rows_to_read(
    before: Dataset, dataset: Dataset, fitted_items: Sequence[int]
) -> list[NDArray[np.int64]]:
    """Per domain, items of the larger snapshot that are new or have another text than before.

    Those that the alignment was fitted to keep theirs; int64 [n].
    """
    found = []
    for old, new, n_fitted in zip(before.domains, dataset.domains, fitted_items, strict=True):
        same = new.items["text"].head(old.n_items).eq_missing(old.items["text"]).to_numpy()
        anew = np.ones(new.n_items, bool)
        anew[: old.n_items] = ~same
        anew[:n_fitted] = False
        found.append(np.flatnonzero(anew))
    return found


def grown_features(
    raw: Sequence[ItemFeatures],
    dataset: Dataset,
    rows: Sequence[NDArray[np.int64]],
    encode: Encode,
) -> list[ItemFeatures]:
    """Text vectors as the language model gives them, for the larger snapshot.

    Args:
        raw: per domain, of the smaller snapshot.
        dataset: the larger one.
        rows: see `rows_to_read`.
        encode: reads texts; not called where there is none to read.
    """
    grown = []
    for before, domain, anew in zip(raw, dataset.domains, rows, strict=True):
        texts = domain.items["text"].gather(anew).to_list()
        if any(texts):
            read = encode(domain.name, texts)
        else:
            vectors = np.zeros((len(texts), before.dim), np.float32)
            read = ItemFeatures(vectors, np.zeros(len(texts), bool))
        grown.append(_replaced(before, domain.n_items, anew, read))
    return grown


def grown_system(
    system: System,
    before: Dataset,
    dataset: Dataset,
    raw: Sequence[ItemFeatures],
    config: Config,
    *,
    fitted_items: Sequence[int],
    rows: Sequence[NDArray[np.int64]],
) -> System:
    """The same system over a larger snapshot; itself where the items are the same.

    Args:
        system: fitted; it is not changed.
        before: the snapshot it belongs to.
        dataset: the larger one, with the same domains.
        raw: text vectors per domain of the larger snapshot; see `grown_features`.
        config: how texts are aligned.
        fitted_items: items per domain, the first ones, that the alignment was fitted to.
        rows: see `rows_to_read`.
    """
    if not any(map(len, rows)):
        return system
    room = Room.between(before.item_offsets, dataset.item_offsets)
    apart = system.own_features is not system.features
    features = _extended(system.features, raw, config, before, fitted_items, rows)
    own_features = features
    if apart:
        own = config.alignment.model_copy(update={"features": ["whiten"], "basis": "own"})
        alike = config.model_copy(update={"alignment": own})
        own_features = _extended(system.own_features, raw, alike, before, fitted_items, rows)
    transferred = grown_side(system.transferred, dataset, raw, features, room)
    alone = {
        d: transferred
        if side is system.transferred
        else grown_side(side, dataset, raw, own_features, room)
        for d, side in system.alone.items()
    }
    return replace(
        system,
        transferred=transferred,
        alone=alone,
        features=features,
        own_features=own_features,
    )


def grown_side(
    side: Side,
    dataset: Dataset,
    raw: Sequence[ItemFeatures],
    features: Sequence[ItemFeatures],
    room: Room,
) -> Side:
    """One side over the larger snapshot, with the weights it has."""
    neural = grown_scorer(side.neural, features, room)
    parts: dict[str, Scorer] = {
        name: neural if name == "neural" else _grown_part(part, dataset, raw, room)
        for name, part in side.parts.items()
    }
    blend = Blend(parts, side.blend.weights, newcomers=side.blend.newcomers, name=side.blend.name)
    return replace(side, neural=neural, parts=parts, blend=blend)


def grown_scorer(
    neural: NeuralScorer,
    features: Sequence[ItemFeatures],
    room: Room,
    evidence: NDArray[np.float32] | None = None,
) -> NeuralScorer:
    """A copy of a trained model over the larger catalogues; nothing of it is shared.

    Args:
        neural: trained.
        features: aligned text vectors of all items.
        room: where old items stand now.
        evidence: float32 [n_items] events per item; None: as the model knows them, none of new
            items.
    """
    old = neural.model
    if evidence is None:
        evidence = room.padded(old.items.evidence.cpu().numpy()).astype(np.float32)
    model = CoreModel(features, evidence, old.config, seed=0)
    weights = {name: value.detach().clone() for name, value in old.state_dict().items()}
    table = weights["items.table"]
    grown = table.new_zeros(model.items.table.shape)
    grown[torch.from_numpy(room.place).to(table.device)] = table
    weights["items.table"] = grown
    model.load_state_dict(weights)
    return NeuralScorer(model.to(table.device), neural.reads, name=neural.name)


def up_to_date(system: System, dataset: Dataset, *, company: bool = False) -> System:
    """The same system with popularity counted anew, for that is looked up and not learnt.

    Args:
        system: fitted; it is not changed.
        dataset: holds the events to count, with the system's catalogues.
        company: count what follows what as well; these events can then judge and weigh no more.
    """
    transferred = _counted(system.transferred, dataset, company)
    alone = {
        d: transferred if side is system.transferred else _counted(side, dataset, company)
        for d, side in system.alone.items()
    }
    return replace(system, transferred=transferred, alone=alone)


def _counted(side: Side, dataset: Dataset, company: bool) -> Side:
    events = dataset.events.only(*side.neural.reads)
    parts = dict(side.parts)
    for name, part in side.parts.items():
        if isinstance(part, RecentPopular):
            parts[name] = RecentPopular.fit(dataset, events)
        elif isinstance(part, CoOccurrence) and company:
            parts[name] = CoOccurrence.fit(dataset, events, part.config)
    blend = Blend(parts, side.blend.weights, newcomers=side.blend.newcomers, name=side.blend.name)
    return replace(side, parts=parts, blend=blend)


def _grown_part(part: Scorer, dataset: Dataset, raw: Sequence[ItemFeatures], room: Room) -> Scorer:
    """A part with nothing to say of new items but what their texts tell."""
    if isinstance(part, ContentKNN):
        return ContentKNN.fit(dataset, dataset.events, raw, part.config)
    if isinstance(part, CoOccurrence):
        return part.renumbered(room.place, room.offsets)
    if isinstance(part, RecentPopular):
        state = _wider(part.state(), room)
        state.arrays["untimed"] = room.padded(state.arrays["untimed"])
        return RecentPopular.from_state(state)
    raise TypeError(f"{type(part).__name__} is no part of a blend")


def _wider(state: State, room: Room) -> State:
    """A state that holds a CSR whose columns are items, in the larger numbering."""
    arrays: dict[str, NDArray[np.generic]] = dict(state.arrays)
    arrays["indices"] = room.place[arrays["indices"].astype(np.int64)]
    arrays["item_offsets"] = room.offsets
    return State(arrays, state.meta)


def _extended(
    features: Sequence[ItemFeatures],
    raw: Sequence[ItemFeatures],
    config: Config,
    before: Dataset,
    fitted_items: Sequence[int],
    rows: Sequence[NDArray[np.int64]],
) -> list[ItemFeatures]:
    """Aligned vectors with those of what is read anew; the others stay as they are."""
    first = [_taken(r, slice(n)) for r, n in zip(raw, fitted_items, strict=True)]
    domains = tuple(
        replace(domain, items=domain.items.head(n))
        for domain, n in zip(before.domains, fitted_items, strict=True)
    )
    alignment = FeatureAlignment.fit(first, config, replace(before, domains=domains))
    return [
        _replaced(old, len(r), anew, alignment.extend(d, _taken(r, anew))) if len(anew) else old
        for d, (old, r, anew) in enumerate(zip(features, raw, rows, strict=True))
    ]


def _taken(features: ItemFeatures, rows: NDArray[np.int64] | slice) -> ItemFeatures:
    return replace(features, vectors=features.vectors[rows], present=features.present[rows])


def _replaced(
    features: ItemFeatures, n_items: int, rows: NDArray[np.int64], anew: ItemFeatures
) -> ItemFeatures:
    """Features of `n_items` items, some of them anew; themselves where none is."""
    if not len(rows):
        return features
    n_more = n_items - len(features)
    vectors = np.pad(features.vectors, ((0, n_more), (0, 0)))
    present = np.pad(features.present, (0, n_more))
    vectors[rows], present[rows] = anew.vectors, anew.present
    return replace(features, vectors=vectors, present=present)
