"""What a fit can refuse before texts are encoded and anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.alignment.checks import check_alignment, check_losses, check_maps
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Split
from isthmus.errors import ConfigError, DataError, did_you_mean
from isthmus.transfer.checks import check
from isthmus.transfer.sides import roles_of
from isthmus.transfer.stages import PseudoLabel
from isthmus.transfer.strategies import Strategy, TargetOnly, chosen_strategy


def check_system(
    dataset: Dataset, split: Split, config: Config, targets: Sequence[int] | None = None
) -> Strategy:
    """Refuse whatever no text can change.

    Args:
        dataset: the snapshot.
        split: training events.
        config: strategy, alignment, weights of the domains.
        targets: domain indices; None: every domain.

    Returns:
        The strategy of the transferred side; with one domain, that of the target alone.

    Raises:
        ConfigError: a weight is given for a domain that does not exist, or strategy or alignment
            suit neither the domains nor the configuration.
        DataError: no training event to learn from, or an alignment lacks texts, pairs or people.
    """
    _check_weights(config, dataset.names)
    behaved = behaved_domains(dataset, split)
    check_alignment(dataset, config)
    check_maps(dataset, config)
    if len(dataset.domains) == 1:
        return TargetOnly(0)
    roles = roles_of(dataset, config, one_target(dataset, targets))
    strategy = chosen_strategy(config.transfer, roles)
    if isinstance(strategy, TargetOnly):
        _check_behaved(strategy.target, behaved, dataset.names)
    stages = strategy.stages(roles)
    check(stages, dataset.names, config)
    events = split.train_events(dataset)
    for stage in stages:
        if isinstance(stage, PseudoLabel):
            # Labels may be what joins two domains.
            break
        check_losses(dataset, events, config, stage.reads)
    return strategy


def one_target(dataset: Dataset, targets: Sequence[int] | None) -> int | None:
    """The target where there is one; None where several domains are asked about."""
    wanted = range(len(dataset.domains)) if targets is None else targets
    return wanted[0] if len(wanted) == 1 else None


def behaved_domains(dataset: Dataset, split: Split) -> set[int]:
    """Domains with a training event; a DataError where there is none."""
    events = split.train_events(dataset)
    behaved = {d for d in range(len(dataset.domains)) if (events.domain == d).any()}
    if not behaved:
        raise DataError(
            "no domain has a training event", where="domains", hint="Check the interactions files"
        )
    return behaved


def _check_weights(config: Config, names: Sequence[str]) -> None:
    for name in config.training.domain_weights:
        if name not in names:
            raise ConfigError(
                f"{name!r} is no domain",
                where="training.domain_weights",
                hint=did_you_mean(name, names),
            )


def _check_behaved(target: int, behaved: set[int], names: Sequence[str]) -> None:
    if target not in behaved:
        raise DataError(
            f"{names[target]} has no training event to learn from alone",
            where="transfer.strategy",
            hint="Choose a strategy that reads the other domains, such as zero-shot",
        )
