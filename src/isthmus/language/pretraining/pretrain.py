"""Pretraining, whole: from texts to a Hugging Face folder with its perplexity before and after.

A model that comes without a head for its objective, as embedding models do, first gets one with the
body frozen, and "before" is measured behind it: a random head would make any later figure a gain.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from isthmus.config import LanguageConfig, PretrainingConfig, TrackingConfig
from isthmus.errors import LanguageModelError
from isthmus.language.folders import check_place, save_model
from isthmus.language.learning import Pace, learn, run_mark
from isthmus.language.models import find_model, load_headed_model, load_tokenizer, read_facts
from isthmus.language.pretraining.corpus import Corpus
from isthmus.language.pretraining.objectives import (
    Guesser,
    LanguageModelling,
    Objective,
    held_out_nats,
)
from isthmus.language.pretraining.scratch import write_scratch
from isthmus.language.tokens import Tokens, tokenize, with_rest
from isthmus.training.loop import pick_device
from isthmus.training.memory import enough_memory


@dataclass(frozen=True)
class Pretrained:
    """What came of it.

    Attributes:
        folder: the model.
        objective: 'mlm' or 'clm'.
        texts: learnt from.
        held_out: measured on.
        divided: of the texts, longer than the model reads at once; they are learnt in windows.
        windows: that the texts make, one each where they are short.
        truncated: of the held-out ones, measured on as far as the model reads at once.
        head_steps: steps in which a new head was fitted, 0 where it came with one.
        perplexity_before: on held-out texts, behind the fitted head.
        perplexity_after: the same guesses, after pretraining.
        steps: of the whole model.
        seconds: of pretraining, the head left out.
        head_seconds: of fitting the head.
    """

    folder: str
    objective: Objective
    texts: int
    held_out: int
    divided: int
    windows: int
    truncated: int
    head_steps: int
    perplexity_before: float
    perplexity_after: float
    steps: int
    seconds: float
    head_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@enough_memory("pretraining.batch_tokens", "language.max_tokens")
def pretrain(
    corpus: Corpus,
    language: LanguageConfig,
    config: PretrainingConfig,
    folder: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    checkpoints: Path | None = None,
    curves: Path | None = None,
    tracking: TrackingConfig | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> Pretrained:
    """Pretrain and save.

    Args:
        corpus: texts.
        language: the model to go on from, and how much of a text it reads.
        config: objective, sizes, steps.
        folder: where the model goes; an earlier one there is replaced.
        seed: of initial values, masks, order.
        device: as `training.device`.
        threads: as `training.threads`.
        checkpoints: where a killed run goes on from; None: nowhere.
        curves: folder of training curves; None: none.
        tracking: which tools take them.
        tell: told what begins.

    Raises:
        LanguageModelError: the model cannot be found, or has nothing for the objective.
        CheckpointError: the folder holds other things, or cannot be written.
        TrainingError: memory ran out, or the loss is not a number.
    """
    check_place(folder)
    place = pick_device(device)
    with _start(corpus, language, config, seed) as start:
        base, objective = start
        tokenizer = load_tokenizer(base)
        model, headless = load_headed_model(base, objective, seed=seed)
        model.to(place)
        facts = read_facts(base, None)
        limit = min(language.max_tokens, facts.positions)
        cut, held_out = (
            tokenize(tokenizer, texts, limit) for texts in (corpus.training, corpus.held_out)
        )
        training = with_rest(tokenizer, corpus.training, cut)
        guesser = Guesser(objective, tokenizer, len(tokenizer), config.mask_share)
        depends = run_mark(config, seed, facts.content, training.ids, training.offsets)
        pace = Pace(
            rate=config.learning_rate,
            patience=2,
            seed=seed,
            folder=checkpoints,
            mark=depends,
            threads=threads,
            curves=curves,
            tracking=tracking or TrackingConfig(),
        )
        run = _Run(model, guesser, training, held_out, config, place, pace)
        head_seconds = 0.0
        if headless and config.head_steps:
            tell("fitting a head, the model frozen")
            head_seconds = run.fit_head()
        before = run.held_out_nats()
        tell("pretraining")
        steps, seconds = run.learn_whole()
        after = run.held_out_nats()
        save_model(folder, model.cpu(), base)
    return Pretrained(
        folder=str(folder),
        objective=objective,
        texts=len(corpus.training),
        held_out=len(corpus.held_out),
        divided=int(cut.truncated.sum()),
        windows=len(training.lengths),
        truncated=int(held_out.truncated.sum()),
        head_steps=config.head_steps if headless else 0,
        perplexity_before=math.exp(before),
        perplexity_after=math.exp(after),
        steps=steps,
        seconds=seconds,
        head_seconds=head_seconds,
    )


class _Run:
    """One model on its way."""

    def __init__(
        self,
        model: Any,
        guesser: Guesser,
        training: Tokens,
        held_out: Tokens,
        config: PretrainingConfig,
        device: torch.device,
        pace: Pace,
    ) -> None:
        self._model, self._guesser, self._config, self._device = model, guesser, config, device
        self._training, self._held_out, self._pace = training, held_out, pace

    def held_out_nats(self) -> float:
        """See `objectives.held_out_nats`."""
        return held_out_nats(
            self._model,
            self._guesser,
            self._held_out,
            batch_tokens=self._config.batch_tokens,
            device=self._device,
        )

    def fit_head(self) -> float:
        """Fit all that the body does not hold; seconds."""
        self._model.requires_grad_(requires_grad=True)
        # What is tied to the body, such as the output embedding, is frozen with it.
        self._model.base_model.requires_grad_(requires_grad=False)
        seconds = self._learn("head", self._config.head_steps, self._config.head_rate)[1]
        self._model.requires_grad_(requires_grad=True)
        return seconds

    def learn_whole(self) -> tuple[int, float]:
        """Let everything learn; steps and seconds."""
        return self._learn("whole", self._config.steps, self._config.learning_rate)

    def _learn(self, part: str, steps: int, rate: float) -> tuple[int, float]:
        began = time.perf_counter()
        own = {n: p for n, p in self._model.named_parameters() if p.requires_grad}
        task = LanguageModelling(
            self._model,
            own,
            self._guesser,
            self._training,
            batch_tokens=self._config.batch_tokens,
            steps=steps,
            device=self._device,
        )
        whole = self._pace
        pace = replace(
            whole,
            rate=rate,
            folder=whole.folder and whole.folder / part,
            mark=f"{part} {whole.mark}",
            curves=whole.curves and whole.curves / part,
        )
        log = learn(task, lambda: -self.held_out_nats(), pace, label=f"pretraining ({part})")
        return len(log.epochs) * task.batches_per_epoch, time.perf_counter() - began


def _start(
    corpus: Corpus, language: LanguageConfig, config: PretrainingConfig, seed: int
) -> AbstractContextManager[tuple[Path, Objective]]:
    """The folder to go on from, and the objective."""
    if config.scratch != "none":
        return _Scratch(corpus, config, seed)
    base = find_model(language.model)
    facts = read_facts(base, None, pinned=language.model == "embedded")
    objective: Objective = "clm" if facts.decoder else "mlm"
    if config.objective not in ("auto", objective):
        kind = "a decoder" if facts.decoder else "an encoder"
        raise LanguageModelError(
            f"{language.model!r} is {kind}, which learns by {objective}, not {config.objective}",
            where="pretraining.objective",
            hint="Set it to 'auto'",
        )
    return nullcontext((base, objective))


class _Scratch(AbstractContextManager["tuple[Path, Objective]"]):
    """A new model in a folder that lasts as long as the run."""

    def __init__(self, corpus: Corpus, config: PretrainingConfig, seed: int) -> None:
        self._corpus, self._config, self._seed = corpus, config, seed
        self._folder: TemporaryDirectory[str] | None = None

    def __enter__(self) -> tuple[Path, Objective]:
        self._folder = TemporaryDirectory()
        folder = Path(self._folder.name)
        write_scratch(folder, self._corpus.training, self._config, seed=self._seed)
        return folder, "mlm" if self._config.scratch == "bert" else "clm"

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()
