"""Domains that join a recommender, and events that it goes on learning from.

Nothing here changes the recommender that it is asked of: each method gives another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from isthmus.config import CleaningConfig, Config
from isthmus.continual.progress import ADAPTED, JOINED, Progress
from isthmus.data.cleaning import CleaningReport
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.frames import DomainFrames, PeopleFrames
from isthmus.data.growth import Growth
from isthmus.data.splits import Split
from isthmus.recommender import updating
from isthmus.recommender.encoding import Encoder
from isthmus.recommender.growing import Grown, Tables, with_domain, with_events
from isthmus.recommender.storage import LogPosition
from isthmus.recommender.updating import Snapshot, Update
from isthmus.tasks.reader import TaskName
from isthmus.tasks.teach import Taught
from isthmus.transfer.system import System

if TYPE_CHECKING:
    from isthmus.recommender.facade import Recommender


class Extending:
    """How a `Recommender` takes in what it was not fitted to."""

    dataset: Dataset
    config: Config
    split: Split
    raw: list[ItemFeatures]
    system: System
    log: LogPosition | None
    progress: Progress
    taught: dict[TaskName, Taught]

    @property
    def fitted_items(self) -> tuple[int, ...]:
        """Items per domain, the first ones, that the alignment of texts rests on."""
        known = self.progress.fitted_items
        # What joined since rests on a map of its own, found on all that it had.
        return (*known, *map(len, self.raw[len(known) :]))

    def add_domain(
        self,
        name: str,
        frames: DomainFrames,
        *,
        people: PeopleFrames | None = None,
        cleaning: CleaningConfig | None = None,
        report: CleaningReport | None = None,
        encoder: Encoder | None = None,
    ) -> Recommender:
        """A recommender with one domain more, which it recommends from at once.

        By its texts alone, for people known elsewhere; where events come with the catalogue, what
        `adapt_domain` does follows. Scores of the domains that were there stay what they were.

        Args:
            name: of the new domain.
            frames: its catalogue, and perhaps events.
            people: who is who across domains; None: as the model was fitted, without a mapping.
            cleaning: what to do with rows that cannot be used; None: as the model was fitted.
            report: filled with what was dropped or noted.
            encoder: reads the texts; None loads the language model that the model was fitted with.

        Raises:
            RequestError: the name is taken, or cannot be one.
            DataError: rows cannot be used, or no item has a text and there is no event.
            LanguageModelError: the language model cannot be found or run.
        """
        tables = Tables.of(self.config, frames, people, cleaning, report)
        grown = with_domain(self._parts(), self.config, name, tables, encoder)
        return self._made_of(grown, JOINED, name)

    def adapt_domain(
        self,
        name: str,
        frames: DomainFrames,
        *,
        limit: int | None = None,
        people: PeopleFrames | None = None,
        cleaning: CleaningConfig | None = None,
        report: CleaningReport | None = None,
    ) -> Recommender:
        """A recommender that has learnt from the first events of a domain that joined.

        What they teach is let in as far as it ranks them better than the domain as it joined; how
        far, and on what that rests, stands in `gates`. Events on items that the catalogue does not
        hold are left out.

        Args:
            name: of the domain.
            frames: its events; a catalogue in it is not read.
            limit: how many of them, the first by time; None: all.
            people: as of `add_domain`.
            cleaning: as of `add_domain`.
            report: as of `add_domain`.

        Raises:
            RequestError: no such domain, or one that the model was fitted to.
            DataError: rows cannot be used, or no new event is left.
        """
        tables = Tables.of(self.config, frames, people, cleaning, report)
        grown = with_events(self._parts(), self.config, name, tables, limit)
        return self._made_of(grown, ADAPTED, name)

    def grown(self, growth: Growth, *, encoder: Encoder | None = None) -> Recommender:
        """The same weights over a larger snapshot: new events are history, new items are offered.

        New items are known by their texts. Nothing is learnt; that is left to `update`.

        Args:
            growth: from this recommender's dataset; see `isthmus.data.appending`.
            encoder: reads the texts of new items; None loads the configured language model.

        Raises:
            DataError: the larger snapshot does not extend this one.
        """
        snapshot = Snapshot.of(self._whole, growth)
        return updating.grown(self._whole, snapshot, encoder)

    def update(
        self,
        growth: Growth | None = None,
        *,
        guided: NDArray[np.int64] | None = None,
        full: bool = False,
        encoder: Encoder | None = None,
        folder: Path | None = None,
        settings: Sequence[str] = (),
    ) -> Update:
        """Learn from what is new, and hold the outcome against this version on the newest events.

        This recommender stays as it is; `Update.recommender` is the challenger, and
        `Update.verdict` says whether it may take over.

        Args:
            growth: from this recommender's dataset, see `isthmus.data.appending`; None:
                learn what was held back so far.
            guided: int64 [n] positions, in the larger snapshot, of events that answer a
                recommendation: they are learnt, and do not judge, for they favour whoever
                recommended.
            full: a full fine-tune over all events, not the new ones alone.
            encoder: reads the texts of new items; None loads the configured language model.
            folder: checkpoints; a killed update that is called again goes on from there.
            settings: keys of `learning` for this update alone, such as `learning.passes=1`.

        Raises:
            ConfigError: a setting that is none of `learning`, or cannot be.
            DataError: the larger snapshot does not extend this one.
            TrainingError: too little is new to learn from and to judge by.
        """
        snapshot = Snapshot.of(self._whole, growth, guided)
        return updating.updated(
            self._whole, snapshot, encoder, full=full, folder=folder, settings=settings
        )

    @property
    def _whole(self) -> Recommender:
        return cast("Recommender", self)

    def _parts(self) -> Grown:
        return Grown(self.dataset, self.split, self.raw, self.system)

    def _made_of(self, grown: Grown, kind: str, domain: str) -> Recommender:
        n_new = len(grown.dataset.events) - len(self.dataset.events)
        return type(self._whole)(
            *(grown.dataset, self.config, grown.split, grown.raw, grown.system),
            self.log,
            self.progress.beside(kind, domain, learnt=n_new),
            list(self.taught.values()),
        )
