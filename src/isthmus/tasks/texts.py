"""People and items as texts: what a cross-encoder reads of an example.

A person is the texts of their latest events, oldest first; events without a text are passed over.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.errors import DataError
from isthmus.language.cross_encoder import CrossEncoder
from isthmus.language.cross_encoder_tuning import LabelledPairs
from isthmus.scoring import Requests
from isthmus.tasks.examples import Examples, Role
from isthmus.tasks.figures import Figures, figures_of
from isthmus.tasks.reader import TaskName

BETWEEN = " ; "


class PairTexts:
    """Texts of people and items of a snapshot.

    Args:
        dataset: gives the texts.
        n_events: latest events with a text that stand for a person.
    """

    def __init__(self, dataset: Dataset, n_events: int) -> None:
        self.dataset, self.n_events = dataset, n_events

    @cached_property
    def of_items(self) -> list[list[str | None]]:
        """Texts by domain and item."""
        return [domain.items["text"].to_list() for domain in self.dataset.domains]

    def of_people(self, requests: Requests) -> list[str]:
        """One text per request."""
        texts = []
        for start, stop in zip(requests.offsets[:-1], requests.offsets[1:], strict=True):
            kept: list[str] = []
            for event in range(int(stop) - 1, int(start) - 1, -1):
                text = self.of_items[requests.domain[event]][requests.item[event]]
                if text:
                    kept.append(text)
                if len(kept) == self.n_events:
                    break
            texts.append(BETWEEN.join(reversed(kept)))
        return texts

    def of_pairs(self, examples: Examples) -> tuple[list[str], list[str | None]]:
        """Person's text and item's text of each example."""
        # Ten times as many events are looked at, for some have no text.
        requests = Requests.until(
            self.dataset,
            examples.user,
            examples.end,
            query_time=examples.time,
            max_history=10 * self.n_events,
        )
        items = [
            self.of_items[d][i]
            for d, i in zip(examples.domain.tolist(), examples.item.tolist(), strict=True)
        ]
        return self.of_people(requests), items


def teach_language(
    task: TaskName,
    dataset: Dataset,
    examples: Examples,
    config: Config,
    *,
    folder: Path | None = None,
) -> CrossEncoder:
    """Fine-tune a cross-encoder on the examples of a task.

    Joint over domains, the sum of their mean losses. Checkpoints and curves go to `folder`.

    Raises:
        DataError: no item has a text.
        LanguageModelError: the model cannot be found or loaded.
        TrainingError: memory ran out, or the loss is no number.
    """
    if all(domain.items["text"].null_count() == domain.n_items for domain in dataset.domains):
        raise DataError(
            "no item has a text, and a language model reads nothing else",
            where="domains.NAME.catalogue.text",
            hint="Name the columns that hold texts, or learn through the recommender",
        )
    texts = PairTexts(dataset, config.tasks.cross_encoder.history)
    learn, stop = (_pairs(texts, examples.of(role)) for role in (Role.TRAIN, Role.VALIDATION))
    names, weights = dataset.names, config.training.domain_weights
    return CrossEncoder.fit(
        learn,
        stop,
        classes=examples.classes,
        base=config.language.model,
        config=config.tasks.cross_encoder,
        training=config.training,
        weights={d: weights.get(name, 1.0) for d, name in enumerate(names)},
        folder=folder and folder / "checkpoints" / f"{task}-language",
        curves=folder and folder / "curves" / f"{task}-language",
        tracking=config.tracking,
        seed=config.seed,
    )


def judged_language(
    encoder: CrossEncoder, task: TaskName, dataset: Dataset, examples: Examples, role: Role
) -> Figures:
    """How well a cross-encoder tells examples of one role, by domain and over all."""
    some = examples.of(role)
    texts = PairTexts(dataset, encoder.config.history)
    answers = encoder.tell(*texts.of_pairs(some))
    told: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {
        d: (some.label[some.domain == d], answers[some.domain == d])
        for d in np.unique(some.domain).tolist()
    }
    return figures_of(task, dataset.names, told, encoder.classes)


def _pairs(texts: PairTexts, examples: Examples) -> LabelledPairs:
    return LabelledPairs(*texts.of_pairs(examples), examples.label, examples.domain)
