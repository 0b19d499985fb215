"""`isthmus search`: tries settings, keeps every finished trial on disk, and says what mattered.

A trial fits the transferred side and is judged by the cross-fitted NDCG@10 of its blend on the
validation questions for tuning, the mean over the targets; test questions are never asked. The
study is an SQLite file: whatever was finished is kept through a kill at any moment, and a trial
that was cut short is begun again with the same settings, from its own checkpoint. The first trial
is the configuration as it is. Sampling: TPE (Bergstra et al., NeurIPS 2011), by Optuna.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import tomlkit

from isthmus.alignment.domains import align_features
from isthmus.config import Config, LanguageConfig
from isthmus.data.build import build_dataset
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split, configured_split
from isthmus.errors import ConfigError, IsthmusError, TrainingError
from isthmus.experiment.fingerprint import fingerprint
from isthmus.experiment.records import write_whole
from isthmus.experiment.search_record import ERROR, SearchRecord, record_of
from isthmus.experiment.search_space import SearchSpace, Values
from isthmus.threads import threads
from isthmus.transfer.sides import fit_side, roles_of
from isthmus.transfer.strategies import chosen_strategy

STUDY, BEST, LOCK = "study.db", "best.toml", "lock"
_MARK = "mark"
Tell = Callable[[str], None]


def search(config: Config, folder: Path, *, tell: Tell = lambda _line: None) -> SearchRecord:
    """Try settings until as many trials as configured are finished.

    Args:
        config: the first trial, and what may be tried.
        folder: holds the study, checkpoints of unfinished trials, and what comes out; a search
            that was killed and is called again goes on from there.
        tell: called with a line whenever a trial is finished.

    Returns:
        Every trial; `best.toml` in the folder holds the best configuration.

    Raises:
        ConfigError: a space that cannot be meant, a study of another configuration or of other
            data, or Optuna is not installed.
        TrainingError: another process searches there, or no trial could be finished.
    """
    optuna = _optuna()
    space = SearchSpace(config)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        dataset = build_dataset(config)[0]
        study = _study(optuna, folder, config, dataset)
        if not study.trials:
            study.enqueue_trial(space.usual)
        _begin_again(optuna, study, space.usual)
        n_open = config.search.trials - len(_finished(optuna, study))
        if config.search.workers > 1 and n_open > 0:
            # Two processes could take the same queued trial, so those are tried here first.
            queued = study.get_trials(states=(optuna.trial.TrialState.WAITING,))
            first = min(len(queued), n_open)
            _work(config, dataset, folder, first, tell)
            n_open -= first
        workers = min(config.search.workers, max(n_open, 0))
        if workers > 1:
            _in_processes(config, folder, n_open, workers)
        elif n_open > 0:
            _work(config, dataset, folder, n_open, tell)
        record = record_of(optuna, config.name, _finished(optuna, study), space)
    best = record.best
    if best is None:
        said = next((trial.error for trial in record.trials if trial.error), "all were broken off")
        raise TrainingError(f"no trial could be finished: {said}", where=str(folder))
    chosen = space.with_values(best.values).model_dump(mode="json", exclude_none=True)
    write_whole(folder / BEST, tomlkit.dumps(chosen).encode())
    write_whole(folder / "search.json", record.model_dump_json(indent=1).encode())
    return record


class _Prepared:
    """What all trials share: tables, split, and the texts' vectors as long as they are the same."""

    def __init__(self, config: Config, dataset: Dataset) -> None:
        self.dataset = dataset
        self.split: Split = configured_split(dataset, config.split)
        self._read: LanguageConfig | None = None
        self._raw: list[ItemFeatures] = []
        self.raw(config)

    def raw(self, config: Config) -> list[ItemFeatures]:
        """Vectors of the texts as this configuration reads them; the encoder keeps them on disk."""
        from isthmus.language.catalogues import encode_catalogues

        if self._read != config.language:
            self._raw = encode_catalogues(
                self.dataset.domains, config.language, device=config.training.device
            )
            self._read = config.language
        return self._raw

    def judge(self, config: Config, folder: Path, watch: _Watch) -> float:
        """Fit the transferred side; cross-fitted validation NDCG@10, the mean over targets."""
        target = None if config.target is None else self.dataset.domain_index(config.target)
        strategy = chosen_strategy(config.transfer, roles_of(self.dataset, config, target))
        with threads(config.training.threads):
            raw = self.raw(config)
            features = align_features(raw, config, self.dataset)
            side = fit_side(
                strategy,
                self.dataset,
                self.split,
                raw,
                features,
                config,
                target=target,
                folder=folder,
                watch=watch,
            )
        wanted = side.fitted if target is None else {target: side.fitted[target]}
        gains = [fitted.gain.mean() for fitted in wanted.values() if len(fitted.gain)]
        if not gains:
            raise TrainingError(
                "no validation question is about the target",
                where="split",
                hint="A search needs questions to judge settings by",
            )
        return float(np.mean(gains))


class _Watch:
    """Tells Optuna how a trial is doing, and breaks it off where Optuna says so."""

    def __init__(self, optuna: Any, trial: Any, *, prune: bool) -> None:
        self.optuna, self.trial, self.prune = optuna, trial, prune
        self.before = self.latest = 0

    def log(self, figures: dict[str, float], step: int) -> None:
        """Pass on a look at validation; epochs of a later stage count on from those before."""
        if step <= self.latest:
            self.before += self.latest
        self.latest = step
        if "validation" not in figures:
            return
        self.trial.report(figures["validation"], self.before + step)
        if self.prune and self.trial.should_prune():
            raise self.optuna.TrialPruned

    def close(self) -> None:
        """Nothing to do."""


def _work(
    config: Config,
    dataset: Dataset,
    folder: Path,
    n_trials: int,
    tell: Tell,
    tickets: Any = None,
) -> None:
    """Try settings, until so many were tried by this process or there is no ticket left."""
    optuna = _optuna()
    study, space = _study(optuna, folder, config, dataset), SearchSpace(config)
    prepared = _Prepared(config, dataset)
    if tickets is not None:
        # From one seed all workers would try the same.
        study.sampler.reseed_rng()

    def objective(trial: Any) -> float:
        """Validation NDCG@10 of a trial's settings; its checkpoints go once it has ended."""
        values = space.suggest(trial)
        digest = hashlib.blake2b(json.dumps(values).encode(), digest_size=8).hexdigest()
        # Two workers may still come upon the same values; each then has a folder of its own.
        place = folder / "trials" / (digest if tickets is None else f"{digest}-{os.getpid()}")
        watch = _Watch(optuna, trial, prune=config.search.prune)
        try:
            return prepared.judge(space.with_values(values), place, watch)
        except IsthmusError as error:
            trial.set_user_attr(ERROR, str(error))
            raise
        finally:
            # Checkpoints are for kills, which do not come by here; interrupts leave them, too.
            if not isinstance(sys.exception(), KeyboardInterrupt):
                shutil.rmtree(place, ignore_errors=True)

    def said(_study: Any, trial: Any) -> None:
        figure = "" if trial.value is None else f", NDCG@10 {trial.value:.4f}"
        tell(f"trial {trial.number + 1}: {trial.state.name.lower()}{figure}")

    while n_trials > 0 and (tickets is None or _ticket(tickets)):
        study.optimize(objective, n_trials=1, catch=(IsthmusError,), callbacks=[said])
        n_trials -= 1


def _in_processes(config: Config, folder: Path, n_open: int, workers: int) -> None:
    """Share the open trials out among processes."""
    context = get_context("spawn")
    tickets = context.Value("i", n_open)
    asked = config.model_dump(mode="json")
    processes = [
        context.Process(target=_worker, args=(asked, folder, n_open, tickets))
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()
    if any(process.exitcode for process in processes):
        raise TrainingError(
            "a worker of the search has died",
            where="search.workers",
            hint="Memory may be short; the same command with fewer workers goes on from here",
        )


def _worker(asked: dict[str, Any], folder: Path, n_trials: int, tickets: Any) -> None:
    config = Config.parse(asked)
    dataset = build_dataset(config)[0]
    _work(config, dataset, folder, n_trials, lambda _line: None, tickets)


def _ticket(tickets: Any) -> bool:
    with tickets.get_lock():
        tickets.value -= 1
        return bool(tickets.value >= 0)


def _study(optuna: Any, folder: Path, config: Config, dataset: Dataset) -> Any:
    """The study in a folder, new or as it was left."""
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{folder / STUDY}",
        engine_kwargs={"connect_args": {"timeout": 60}},
    )
    numbers = len(storage.get_all_studies()) and len(storage.get_all_trials(1, deepcopy=False))
    study = optuna.create_study(
        storage=storage,
        study_name="search",
        load_if_exists=True,
        direction="maximize",
        # A seed of its own for what is left, or a resumed search would repeat itself.
        sampler=optuna.samplers.TPESampler(
            seed=config.seed + numbers, constant_liar=config.search.workers > 1
        ),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=config.search.prune_from),
    )
    mark = _mark(config, dataset)
    if study.user_attrs.setdefault(_MARK, mark) != mark:
        raise ConfigError(
            "the study here was begun with other settings, tables or language model",
            where=str(folder / STUDY),
            hint="Go on with those, or choose another name, or remove the folder",
        )
    study.set_user_attr(_MARK, mark)
    return study


def _mark(config: Config, dataset: Dataset) -> str:
    """What all trials share, as a short text; how many and how fast is left out."""
    kept = config.model_dump(mode="json", exclude={"tracking": True, "tasks": True})
    kept["search"] = {"space": kept["search"]["space"]}
    return fingerprint(config, dataset, kept)


def _finished(optuna: Any, study: Any) -> list[Any]:
    """Trials that need not be repeated; one that was cut short has failed without an error."""
    states = optuna.trial.TrialState
    ended = study.get_trials(states=(states.COMPLETE, states.PRUNED, states.FAIL))
    return [t for t in ended if t.state != states.FAIL or ERROR in t.user_attrs]


def _begin_again(optuna: Any, study: Any, usual: Values) -> None:
    """Put trials that were running when a search was killed back in the queue."""
    states = optuna.trial.TrialState
    for trial in study.get_trials(states=(states.RUNNING,)):
        # In this order a further kill can at worst repeat a trial.
        study.enqueue_trial(trial.params or (usual if trial.number == 0 else {}))
        study.tell(trial.number, state=states.FAIL)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One search in a folder at a time; the system lets go of the lock when a process dies."""
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TrainingError(
                "another process is searching here",
                where=str(folder),
                hint="Wait for it; for several at a time set search.workers",
            ) from None
        yield


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "the search needs Optuna",
            where="isthmus search",
            hint="Install it: pip install 'isthmus[search]'",
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
