"""A language model that reads two texts in one sequence and tells a class or a number of them.

Fine-tuned on (text of a person's history, text of an item) → label, or on any other pairs. Only
the weights that were tuned are saved, with the fingerprint of the model they belong to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from isthmus.config import CrossEncoderConfig, TrackingConfig, TrainingConfig
from isthmus.errors import CheckpointError, LanguageModelError
from isthmus.language.cross_encoder_tokens import PairTokens, pair_tokens
from isthmus.language.cross_encoder_tuning import (
    BATCH_TOKENS,
    IN_FRONT,
    LabelledPairs,
    PairTask,
    opened,
    thinned,
    usual_rate,
)
from isthmus.language.models import (
    ModelFacts,
    find_model,
    load_tokenizer,
    load_torch_model,
    read_facts,
)
from isthmus.language.pooling import pool
from isthmus.language.tokens import length_batches
from isthmus.training.checkpoint import State, read_folder, write_folder
from isthmus.training.loop import Log, pick_device, train
from isthmus.training.memory import enough_memory
from isthmus.training.tracking import tracker

KIND = "cross-encoder"
_LEAST_TOKENS = 8
_MEMORY = ("tasks.cross_encoder.batch", "tasks.cross_encoder.max_tokens")


class PairModel(nn.Module):
    """The language model and its head: token pairs in, outputs [batch, width] out.

    Args:
        model: without a head; changed in place.
        facts: of it.
        config: what of it learns.
        width: numbers that are told.
        steps: of the training.
    """

    def __init__(
        self, model: Any, facts: ModelFacts, config: CrossEncoderConfig, width: int, steps: int
    ) -> None:
        super().__init__()
        kinds = int(getattr(model.config, "type_vocab_size", 0) or 0) > 1
        self.opened = opened(model, facts.pooling, config, steps)
        self.model, self.pooling = self.opened.model, facts.pooling
        self._kinds = kinds and self.opened.kinds
        tell = nn.Linear(facts.dim, width)
        nn.init.normal_(tell.weight, std=0.02)
        nn.init.zeros_(tell.bias)
        self.head = nn.Sequential(nn.Dropout(0.1), tell)

    def forward(self, ids: Tensor, mask: Tensor, second: Tensor) -> Tensor:
        """Outputs of pairs.

        Args:
            ids: int64 [batch, length].
            mask: int64 [batch, length], 1 for real tokens.
            second: int64 [batch, length], 1 for tokens of the second text.
        """
        kinds = {"token_type_ids": second} if self._kinds else {}
        states = self.model(input_ids=ids, attention_mask=mask, **kinds).last_hidden_state
        states = states[:, self.opened.in_front :]
        outputs: Tensor = self.head(pool(states, mask, self.pooling))
        return outputs

    def own(self) -> dict[str, nn.Parameter]:
        """The head, and what the base model does not have: tensors by name, not copied."""
        added = {f"model.{name}": weight for name, weight in self.opened.own.items()}
        return added | {f"head.{name}": weight for name, weight in self.head.named_parameters()}


class CrossEncoder:
    """A fine-tuned reader of pairs.

    Attributes:
        classes: names of what is told; empty for numbers.
        config: how it was tuned.
        weights: how far it counts beside the order of each domain that it was weighed in, by
            name; None: it was not weighed, and nothing else counts.
        log: of its training.
        n_truncated: pairs of the latest call that were longer than allowed; of `fit`, of those that
            were learnt from and stopped by.
    """

    def __init__(
        self,
        folder: Path,
        facts: ModelFacts,
        config: CrossEncoderConfig,
        classes: Sequence[str],
        scale: tuple[float, float],
        device: str,
        seed: int,
        steps: int = 1,
    ) -> None:
        self.classes, self.config, self.log, self.n_truncated = tuple(classes), config, Log(), 0
        self.weights: Mapping[str, float] | None = None
        self._folder, self._facts, self._scale = folder, facts, scale
        self._device = pick_device(device)
        self._tokenizer = load_tokenizer(folder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = PairModel(
                load_torch_model(folder), facts, config, len(classes) or 1, steps
            )
        self.model.to(self._device).eval()

    @classmethod
    def fit(
        cls,
        learn: LabelledPairs,
        stop: LabelledPairs,
        *,
        classes: Sequence[str] = (),
        base: str = "embedded",
        config: CrossEncoderConfig | None = None,
        training: TrainingConfig | None = None,
        weights: Mapping[int, float] | None = None,
        folder: Path | None = None,
        curves: Path | None = None,
        tracking: TrackingConfig | None = None,
        seed: int = 0,
    ) -> CrossEncoder:
        """Fine-tune a language model on labelled pairs of texts.

        Args:
            learn: pairs to learn from.
            stop: other pairs, to stop by; none: the last weights stay.
            classes: names of the classes; none: numbers are told, with the squared error.
            base: 'embedded', a hub name, or a folder.
            config: how; its `model`, where there is one, goes before `base`.
            training: device and precision.
            weights: of each group's mean loss, 1 where not named.
            folder: checkpoints; a killed run that is called again goes on from there.
            curves: folder of training curves; None: none.
            tracking: which tools take them.
            seed: of the head, batches and dropout.

        Raises:
            LanguageModelError: the model cannot be found or loaded, or does not suit the way of
                tuning.
            ConfigError: an unknown way of tuning.
            TrainingError: memory ran out, or the loss is no number.
        """
        config, training = config or CrossEncoderConfig(), training or TrainingConfig()
        where = find_model(config.model or base)
        numbers = learn.label if not classes else np.array([0.0, 1.0])
        scale = (float(numbers.mean()), float(numbers.std()) or 1.0) if not classes else (0.0, 1.0)
        learn = thinned(learn, config.most_pairs, seed)
        steps = config.epochs * max(1, -(-len(learn) // config.batch))
        facts = read_facts(where, None)
        made = cls(where, facts, config, classes, scale, training.device, seed, steps)
        task, others = (
            PairTask(
                made.model,
                made.model.own(),
                made.losses,
                some,
                made.tokens(some.first, some.second),
                size=config.batch,
                weights=weights or {},
                device=made._device,
                epochs=config.epochs,
                penalty=made.model.opened.penalty,
                after_step=made.model.opened.after_step,
            )
            for some in (learn, thinned(stop, config.most_pairs, seed))
        )
        made.n_truncated = sum(int(t.tokens.tokens.truncated.sum()) for t in (task, others))

        def validate() -> float | None:
            settled = made.model.opened.settled()
            return -others.mean_loss() if len(stop) and settled else None

        how = {
            "epochs": config.epochs,
            "patience": config.patience,
            "learning_rate": config.learning_rate or usual_rate(config.tune),
            "evaluate_every": 1,
        }
        training = training.model_copy(update=how)
        with enough_memory(*_MEMORY):
            made.log = train(
                task,
                validate,
                training,
                seed=seed,
                label="tuning the cross-encoder",
                folder=folder,
                mark=_mark(made, (learn, stop), task.weights, training, seed),
                tracking=tracker(curves, tracking),
            )
        return made

    def tell(
        self, first: Sequence[str | None], second: Sequence[str | None]
    ) -> NDArray[np.float64]:
        """What is told of pairs: probabilities [n, n_classes], or numbers [n].

        Raises:
            TrainingError: memory ran out.
        """
        pairs = self.tokens(first, second)
        outputs = np.zeros((len(first), len(self.classes) or 1))
        with torch.inference_mode(), enough_memory(_MEMORY[1]):
            for rows in length_batches(pairs.tokens.lengths, BATCH_TOKENS):
                outputs[rows] = self.model(*pairs.batch(rows, self._device)).double().cpu().numpy()
        if self.classes:
            return np.asarray(torch.from_numpy(outputs).softmax(1).numpy())
        mean, deviation = self._scale
        return np.asarray(mean + deviation * outputs[:, 0])

    def chance(
        self, first: Sequence[str | None], second: Sequence[str | None]
    ) -> NDArray[np.float64]:
        """What items of pairs go up by: log-odds of the last class, or the number; [n]."""
        told = self.tell(first, second)
        if not self.classes:
            return told
        share = np.clip(told[:, -1], 1e-12, 1 - 1e-12)
        return np.asarray(np.log(share) - np.log1p(-share))

    def weight(self, domain: str) -> float | None:
        """How far it counts beside the order there; None: it alone does."""
        return None if self.weights is None else self.weights.get(domain, 0.0)

    def tokens(self, first: Sequence[str | None], second: Sequence[str | None]) -> PairTokens:
        """Both texts of each pair in one sequence, the first one shortened at its start.

        Raises:
            LanguageModelError: tokens that the model does not know, or no room for any.
        """
        room = self._facts.positions
        if self.config.tune in IN_FRONT:
            room -= self.config.virtual_tokens
        if room < _LEAST_TOKENS:
            raise LanguageModelError(
                f"the model reads {self._facts.positions} tokens, and virtual ones leave {room}",
                where=str(self._folder),
                hint="Lower tasks.cross_encoder.virtual_tokens",
            )
        pairs = pair_tokens(
            self._tokenizer,
            [text or "" for text in first],
            [text or "" for text in second],
            min(self.config.max_tokens, room),
        )
        if len(pairs.tokens.ids) and int(pairs.tokens.ids.max()) >= self._facts.vocabulary:
            raise LanguageModelError(
                f"the tokenizer gives token {pairs.tokens.ids.max()}, "
                f"the model knows {self._facts.vocabulary}",
                where=str(self._folder),
                hint="Tokenizer and weights belong to different models; fetch both anew",
            )
        self.n_truncated = int(pairs.tokens.truncated.sum())
        return pairs

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Loss of each pair, [n]: cross-entropy, or the squared error in deviations."""
        if self.classes:
            return F.cross_entropy(outputs.float(), labels.long(), reduction="none")
        mean, deviation = self._scale
        return (outputs[:, 0].float() - (labels - mean) / deviation) ** 2

    def save(self, folder: Path | str) -> None:
        """Write the tuned weights.

        Raises:
            CheckpointError: the folder cannot be written or holds other things.
        """
        weights = {name: w.detach().cpu().numpy() for name, w in self.model.own().items()}
        meta = {
            "base": str(self._folder),
            "fingerprint": self._facts.content,
            "config": self.config.model_dump(mode="json"),
            "classes": list(self.classes),
            "scale": list(self._scale),
            "weights": None if self.weights is None else dict(self.weights),
            "log": vars(self.log),
        }
        write_folder(folder, {"tuned": State(weights)}, kind=KIND, meta=meta)

    @classmethod
    def load(
        cls, folder: Path | str, *, base: str | None = None, device: str = "auto"
    ) -> CrossEncoder:
        """Read tuned weights and the model they belong to.

        Args:
            folder: what `save` wrote.
            base: where that model is now; None: where it was.
            device: as in `TrainingConfig.device`.

        Raises:
            CheckpointError: no such folder, a damaged one, or the weights are for another model.
            LanguageModelError: the model cannot be found.
        """
        saved = read_folder(folder, kind=KIND)
        meta = saved.meta
        where = find_model(base or meta["base"])
        facts = read_facts(where, None)
        if facts.content != meta["fingerprint"]:
            raise CheckpointError(
                f"tuned for another model than the one in {where} "
                f"(fingerprint {meta['fingerprint'][:12]}…, found {facts.content[:12]}…)",
                where=str(folder),
                hint="Name the folder of the model that it was tuned from",
            )
        made = cls(
            where,
            facts,
            CrossEncoderConfig.model_validate(meta["config"]),
            meta["classes"],
            (meta["scale"][0], meta["scale"][1]),
            device,
            seed=0,
        )
        weights = {n: torch.from_numpy(a.copy()) for n, a in saved.state("tuned").arrays.items()}
        foreign = made.model.load_state_dict(weights, strict=False).unexpected_keys
        if foreign:
            raise CheckpointError(
                f"holds weights that {made.config.tune!r} does not have, such as {foreign[0]!r}",
                where=str(folder),
                hint="It was saved by another version of a library; tune anew",
            )
        made.log, made.weights = Log(**meta["log"]), meta.get("weights")
        return made


def _mark(
    encoder: CrossEncoder,
    pairs: Sequence[LabelledPairs],
    weights: Mapping[int, float],
    training: TrainingConfig,
    seed: int,
) -> str:
    """What the outcome of tuning depends on, the pairs to stop by included, as a short text."""
    digest = hashlib.blake2b(digest_size=16)
    pace = (training.bf16, training.weight_decay, training.warmup, training.clip)
    tuned = encoder.config.model_dump(mode="json", exclude={"rerank", "weigh"})
    said = (tuned, encoder._facts.content, encoder.classes, seed)
    digest.update(repr((sorted(weights.items()), pace)).encode())
    digest.update(repr(said).encode())
    for some in pairs:
        digest.update(repr((list(some.first), list(some.second))).encode())
        digest.update(some.label.tobytes() + some.group.tobytes())
    return digest.hexdigest()
