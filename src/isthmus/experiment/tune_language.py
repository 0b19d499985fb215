"""Behaviour-aware tuning of the language model, from a dataset to weights and what they are worth.

Histories and pairs come from the training events of the split alone. What is reported is measured
on the half of the validation questions that the gate uses; the test questions are left for
`compare`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.alignment.features import Whitening
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.next_items import next_items
from isthmus.data.pairs import surprising_pairs
from isthmus.data.splits import Split, configured_split
from isthmus.experiment.environment import begin_peak, peak_rss_mb
from isthmus.experiment.records import write_whole
from isthmus.experiment.text_only import figures, text_only
from isthmus.language.catalogues import encode_catalogues
from isthmus.language.tuning.samplers import Readable
from isthmus.language.tuning.side import SideNetwork
from isthmus.language.tuning.tune import Map, Material, Tuning, tune
from isthmus.language.tuning.weights import TunedWeights
from isthmus.training.loop import pick_device

_SHRINKAGE = 0.05  # as in text similarity, which reads the vectors
_NEAR = 20
SHARES = (1.0, 0.6, 0.3, 0.15)
"""Of what a side network has learnt, beside what the model says itself."""
RECORD = "tuning.json"


@dataclass(frozen=True)
class Tuned:
    """A finished run.

    Attributes:
        tuning: the weights and how they were learnt.
        figures: text-only ranking of tuned and frozen vectors by domain, on validation.
        asked: what the figures depend on beside the method: base model, domains, data.
        peak_mb: memory of the process, or of the GPU where one was used.
        seconds: of learning.
    """

    tuning: Tuning
    figures: dict[str, dict[str, dict[str, Any]]]
    asked: dict[str, Any]
    peak_mb: float
    seconds: float

    def row(self) -> dict[str, Any]:
        """What the table of methods shows of it."""
        return {
            "method": self.tuning.weights.config.method,
            "trainable_share": self.tuning.trainable_share,
            "megabytes": self.tuning.weights.n_bytes / 2**20,
            "peak_mb": self.peak_mb,
            "seconds_per_step": self.tuning.seconds_per_step,
            "steps": self.tuning.steps,
            "seconds": self.seconds,
            "held_out_nats": list(self.tuning.nats),
            "truncated": self.tuning.truncated,
            "share": self.tuning.weights.share,
            "quality": self.figures,
            "asked": self.asked,
        }


def tune_language(
    dataset: Dataset,
    config: Config,
    out: Path,
    *,
    split: Split | None = None,
    only: Sequence[str] | None = None,
    checkpoints: Path | None = None,
    curves: Path | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> Tuned:
    """Tune on the training events, save the weights to `out`, and measure texts alone.

    Args:
        dataset: the snapshot.
        config: everything else.
        out: folder of the weights.
        split: None makes the configured one.
        only: domains to tune for; what is learnt from is then within these. None: all.
        checkpoints: where a killed run goes on from.
        curves: folder of training curves, by `config.tracking`; None: none.
        tell: told what begins.

    Raises:
        RequestError: an unknown domain.
        LanguageModelError, CheckpointError, TrainingError: see `isthmus.language.tuning.tune`.
    """
    split = split or configured_split(dataset, config.split)
    chosen = [dataset.domain_index(name) for name in only or dataset.names]
    names = [dataset.names[d] for d in chosen]
    base = config.language.plain
    tell("encoding texts with the model as it is")
    device = config.training.device
    frozen = encode_catalogues(dataset.domains, base, device=device)
    material = gather(dataset, split, frozen, config, chosen)
    tell(f"tuning by {config.tuning.method}")
    _begin_peak_mb(device)
    tuning = tune(
        material,
        base,
        config.tuning,
        seed=config.seed,
        device=device,
        threads=config.training.threads,
        folder=checkpoints,
        curves=curves,
        tracking=config.tracking,
        about={"domains": names},
    )
    peak = _peak_mb(device)
    if config.tuning.method == "side":
        tell("choosing how much of it is read")
        read = frozen
        if layers := config.tuning.hidden_layers:
            wide = base.model_copy(update={"layers": layers})
            read = encode_catalogues(dataset.domains, wide, device=device)
        weights = _well_shared(tuning.weights, dataset, split, read, config, names)
        tuning = replace(tuning, weights=weights)
    tuning.weights.save(out)
    tell("encoding texts with the tuned model")
    after = encode_catalogues(
        dataset.domains, base.model_copy(update={"tuned": out}), device=device
    )
    settings = config.evaluation
    measured = figures(
        text_only(dataset, split, after, settings), text_only(dataset, split, frozen, settings)
    )
    return Tuned(
        tuning,
        {name: found for name, found in measured.items() if name in names},
        {
            "base": tuning.weights.base,
            "domains": names,
            "data": _fingerprint(dataset, split, config),
        },
        peak,
        tuning.seconds_per_step * tuning.steps,
    )


def _well_shared(
    weights: TunedWeights,
    dataset: Dataset,
    split: Split,
    read: Sequence[ItemFeatures],
    config: Config,
    names: Sequence[str],
) -> TunedWeights:
    """A side network with the share under which texts alone rank best.

    It is chosen on the half of the validation questions that training stops by, as the mean over
    domains of the logarithm of NDCG@10.
    """

    def quality(candidate: TunedWeights) -> float:
        n_hidden = len(candidate.config.hidden_layers)
        dim = read[0].vectors.shape[1] // (1 + n_hidden)
        network = SideNetwork(dim, candidate.config.width, n_hidden)
        network.load_state_dict(candidate.tensors())
        features = [
            replace(feature, vectors=network.eval().read(feature.vectors), whitened=True)
            for feature in read
        ]
        found = text_only(dataset, split, features, config.evaluation, "stopping")
        ndcg = [found[name].mean("ndcg@10") for name in names if name in found]
        return float(np.mean(np.log(np.maximum(ndcg, 1e-9)))) if ndcg else 0.0

    # Where nothing is asked all are alike, and the first, the largest, stands.
    return max((weights.with_share(share) for share in SHARES), key=quality)


def gather(
    dataset: Dataset,
    split: Split,
    frozen: Sequence[ItemFeatures],
    config: Config,
    domains: Sequence[int],
) -> Material:
    """Texts, behaviour, and the coordinates in which texts are compared.

    Args:
        dataset: the snapshot.
        split: what may be learnt from.
        frozen: vectors of the base model, by domain.
        config: window and decay of pairs, hard negatives.
        domains: behaviour is within and across these.
    """
    place: dict[str, int] = {}
    text = np.array(
        [
            place.setdefault(text, len(place)) if text and not text.isspace() else -1
            for domain in dataset.domains
            for text in domain.items["text"]
        ],
        np.int64,
    )
    home = np.repeat(np.arange(len(dataset.domains)), np.diff(dataset.item_offsets))
    tuning = config.tuning
    events = split.train_events(dataset)
    pairs = surprising_pairs(dataset, events, window=tuning.window, decay=tuning.order_decay)
    usable = (text >= 0) & np.isin(home, domains)
    pairs = pairs.where(
        usable[pairs.first] & usable[pairs.second] & (text[pairs.first] != text[pairs.second])
    )
    vectors = [_distinct(feature) for feature in frozen]
    return Material(
        list(place),
        Readable(text, home),
        pairs,
        next_items(dataset, events, usable),
        [_whitened(rows) for rows in vectors],
        _whitened_together(vectors),
        _nearest(frozen, dataset) if tuning.hard_share else None,
    )


def record_run(folder: Path, tuned: Tuned) -> list[dict[str, Any]]:
    """Add a run to the folder's table, in place of an earlier one of the same method and question.

    Returns:
        The rows that can be held against it: of the same base model, domains and data. The file
        keeps the others too.
    """
    path = folder / RECORD
    rows = [] if not path.is_file() else json.loads(path.read_text("utf-8"))
    row = tuned.row()

    def comparable(other: dict[str, Any]) -> bool:
        return bool(other.get("asked") == row["asked"])

    kept = [o for o in rows if not (comparable(o) and o["method"] == row["method"])] + [row]
    write_whole(path, (json.dumps(kept, indent=1) + "\n").encode())
    return [other for other in kept if comparable(other)]


def _fingerprint(dataset: Dataset, split: Split, config: Config) -> str:
    """The same for the same events, texts, split and way of asking."""
    asking = config.evaluation.model_dump(mode="json", exclude={"batch"})
    reading = [config.language.pooling, config.language.max_tokens]
    settings = json.dumps([dataset.fingerprint, split.name, asking, reading], sort_keys=True)
    digest = hashlib.blake2b(settings.encode(), digest_size=16)
    for array in (split.in_train, split.stopping.position, split.tuning.position):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _distinct(feature: ItemFeatures) -> NDArray[np.float32]:
    return np.unique(feature.vectors[feature.present], axis=0)


def _whitened(rows: NDArray[np.float32]) -> Map:
    if not len(rows):  # nobody's texts: any map will do
        return np.zeros(rows.shape[1], np.float32), np.eye(rows.shape[1], dtype=np.float32)
    found = Whitening.fit(rows, dim=rows.shape[1], kind="zca", shrinkage=_SHRINKAGE)
    return found.mean, found.matrix


def _whitened_together(vectors: Sequence[NDArray[np.float32]]) -> Map:
    """One map for all domains; what merely tells their centres apart is no direction of its own."""
    centred = np.concatenate([rows - rows.mean(0) for rows in vectors if len(rows)] or vectors)
    mean = np.concatenate(vectors).mean(0, dtype=np.float64) if len(centred) else centred.sum(0)
    return mean.astype(np.float32), _whitened(centred)[1]


def _nearest(frozen: Sequence[ItemFeatures], dataset: Dataset) -> NDArray[np.int64]:
    """Items of the same domain whose whitened texts are nearest, [n_items, k] flat."""
    # An item without another near it has itself, which is never a negative.
    near = np.repeat(np.arange(dataset.n_items)[:, None], _NEAR, axis=1)
    for feature, start in zip(frozen, dataset.item_offsets, strict=False):
        rows = np.flatnonzero(feature.present)
        if not len(rows):
            continue
        mean, matrix = _whitened(_distinct(feature))
        unit = Whitening(mean, matrix).transform(feature.vectors[rows])
        for at in range(0, len(rows), 1024):
            cosine = unit[at : at + 1024] @ unit.T
            count = min(_NEAR, len(rows) - 1)
            if not count:
                continue
            best = np.argpartition(-cosine, count, axis=1)[:, : count + 1]
            near[start + rows[at : at + 1024]] = start + rows[best[:, np.arange(_NEAR) % count]]
    return near


def _begin_peak_mb(device: str) -> None:
    """Let `_peak_mb` begin anew."""
    begin_peak()
    place = pick_device(device)
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)


def _peak_mb(device: str) -> float:
    """Peak memory in MiB: of the GPU where one is used, else of the process."""
    place = pick_device(device)
    return torch.cuda.max_memory_allocated(place) / 2**20 if place.type == "cuda" else peak_rss_mb()
