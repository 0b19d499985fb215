"""A larger language model teaches a smaller one, by what it says of unlabelled texts.

    vectors    the student's vectors, through a linear map where widths differ, point where the
               teacher's do
    rankings   for each text of a batch, the student finds the others as alike as the teacher does;
               widths need not agree, and what no student can copy, the teacher's exact place in
               space, is not asked of it

Cosines of both are of centred vectors, since raw ones of one catalogue all point the same way.
Sources: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; Tung and Mori,
"Similarity-Preserving Knowledge Distillation", ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from isthmus.config import DistillationConfig, LanguageConfig, TrackingConfig, TuningConfig
from isthmus.errors import IsthmusError, LanguageModelError
from isthmus.language.encoder import TextEncoder
from isthmus.language.folders import check_place, save_model
from isthmus.language.learning import LanguageTask, Pace, learn, run_mark
from isthmus.language.models import find_model, load_tokenizer, load_torch_model, read_facts
from isthmus.language.pretraining.corpus import Corpus
from isthmus.language.tokens import Tokens, tokenize
from isthmus.language.tuning.blocks import blocks_of
from isthmus.language.tuning.methods import Tunable
from isthmus.language.tuning.tune import in_stretches
from isthmus.training.loop import pick_device
from isthmus.training.memory import enough_memory

_PATIENCE = 3


@dataclass(frozen=True)
class Distilled:
    """What came of it.

    Attributes:
        folder: the student.
        parameters: of the student and of the teacher.
        agreement: mean share of a held-out text's ten nearest that student and teacher have in
            common, before and after.
        steps: done.
        seconds_per_step: mean.
        texts: learnt from.
        truncated: texts that the student does not see the end of.
    """

    folder: str
    parameters: tuple[int, int]
    agreement: tuple[float, float]
    steps: int
    seconds_per_step: float
    texts: int
    truncated: int

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


class Distillation(LanguageTask):
    """Learns what the teacher says of texts.

    Args:
        student: token numbers → vectors.
        vectors: how it reads texts by row.
        taught: float32 [n_texts, dim] the teacher's centred vectors.
        config: what is matched.
        device: where.
    """

    def __init__(
        self,
        student: Tunable,
        vectors: Callable[[NDArray[np.int64]], Tensor],
        taught: Tensor,
        config: DistillationConfig,
        device: torch.device,
    ) -> None:
        whole = nn.ModuleDict({"student": student})
        own: dict[str, nn.Parameter] = dict(student.own())
        width = int(student.model.config.hidden_size)
        self._map: nn.Linear | None = None
        if config.match == "vectors" and width != taught.shape[1]:
            self._map = nn.Linear(width, taught.shape[1], bias=False).to(device)
            whole["map"] = self._map
            own |= {f"map.{name}": tensor for name, tensor in self._map.named_parameters()}
        super().__init__(whole, own, config.steps, device)
        self._vectors, self._taught, self._config = vectors, taught, config

    def batch(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Rows of texts, each once."""
        n = len(self._taught)
        return rng.permutation(n)[: self._config.batch_texts]

    def loss(self, batch: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """A scalar to go down."""
        taught = self._taught[torch.from_numpy(batch).to(self._taught.device)]
        found = self._vectors(batch)
        if self._config.match == "vectors":
            mapped = found if self._map is None else self._map(found)
            return 1 - F.cosine_similarity(mapped - mapped.mean(0), taught, dim=1).mean()
        temperature = self._config.temperature
        logits, wanted = (_alike(rows) / temperature for rows in (found, taught))
        return F.kl_div(
            F.log_softmax(logits, 1),
            F.log_softmax(wanted, 1),
            reduction="batchmean",
            log_target=True,
        )


@enough_memory("distillation.batch_texts", "language.max_tokens")
def distil(
    corpus: Corpus,
    config: DistillationConfig,
    language: LanguageConfig,
    folder: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    checkpoints: Path | None = None,
    curves: Path | None = None,
    tracking: TrackingConfig | None = None,
) -> Distilled:
    """Train a student and save it as a plain Hugging Face folder.

    Args:
        corpus: texts; no labels.
        config: teacher, student, what is matched.
        language: how much of a text is read, and where vectors are cached.
        folder: where the student goes.
        seed: of the order of texts, and of a map between widths.
        device: as `training.device`.
        threads: as `training.threads`.
        checkpoints: where a killed run goes on from; None: nowhere.
        curves: folder of training curves; None: none.
        tracking: which tools take them.

    Raises:
        LanguageModelError: a model cannot be found, the student would be no smaller, or cannot be
            saved.
        CheckpointError: the folder holds other things, or cannot be written.
        TrainingError: memory ran out, or the loss is not a number.
    """
    check_place(folder)
    place = pick_device(device)
    teacher = _teacher(config, language, device)
    base = find_model(config.student or config.teacher)
    facts = read_facts(base, None)
    model = load_torch_model(base)
    if config.student is None:
        _keep_blocks(model, config.student_layers)
        model = _as_saved(model, base)
    student = Tunable(model, facts.pooling, TuningConfig(method="full")).to(place)
    tokenizer, limit = load_tokenizer(base), min(language.max_tokens, facts.positions)
    lesson, exam = (
        _Lesson.of(texts, teacher, tokenize(tokenizer, texts, limit), place)
        for texts in (corpus.training, corpus.held_out)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        task = Distillation(
            student, lambda rows: lesson.read_by(student, rows), lesson.taught, config, place
        )
    pace = Pace(
        rate=config.learning_rate,
        patience=_PATIENCE,
        seed=seed,
        folder=checkpoints,
        mark=run_mark(config, seed, teacher.fingerprint, facts.content, corpus.training),
        threads=threads,
        curves=curves,
        tracking=tracking or TrackingConfig(),
    )
    before = exam.agreement(student)
    log = learn(task, lambda: exam.agreement(student), pace, label="distilling")
    after = exam.agreement(student)
    size = sum(parameter.numel() for parameter in model.parameters())
    save_model(folder, student.merged().cpu(), base)
    steps = len(log.epochs) * task.batches_per_epoch
    return Distilled(
        folder=str(folder),
        parameters=(size, teacher.reader.facts.weight_bytes // 4),
        agreement=(before, after),
        steps=steps,
        seconds_per_step=log.step_seconds / max(1, steps),
        texts=len(corpus.training),
        truncated=int(lesson.tokens.truncated.sum() + exam.tokens.truncated.sum()),
    )


@dataclass(frozen=True)
class _Lesson:
    """Texts as the student reads them, and what the teacher says of them.

    Attributes:
        tokens: of the student's tokenizer.
        taught: float32 [n_texts, dim] the teacher's centred vectors.
    """

    tokens: Tokens
    taught: Tensor

    @classmethod
    def of(
        cls, texts: Sequence[str], teacher: TextEncoder, tokens: Tokens, device: torch.device
    ) -> _Lesson:
        """Ask the teacher about the texts."""
        return cls(tokens, torch.from_numpy(_centred(teacher.encode(texts).vectors)).to(device))

    def read_by(self, student: Tunable, rows: NDArray[np.int64]) -> Tensor:
        """The student's vectors of the texts at `rows` [n], [n, width]."""
        return in_stretches(student, self.tokens, rows, self.taught.device)

    def agreement(self, student: Tunable) -> float:
        """Mean share of a text's ten nearest that student and teacher have in common."""
        student.eval()
        with torch.inference_mode():
            found = self.read_by(student, np.arange(len(self.taught)))
            return _agreement(found, self.taught)


def _teacher(config: DistillationConfig, language: LanguageConfig, device: str) -> TextEncoder:
    chosen = {"model": config.teacher, "tuned": config.teacher_tuned}
    teacher = language.plain.model_copy(update={**chosen, "pooling": "auto"})
    return TextEncoder.load(teacher, device=device)


def _keep_blocks(model: Any, count: int) -> None:
    """Leave `count` evenly spaced blocks, the last among them, and what the config says of them.

    Raises:
        LanguageModelError: there are no more than that.
    """
    blocks = blocks_of(model)
    if count >= len(blocks):
        raise LanguageModelError(
            f"the teacher has {len(blocks)} blocks, so a student of {count} is no smaller",
            where="distillation.student_layers",
            hint="Lower it, or name a student",
        )
    kept = [round((i + 1) * len(blocks) / count) - 1 for i in range(count)]
    for i, block in enumerate([blocks[k] for k in kept]):
        blocks[i] = block
    said = {
        name: [value[k] for k in kept]
        for name, value in vars(model.config).items()
        if isinstance(value, list | tuple)
        and len(value) == len(blocks)
        and not name.endswith("token_id")
    }
    del blocks[count:]
    model.config.update({"num_hidden_layers": count, **said})


def _as_saved(student: Any, base: Path) -> Any:
    """A student of some blocks as it is once saved, which is what training has to go on from.

    What belongs to a block's place is lost, such as the first norm of a ModernBERT's later blocks.

    Raises:
        LanguageModelError: it cannot be saved, or lacks something when read again.
    """
    try:
        with TemporaryDirectory() as aside, torch.random.fork_rng(devices=[]):
            save_model(Path(aside) / "student", student, base)
            return load_torch_model(Path(aside) / "student")
    except Exception as error:  # of whatever kind a model's own code raises
        reason = error.what if isinstance(error, IsthmusError) else error
        raise LanguageModelError(
            f"a student of some of the teacher's blocks cannot be saved and read again: {reason}",
            where="distillation.student_layers",
            hint="Name a student of its own with distillation.student",
        ) from error


def _centred(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors - vectors.mean(0), np.float32)


def _alike(vectors: Tensor) -> Tensor:
    """Cosines [n, n] of centred vectors; a text's own is left out of every ranking."""
    unit = F.normalize(vectors - vectors.mean(0), dim=1)
    own = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    return (unit @ unit.T).masked_fill(own, -1e4)


def _agreement(found: Tensor, taught: Tensor, k: int = 10) -> float:
    k = min(k, len(found) - 1)
    if k < 1:
        return 0.0
    mine, theirs = (_alike(rows).topk(k, dim=1).indices for rows in (found, taught))
    shared = (mine[:, :, None] == theirs[:, None, :]).any(2)
    return float(shared.float().mean())
