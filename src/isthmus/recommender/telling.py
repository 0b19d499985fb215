"""Tasks beside ranking: a recommender that tells ratings and classes, and lists read once more."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.blend.examples import about
from isthmus.config import Config
from isthmus.continual.progress import TAUGHT, Progress
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Split
from isthmus.errors import DataError, RequestError, did_you_mean
from isthmus.recommender.asking import Asked, History, ask
from isthmus.recommender.measuring import drawn_at_random
from isthmus.tasks.examples import Examples, Role, checked, trained_until
from isthmus.tasks.figures import Figures
from isthmus.tasks.reader import TASKS, Reader, TaskName
from isthmus.tasks.rerank_weight import Weighed, weigh
from isthmus.tasks.settings import Way, check_settings
from isthmus.tasks.teach import Taught, gather, judged, teach
from isthmus.tasks.texts import PairTexts, judged_language, teach_language
from isthmus.transfer.system import System

if TYPE_CHECKING:
    from isthmus.language.cross_encoder import CrossEncoder

_log = logging.getLogger(__name__)

Held = Literal["validation", "test"]


class Telling:
    """What a `Recommender` can tell of a person and an item beside their place in a list.

    Each task goes two ways: through the recommender, by heads on states and item vectors that
    `teach` trains and the model folder keeps; or through a language model that reads both texts at
    once, which `teach_language` tunes and which is kept in a folder of its own.
    """

    dataset: Dataset
    config: Config
    split: Split
    system: System
    progress: Progress
    taught: dict[TaskName, Taught]

    def teach(
        self, task: str, *, config: Config | None = None, folder: Path | None = None
    ) -> Taught:
        """Learn a task on top of what is fitted; recommendations stay as they are.

        Examples of domains that joined after the model was fitted are left out: heads read the
        states that it was fitted with.

        Args:
            task: `rate` (ratings of the events) or `click` (classes; see `tasks.click.examples`).
            config: the recommender's own with other settings of the teaching, as
                `recommender.config.override("tasks.epochs=5", "seed=1")` gives it; its section
                `tasks` is kept. None: the recommender's own.
            folder: checkpoints and curves; a killed run goes on from there.

        Raises:
            RequestError: an unknown task.
            DataError: no ratings; labels that are no classes, or one class only.
            ConfigError: a head that cannot be meant, or a setting that has no say in teaching.
            TrainingError: memory ran out.
        """
        name, examples, settings = self._begin(task, config, "recommender")
        examples = self._of_founding(examples)
        reader = Reader(name, self.dataset, self.split, self.system, settings)
        self.taught[name] = teach(reader, examples, settings, folder=folder)
        self._keep(settings)
        self.progress = self.progress.beside(TAUGHT, name)
        return self.taught[name]

    def teach_language(
        self, task: str, *, config: Config | None = None, folder: Path | None = None
    ) -> CrossEncoder:
        """Fine-tune a language model on the texts of people and items of a task's examples.

        How far it counts when it puts a list in order anew is found with it, on validation
        questions of people who taught it nothing.

        Takes and raises what `teach` does, and LanguageModelError where the model is not to be had.
        """
        name, examples, settings = self._begin(task, config, "language")
        encoder = teach_language(name, self.dataset, examples, settings, folder=folder)
        self._keep(settings)
        if encoder.config.weigh:
            cut = encoder.n_truncated
            taught = examples.of(Role.TRAIN)
            # What the recommender was trained on is in nobody's favour.
            late = taught.end >= trained_until(self.dataset, self.split)[taught.user]
            found = self._weighed(encoder, np.unique(taught.user[late]))
            encoder.weights = {name: weighed.weight for name, weighed in found.items()}
            encoder.n_truncated = cut
        return encoder

    def _weighed(self, encoder: CrossEncoder, taught: NDArray[np.int64]) -> dict[str, Weighed]:
        """How far a cross-encoder counts beside what is served, by domain with questions.

        Args:
            encoder: tuned.
            taught: int64, rows of people of whom it was tuned on more than training events.
        """
        found, config = {}, self.config.evaluation
        for domain, name in enumerate(self.dataset.names):
            asked = about(self.dataset, self.split.tuning, domain)
            asked = asked[~np.isin(self.dataset.events.user[asked], taught)]
            drawn = drawn_at_random(asked, encoder.config.weigh, self.config.seed)
            if len(drawn):
                found[name] = weigh(
                    self.system.gated,
                    encoder,
                    self.dataset,
                    drawn,
                    domain,
                    batch=config.batch,
                    max_history=config.max_history,
                )
        return found

    def judge(
        self,
        task: str,
        *,
        queries: Held = "test",
        through: CrossEncoder | None = None,
    ) -> Figures:
        """How well a task is told on held-back examples.

        Args:
            task: which.
            queries: `validation` (which stopped the training) or `test`, to be asked once.
            through: a cross-encoder; None: the heads.

        Raises:
            RequestError: an unknown task, or one that was not taught.
        """
        name, role = known_task(task), Role[queries.upper()]
        taught = self._taught(name) if through is None else None
        examples = gather(name, self.dataset, self.split, self.config)
        if taught is None:
            assert through is not None
            return judged_language(through, name, self.dataset, examples, role)
        return judged(taught, self._reader(name), examples, role)

    def rate(
        self,
        domain: str,
        items: Sequence[str],
        *,
        users: Sequence[str] | None = None,
        histories: Sequence[History] | None = None,
        through: CrossEncoder | None = None,
    ) -> pl.DataFrame:
        """How each person would rate each item.

        Args:
            domain: of the items.
            items: raw ids.
            users: raw ids; one that the dataset does not hold is a person without a history.
            histories: (domain, item id) pairs, oldest first; they carry no ratings.
            through: a cross-encoder for `rate`; None: the heads.

        Returns:
            Columns `request`, `item_id`, `title`, `category`, `rating`, in the unit of the ratings
            that were learnt from.

        Raises:
            RequestError: nobody or nothing is asked about, an unknown domain or item, or `rate` was
                not taught, or not here.
        """
        about, labels, answers = self._told("rate", domain, items, users, histories, through)
        return self._pairs(about, labels).with_columns(pl.Series("rating", answers))

    def click(
        self,
        domain: str,
        items: Sequence[str],
        *,
        users: Sequence[str] | None = None,
        histories: Sequence[History] | None = None,
        through: CrossEncoder | None = None,
    ) -> pl.DataFrame:
        """What each person would do with each item: the class, and the chance of every class.

        Takes and raises what `rate` does.

        Returns:
            Columns `request`, `item_id`, `title`, `category`, `label` (the most probable class) and
            `chances` (a struct by class).
        """
        about, labels, answers = self._told("click", domain, items, users, histories, through)
        classes = self._taught("click").classes if through is None else through.classes
        chances = pl.DataFrame(dict(zip(classes, answers.T, strict=True)))
        return self._pairs(about, labels).with_columns(
            pl.Series("label", [classes[c] for c in answers.argmax(1).tolist()], pl.String),
            chances.to_struct("chances"),
        )

    def _begin(
        self, task: str, config: Config | None, way: Way
    ) -> tuple[TaskName, Examples, Config]:
        """The task, its examples and the settings."""
        name, settings = known_task(task), config or self.config
        check_settings(self.config, settings, way)
        examples = gather(name, self.dataset, self.split, settings)
        if examples.left_out:
            _log.warning(
                "%s pairs judge nothing, for they lie before the end of training",
                f"{examples.left_out:,}",
            )
        return name, examples, settings

    def _keep(self, settings: Config) -> None:
        """Take over the settings of tasks by which something was taught."""
        self.config = self.config.model_copy(update={"tasks": settings.tasks})

    def _of_founding(self, examples: Examples) -> Examples:
        """The examples of domains that the model was fitted with.

        Raises:
            DataError: none of them is to learn from, or they are of one class only.
        """
        founding = examples.domain < self.system.transferred.n_domains
        if founding.all():
            return examples
        later = [self.dataset.names[d] for d in np.unique(examples.domain[~founding]).tolist()]
        names = ", ".join(later)
        _log.warning(
            "%s pairs teach nothing, for %s joined after the model was fitted; 'isthmus fit' "
            "learns all domains together",
            f"{(~founding).sum():,}",
            names,
        )
        found = examples.take(founding)
        if not len(found.of(Role.TRAIN)):
            raise DataError(
                f"every pair to learn from is of {names}, which joined after the model was fitted",
                hint="Fit all domains together with 'isthmus fit', and teach that",
            )
        return checked(found, "domains the model was fitted with") if found.classes else found

    def _told(
        self,
        task: TaskName,
        domain: str,
        items: Sequence[str],
        users: Sequence[str] | None,
        histories: Sequence[History] | None,
        through: CrossEncoder | None,
    ) -> tuple[Examples, list[str], NDArray[np.float64]]:
        """Pairs of every person and item, who each is, and what is told of them."""
        target = self.dataset.domain_index(domain)
        if not items:
            raise RequestError("no item is asked about", hint="Give item ids")
        rows = np.array([self.dataset.domains[target].index_of(item) for item in items], np.int64)
        asked = ask(
            self.dataset,
            users=users,
            histories=histories,
            max_history=self.config.evaluation.max_history,
        )
        if not len(asked):
            raise RequestError("nobody is asked about", hint="Give user ids, or histories")
        person, item = np.repeat(np.arange(len(asked)), len(rows)), np.tile(rows, len(asked))
        labels = [asked.labels[p] for p in person]
        about = self._now(asked, person, target, item)
        if through is not None:
            _fits(task, through)
            texts = PairTexts(self.dataset, through.config.history)
            people = texts.of_people(asked.whole)
            of_items = [texts.of_items[target][i] for i in item.tolist()]
            return about, labels, through.tell([people[p] for p in person], of_items)
        taught = self._taught(task)
        if target >= self.system.transferred.n_domains:
            raise RequestError(
                f"{task!r} was not learnt in {domain!r}, which joined after the model was fitted",
                hint=f"Fit all domains together with 'isthmus fit', which learns {domain!r}, and "
                f"then 'isthmus teach {task}'",
            )
        if target not in taught.learnt:
            known = ", ".join(self.dataset.names[d] for d in taught.learnt)
            raise RequestError(
                f"{task!r} was not learnt in {domain!r}, which has no examples to learn from",
                hint=f"It was in {known}",
            )
        inputs = self._reader(task).read(about, requests=asked.visible.select(person))
        return about, labels, taught.tell(inputs, target)

    def _now(
        self, asked: Asked, person: NDArray[np.int64], target: int, item: NDArray[np.int64]
    ) -> Examples:
        """Pairs that nothing is known of yet, after everything their people did."""
        user = asked.whole.user[person]
        end = np.where(user < 0, 0, self.dataset.events.offsets[user + 1])
        n = len(item)
        return Examples(
            user=user,
            end=end,
            domain=np.full(n, target, np.int64),
            item=item,
            time=np.full(n, np.nan),
            label=np.full(n, np.nan),
            role=np.full(n, Role.TEST, np.int8),
        )

    def _pairs(self, about: Examples, labels: list[str]) -> pl.DataFrame:
        """Who and what, one row per pair."""
        catalogue = self.dataset.domains[int(about.domain[0])].items
        rows = pl.Series("row", about.item, pl.Int64)
        named = catalogue.select(pl.col("item_id", "title", "category").gather(rows))
        return named.select(pl.Series("request", labels, pl.String), pl.all())

    def _taught(self, task: TaskName) -> Taught:
        if task not in self.taught:
            known = f"It knows {', '.join(self.taught)}" if self.taught else "It only ranks"
            raise RequestError(
                f"this model was not taught to {task}",
                hint=f"{known}; teach it with 'isthmus teach {task}', or Recommender.teach",
            )
        return self.taught[task]

    def _reader(self, task: TaskName) -> Reader:
        return Reader(task, self.dataset, self.split, self.system, self.config)


def known_task(name: str) -> TaskName:
    """The task of that name; RequestError names the near ones."""
    for task in TASKS:
        if task == name:
            return task
    raise RequestError(f"no task is called {name!r}", hint=did_you_mean(name, TASKS))


def _fits(task: TaskName, encoder: CrossEncoder) -> None:
    if (task == "click") != bool(encoder.classes):
        tells = "classes" if encoder.classes else "ratings"
        raise RequestError(
            f"the cross-encoder tells {tells}", where=task, hint=f"Tune one for {task!r}"
        )
