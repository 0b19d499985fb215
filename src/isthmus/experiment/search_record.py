"""What came of a search: every trial, the best one, and which settings mattered."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from isthmus.experiment.search_space import SearchSpace, Value

ERROR = "error"
LEAST_FOR_IMPORTANCE = 4


class Trial(BaseModel):
    """One finished trial.

    Attributes:
        number: from 1, in the order in which they were finished.
        state: `complete`, `pruned` (broken off) or `fail`.
        values: what was tried.
        figure: cross-fitted validation NDCG@10 of the blend; None where not complete.
        looks: the neural part's validation NDCG@10 along the way.
        seconds: from beginning to end, the last time it was begun.
        is_default: whether it is the configuration as it was.
        error: why it failed.
    """

    number: int
    state: str
    values: dict[str, Value]
    figure: float | None
    looks: list[float]
    seconds: float
    is_default: bool
    error: str | None = None


class SearchRecord(BaseModel):
    """A search.

    Attributes:
        name: of the configuration.
        trials: finished ones.
        importance: share of what settings explain of the figure, by key, the largest first; empty
            where too few trials are complete. By PED-ANOVA (Watanabe et al., IJCAI 2023).
    """

    name: str
    trials: list[Trial]
    importance: dict[str, float]

    @property
    def best(self) -> Trial | None:
        """The complete trial with the highest figure; of equals the earlier."""
        done = [trial for trial in self.trials if trial.figure is not None]
        return max(done, key=lambda trial: (trial.figure, -trial.number)) if done else None

    @property
    def default(self) -> Trial | None:
        """The configuration as it was, where that trial is complete."""
        return next((t for t in self.trials if t.is_default and t.figure is not None), None)


def record_of(optuna: Any, name: str, finished: Sequence[Any], space: SearchSpace) -> SearchRecord:
    """A record of finished Optuna trials."""
    ended = sorted(finished, key=lambda trial: trial.datetime_complete)
    trials = [
        Trial(
            number=number,
            state=trial.state.name.lower(),
            values=trial.params,
            figure=trial.value if trial.state.name == "COMPLETE" else None,
            looks=[value for _, value in sorted(trial.intermediate_values.items())],
            seconds=(trial.datetime_complete - trial.datetime_start).total_seconds(),
            is_default=trial.params == space.usual,
            error=trial.user_attrs.get(ERROR),
        )
        for number, trial in enumerate(ended, 1)
    ]
    complete = [trial for trial in ended if trial.state.name == "COMPLETE"]
    return SearchRecord(name=name, trials=trials, importance=_importance(optuna, complete))


def _importance(optuna: Any, complete: Sequence[Any]) -> dict[str, float]:
    if len(complete) < LEAST_FOR_IMPORTANCE or len({trial.value for trial in complete}) < 2:
        return {}
    study = optuna.create_study(direction="maximize")
    study.add_trials(complete)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The best half against all: of few trials a tenth would be one.
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: float(share) for key, share in found.items()}
