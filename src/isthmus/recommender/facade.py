"""Two catalogues in, recommendations out: the whole library behind one class.

recommender = Recommender.fit(dataset)
recommender.recommend("gear", users=["ann"])
recommender.save("model"); Recommender.load("model")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from isthmus.blend import GateDecision
from isthmus.config import Config
from isthmus.continual.progress import Progress
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split, check_held_back, configured_split
from isthmus.evaluation.evaluate import QueryName
from isthmus.evaluation.result import Evaluation
from isthmus.recommender import storage
from isthmus.recommender.answering import Answering
from isthmus.recommender.encoding import Encoder, read_catalogues
from isthmus.recommender.extending import Extending
from isthmus.recommender.measuring import measured
from isthmus.recommender.storage import LogPosition
from isthmus.recommender.telling import Telling
from isthmus.scoring import Scorer
from isthmus.tasks.teach import Taught
from isthmus.threads import threads
from isthmus.transfer.beforehand import check_system
from isthmus.transfer.system import System, fit_system

if TYPE_CHECKING:
    from isthmus.language.cross_encoder import CrossEncoder


class Recommender(Answering, Extending, Telling):
    """A fitted system, ready to answer for every domain of its dataset.

    Attributes:
        dataset: the snapshot it was fitted to.
        config: how.
        split: what it learnt from, and the questions it is measured on.
        raw: text vectors per domain as the language model gave them.
        system: both sides and the gates.
        log: how much of which event log is in `dataset` and the model; None: of none.
        progress: what this version started from, and why it does or does not serve.
        taught: heads of further tasks, by task; see `teach`.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: Config,
        split: Split,
        raw: Sequence[ItemFeatures],
        system: System,
        log: LogPosition | None = None,
        progress: Progress | None = None,
        taught: Sequence[Taught] = (),
    ) -> None:
        super().__init__(dataset)
        self.dataset, self.config, self.split = dataset, config, split
        self.raw, self.system, self.log = list(raw), system, log
        self.progress = progress or Progress()
        self.taught = {heads.task: heads for heads in taught}

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        config: Config | None = None,
        *,
        split: Split | None = None,
        targets: Sequence[str] | None = None,
        folder: Path | None = None,
        encoder: Encoder | None = None,
    ) -> Recommender:
        """Encode texts, train both sides, weigh their parts and set the gates.

        Args:
            dataset: the snapshot.
            config: everything else; None: defaults.
            split: None makes the configured one.
            targets: domains to gate; None: the configured target, or every domain.
            folder: checkpoints and curves; a killed fit that is called again goes on from there.
            encoder: reads the texts; None loads the configured language model.

        Raises:
            ConfigError: a strategy or an alignment that cannot be meant.
            DataError: nothing to learn from, the split leaves one side empty, or an alignment
                lacks texts, pairs or people.
            LanguageModelError: the language model cannot be found or run.
            RequestError: an unknown target.
        """
        config = config or Config()
        if targets is None and config.target is not None:
            targets = [config.target]
        indices = None if targets is None else [dataset.domain_index(name) for name in targets]
        split = split or configured_split(dataset, config.split)
        check_system(dataset, split, config, indices)
        with threads(config.training.threads):
            raw = read_catalogues(dataset.domains, config, encoder)
            system = fit_system(dataset, split, raw, config, targets=indices, folder=folder)
        return cls(dataset, config, split, raw, system)

    @property
    def gates(self) -> dict[str, GateDecision]:
        """How far transfer is let in, by domain."""
        return {self.dataset.names[d]: gate for d, gate in self.system.gates.items()}

    def evaluate(
        self,
        *,
        queries: QueryName = "test",
        systems: Mapping[str, Scorer] | None = None,
        domains: Sequence[str] | None = None,
        rerank: CrossEncoder | None = None,
        most: int | None = None,
    ) -> dict[str, dict[str, Evaluation]]:
        """Measure on the questions of the split.

        Args:
            queries: which questions; `test` is to be asked once.
            systems: by name; None: `gated` (what is served), `transferred` and `target-only`.
            domains: targets; None: every domain that some question is about.
            rerank: a language model that `teach_language` tuned: adds `reranked`, what is served
                with its best `tasks.cross_encoder.rerank` put in order anew.
            most: questions about a domain at most, drawn at random by the seed; None: all.

        Returns:
            Evaluations by domain, then system.

        Raises:
            RequestError: an unknown domain.
            DataError: no question is about a domain that was named, or none is held back.
        """
        check_held_back(getattr(self.split, queries))
        asked = getattr(self.split, queries).position
        found = np.unique(self.dataset.events.domain[asked]).tolist()
        wanted = found if domains is None else [self.dataset.domain_index(n) for n in domains]
        return {
            self.dataset.names[d]: measured(
                self.dataset,
                self.split,
                self.system,
                d,
                self.config,
                queries,
                systems,
                rerank=rerank,
                most=most,
            )
            for d in wanted
        }

    def save(self, folder: Path | str, *, live: bool = True, keep: int | None = None) -> Path:
        """Write a version into a model folder; see `isthmus.training.checkpoint`.

        Args:
            folder: the model's; made where it is missing.
            live: off: the version is kept, and another one stays live.
            keep: older versions to keep; None: `learning.keep_versions`.

        Returns:
            The version's own folder.

        Raises:
            CheckpointError: the folder cannot be written or holds other things.
        """
        parts = storage.Parts(
            self.dataset,
            self.config,
            self.split,
            self.raw,
            self.system,
            self.log,
            self.progress,
            list(self.taught.values()),
        )
        version = storage.save(Path(folder), parts, live=live, keep=keep)
        self.progress = replace(self.progress, written=True)
        return version

    @classmethod
    def load(cls, folder: Path | str, *, version: str | None = None) -> Recommender:
        """Read a model folder; it gives the same scores as before.

        Args:
            folder: the model's.
            version: name of one that is kept; None: the live one.

        Raises:
            CheckpointError: no such folder, one of another tool, damaged, or newer than this
                library.
        """
        return cls(*storage.load(Path(folder), version))
