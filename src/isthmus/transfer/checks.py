"""What a list of stages must be before anything is trained by it."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.config import Config
from isthmus.errors import ConfigError, did_you_mean
from isthmus.transfer.stages import Distil, PseudoLabel, Reptile, Stage, Train


def check(stages: Sequence[Stage], names: Sequence[str], config: Config) -> None:
    """Refuse a list of stages that cannot be meant.

    Raises:
        ConfigError: stages that contradict each other, the domains or the configuration.
    """
    if not stages:
        raise ConfigError("the strategy has no stage", where="transfer.strategy")
    seen: set[str] = set()
    can_label = False
    for stage in stages:
        where = f"transfer.strategy, stage {stage.name!r}"
        if stage.name in seen:
            raise ConfigError("two stages have this name", where=where, hint="Rename one")
        seen.add(stage.name)
        if isinstance(stage, PseudoLabel):
            _check_labelling(stage, names, where, can_label=can_label)
        else:
            _check_training(stage, names, config, where)
            can_label = can_label or stage.width is None
    training = [stage for stage in stages if isinstance(stage, Train)]
    if sum(stage.share for stage in training) > 1 + 1e-6:
        raise ConfigError(
            "the shares of the stages add up to more than 1",
            where="transfer.strategy",
            hint="All strategies have training.epochs to spend; raise that instead",
        )
    if len(training) > config.training.epochs:
        raise ConfigError(
            f"{config.training.epochs} for {len(training)} stages that train, "
            "and each takes at least one",
            where="training.epochs",
            hint=f"Set it to {len(training)} or more, or choose a strategy with fewer stages",
        )
    last = stages[-1]
    if not isinstance(last, Train):
        raise ConfigError(
            "the last stage trains nothing",
            where=f"transfer.strategy, stage {last.name!r}",
            hint="Let a Train stage use what it made",
        )
    if last.width is not None:
        raise ConfigError(
            "the last stage trains a model of its own, not the one that is going to serve",
            where=f"transfer.strategy, stage {last.name!r}",
            hint="Leave its width out",
        )
    _check_teachers(stages)
    if not last.ids and config.model.use_ids:
        raise ConfigError(
            "the last stage leaves IDs out, and the model would be served with untrained ones",
            where=f"transfer.strategy, stage {last.name!r}",
            hint="Set model.use_ids = false, or add a stage with IDs",
        )


def _check_training(stage: Train, names: Sequence[str], config: Config, where: str) -> None:
    domains = range(len(names))
    if len(stage.weights) != len(names) or not set(stage.reads) <= set(domains):
        raise ConfigError(
            f"reads {list(stage.reads)} and weighs {len(stage.weights)} domains, "
            f"and there are {len(names)}",
            where=where,
        )
    if not set(stage.learns) & set(stage.reads):
        raise ConfigError(
            "it learns no domain that it reads",
            where=where,
            hint="Check training.domain_weights, and that there is a source beside the target",
        )
    if not (0 < stage.share <= 1 and stage.rate > 0):
        raise ConfigError(f"share {stage.share} or rate {stage.rate} is out of range", where=where)
    if isinstance(stage, Reptile) and not (
        stage.groups >= 1 and stage.inner_steps >= 1 and 0 < stage.outer_rate <= 1
    ):
        raise ConfigError(
            "groups and inner_steps are at least 1, outer_rate is above 0 and at most 1",
            where=where,
        )
    if not stage.ids and not config.model.use_text:
        raise ConfigError(
            "it leaves IDs out, and model.use_text is off: items are known by nothing",
            where=where,
            hint="Set model.use_text = true",
        )


def _check_teachers(stages: Sequence[Stage]) -> None:
    """Every teacher stands before its student, and nothing is trained for nobody."""
    trained: list[str] = []
    for stage in stages:
        where = f"transfer.strategy, stage {stage.name!r}"
        if isinstance(stage, Distil):
            if stage.teacher not in trained:
                raise ConfigError(
                    f"its teacher {stage.teacher!r} is no stage before it",
                    where=where,
                    hint=did_you_mean(stage.teacher, trained),
                )
            if stage.top < 1 or stage.strength <= 0 or stage.temperature <= 0:
                raise ConfigError("top, strength or temperature is out of range", where=where)
        if isinstance(stage, Train):
            trained.append(stage.name)
    wanted = {stage.teacher for stage in stages if isinstance(stage, Distil)}
    for stage in stages:
        if isinstance(stage, PseudoLabel) or stage.width is None:
            continue
        if stage.width <= 0 or stage.name not in wanted:
            raise ConfigError(
                "a model of its own needs a positive width and a stage that it teaches",
                where=f"transfer.strategy, stage {stage.name!r}",
            )


def _check_labelling(
    stage: PseudoLabel, names: Sequence[str], where: str, *, can_label: bool
) -> None:
    if not stage.domains or not set(stage.domains) <= set(range(len(names))):
        raise ConfigError(
            f"labels {list(stage.domains)}, and there are {len(names)} domains", where=where
        )
    if stage.fewer_than < 1 or stage.most < 0 or stage.weight <= 0:
        raise ConfigError("fewer_than, most or weight is out of range", where=where)
    if not can_label:
        raise ConfigError(
            "nothing has been trained that could label",
            where=where,
            hint="Put a Train stage before it",
        )
