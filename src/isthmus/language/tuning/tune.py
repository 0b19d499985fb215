"""One run of behaviour-aware tuning, by any method: texts and behaviour in, tuned weights out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.config import LanguageConfig, TrackingConfig, TuningConfig
from isthmus.data.next_items import NextItems
from isthmus.data.pairs import ItemPairs
from isthmus.errors import TrainingError
from isthmus.language.encoder import TextEncoder
from isthmus.language.learning import Pace, learn, run_mark
from isthmus.language.models import load_torch_model
from isthmus.language.tokens import Tokens, length_batches
from isthmus.language.tuning.contrast import Contrast, Space, held_out_score
from isthmus.language.tuning.methods import RATES, Tunable
from isthmus.language.tuning.samplers import (
    HistorySampler,
    Negatives,
    PairSampler,
    Readable,
    Rows,
    Sampler,
)
from isthmus.language.tuning.side import SideNetwork
from isthmus.language.tuning.weights import TunedWeights
from isthmus.training.loop import pick_device
from isthmus.training.memory import enough_memory

Map = tuple[NDArray[np.float32], NDArray[np.float32]]
"""What is taken off vectors, and what they are then multiplied with."""

_TOKENS_AT_ONCE = 2048
# What suits a network that costs next to nothing a text, and what suits all others.
_EXAMPLES, _NEGATIVES, _HISTORY = {"side": 512}, {"side": 512}, {"side": 8}


@dataclass(frozen=True)
class Material:
    """What there is to learn from.

    Attributes:
        texts: distinct, none blank.
        readable: which item has which of them.
        pairs: of items that have a text.
        behaviour: histories of such items.
        spaces: the map of each domain behind which cosines are taken.
        whole: the map [dim, dim] of all domains together, in whose coordinates `side` learns.
        near: int64 [n_items, k] items with the nearest texts, for hard negatives; None: none.
    """

    texts: list[str]
    readable: Readable
    pairs: ItemPairs
    behaviour: NextItems
    spaces: Sequence[Map]
    whole: Map
    near: Rows | None = None


@dataclass(frozen=True)
class Tuning:
    """What came of it.

    Attributes:
        weights: to be saved.
        trainable_share: parameters that learnt, as a share of the base model's and their own.
        seconds_per_step: mean, looks at held-out examples left out.
        steps: done before held-out examples stopped gaining.
        nats: held-out loss before and after.
        truncated: texts that the model does not see the end of.
    """

    weights: TunedWeights
    trainable_share: float
    seconds_per_step: float
    steps: int
    nats: tuple[float, float]
    truncated: int


@dataclass
class _Learner:
    """A module that learns, and how it reads texts by row."""

    module: torch.nn.Module
    own: dict[str, torch.nn.Parameter]
    vectors: Callable[[Rows], Tensor]
    space: Space
    share: float
    truncated: int
    extra: Callable[[], Tensor | None] = lambda: None
    after: Callable[[int], None] = lambda _made: None
    settled: Callable[[], bool] = lambda: True

    def tensors(self) -> dict[str, Tensor]:
        """What is saved."""
        if isinstance(self.module, SideNetwork):
            return dict(self.module.state_dict())
        return dict(self.own)


@enough_memory(
    "tuning.batch_examples",
    "tuning.negatives",
    "language.max_tokens",
    else_="method = 'side' needs least",
)
def tune(
    material: Material,
    language: LanguageConfig,
    config: TuningConfig,
    *,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    folder: Path | None = None,
    curves: Path | None = None,
    tracking: TrackingConfig | None = None,
    about: dict[str, object] | None = None,
) -> Tuning:
    """Tune a language model by what people choose together.

    Args:
        material: texts and behaviour.
        language: the base model; weights tuned before are left out.
        config: method, sizes, steps.
        seed: of initial values, draws and dropout.
        device: as `training.device`.
        threads: as `training.threads`.
        folder: of checkpoints; a killed run that is called again goes on from there.
        curves: folder of training curves; None: none.
        tracking: which tools take them.
        about: kept with the weights.

    Raises:
        LanguageModelError: the model cannot be found or does not suit the method.
        TrainingError: too few examples, memory ran out, or the loss is not a number.
    """
    place = pick_device(device)
    base = language.plain
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner, encoder = _learner(material, base, config, place)
    training, held_out = _samplers(material, config, seed)
    task = Contrast(
        learner.module,
        learner.own,
        learner.vectors,
        training,
        material.readable,
        learner.space,
        temperature=config.temperature,
        steps=config.n_steps,
        device=place,
        extra=learner.extra,
        after=learner.after,
    )
    score = held_out_score(task, held_out, seed)
    learner.module.eval()
    before = score()
    mark = run_mark(
        *(config, seed, encoder.fingerprint, material.texts),
        *(material.pairs.weight, material.pairs.first, material.behaviour.item),
    )
    rate = config.learning_rate or RATES[config.method]
    pace = Pace(
        rate=rate,
        patience=config.patience,
        seed=seed,
        folder=folder,
        mark=mark,
        threads=threads,
        curves=curves,
        tracking=tracking or TrackingConfig(),
    )
    log = learn(
        task,
        lambda: score() if learner.settled() else None,
        pace,
        label=f"tuning ({config.method})",
    )
    steps = len(log.epochs) * task.batches_per_epoch
    weights = TunedWeights.of(
        learner.tensors(),
        config,
        encoder.reader.facts,
        encoder.pooling,
        base_name=language.model,
        about=about or {},
    )
    return Tuning(
        weights=weights,
        trainable_share=learner.share,
        seconds_per_step=log.step_seconds / max(1, steps),
        steps=steps,
        nats=(-before, -score()),
        truncated=learner.truncated,
    )


def _samplers(material: Material, config: TuningConfig, seed: int) -> tuple[Sampler, Sampler]:
    """Of what is learnt from, and of what is held out to stop by."""
    size = config.batch_examples or _EXAMPLES.get(config.method, 64)
    drawn = _NEGATIVES.get(config.method, 0) if config.negatives is None else config.negatives
    length = _HISTORY.get(config.method, 0) if config.history is None else config.history
    negatives = Negatives(material.readable, drawn, material.near, config.hard_share)
    if not length:
        learnt, held = (
            PairSampler(
                pairs,
                material.readable,
                size=size,
                negatives=negatives,
                cross_share=config.cross_share,
            )
            for pairs in _divided_pairs(material.pairs, config.held_out, seed)
        )
        return learnt, held
    first, second = (
        HistorySampler(
            material.behaviour,
            answers,
            size=size,
            negatives=negatives,
            length=length,
            recency=config.recency,
        )
        for answers in _divided_answers(material.behaviour, config.held_out, seed)
    )
    return first, second


def _divided_pairs(pairs: ItemPairs, share: float, seed: int) -> tuple[ItemPairs, ItemPairs]:
    """Pairs to learn and pairs to stop by; both directions of a pair on one side."""
    low, high = np.minimum(pairs.first, pairs.second), np.maximum(pairs.first, pairs.second)
    _, inverse = np.unique(np.stack([low, high]), axis=1, return_inverse=True)
    pair = inverse.reshape(-1)
    held_out = _held(pair, share, seed, "surprising pair(s) of items with a text")[pair]
    return pairs.where(~held_out), pairs.where(held_out)


def _divided_answers(behaviour: NextItems, share: float, seed: int) -> tuple[Rows, Rows]:
    """Answers to learn and answers to stop by, of other people."""
    answers = behaviour.answers
    _, person = np.unique(behaviour.person[answers], return_inverse=True)
    held_out = _held(person, share, seed, "person(s) with two items with a text")[person]
    return answers[~held_out], answers[held_out]


def _held(group: Rows, share: float, seed: int, what: str) -> NDArray[np.bool_]:
    """Which groups, numbered from 0, are held out."""
    n = int(group.max(initial=-1)) + 1
    if n < 2:
        raise TrainingError(
            f"{n} {what} to learn from",
            where="tuning",
            hint="It takes more training events, or texts for more items; see 'isthmus check'",
        )
    held = np.zeros(n, bool)
    held[np.random.default_rng(seed).permutation(n)[: max(1, round(n * share))]] = True
    return held


def _learner(
    material: Material, base: LanguageConfig, config: TuningConfig, device: torch.device
) -> tuple[_Learner, TextEncoder]:
    if config.method == "side":
        return _side_learner(material, base, config, device)
    encoder = TextEncoder.load(base, device=str(device))
    tunable = Tunable(load_torch_model(encoder.reader.folder), encoder.pooling, config).to(device)
    room = encoder.reader.facts.positions
    if config.method in ("prefix", "prompt"):
        room -= config.virtual_tokens
    tokens = encoder.tokens(material.texts, room)
    learner = _Learner(
        tunable,
        tunable.own(),
        lambda rows: in_stretches(tunable, tokens, rows, device),
        Space(material.spaces, device),
        tunable.trainable_share(),
        int(tokens.truncated.sum()),
        tunable.penalty,
        tunable.after_step,
        lambda: tunable.settled,
    )
    return learner, encoder


def _side_learner(
    material: Material, base: LanguageConfig, config: TuningConfig, device: torch.device
) -> tuple[_Learner, TextEncoder]:
    wide = base.model_copy(update={"layers": config.hidden_layers})
    encoder = TextEncoder.load(wide, device=str(device))
    read = encoder.encode(material.texts).vectors
    vectors = torch.from_numpy(read).to(device)
    facts, report = encoder.reader.facts, encoder.report
    network = SideNetwork(facts.dim, config.width, len(config.hidden_layers))
    network.settle(*material.whole)
    network.settle_hidden(read)
    network.to(device)
    own = sum(p.numel() for p in network.parameters())
    # The network's own coordinates are whitened.
    plain = (np.zeros(facts.dim, np.float32), np.eye(facts.dim, dtype=np.float32))
    learner = _Learner(
        network,
        dict(network.named_parameters()),
        lambda rows: network(vectors[torch.from_numpy(rows).to(device)]),
        Space([plain] * len(material.spaces), device),
        own / (own + facts.weight_bytes // 4),
        report.n_truncated if report else 0,
    )
    return learner, encoder


def in_stretches(
    model: torch.nn.Module, tokens: Tokens, rows: Rows, device: torch.device
) -> Tensor:
    """Vectors of the texts at `rows` [n], in stretches of like length → [n, dim]."""
    parts, order = [], []
    for batch in length_batches(tokens.lengths[rows], _TOKENS_AT_ONCE):
        ids, mask = tokens.padded(rows[batch])
        parts.append(model(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)))
        order.append(batch)
    back = torch.from_numpy(np.argsort(np.concatenate(order))).to(device)
    return torch.cat(parts)[back]
