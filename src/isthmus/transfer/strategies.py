"""Strategies: what trains on which domains, in which order, from which start.

A strategy gives a list of stages (`isthmus.transfer.stages`); whoever runs them knows nothing else
of it. A new strategy is a small class with a name and `stages`, and `transfer.strategy` takes it by
its dotted path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

from isthmus.config import (
    DistilConfig,
    MetaConfig,
    PretrainConfig,
    PseudoLabelConfig,
    TransferConfig,
)
from isthmus.errors import ConfigError
from isthmus.settings import component
from isthmus.transfer.stages import Distil, PseudoLabel, Reptile, Stage, Train


@dataclass(frozen=True)
class Roles:
    """Which domain is the target, and how much each counts.

    Attributes:
        names: of the domains, by index.
        weights: the configured weight of each domain's mean loss, [n_domains].
        target: index of the one domain that is asked about; None where there are several.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    target: int | None = None

    @property
    def everything(self) -> tuple[int, ...]:
        """All domain indices."""
        return tuple(range(len(self.names)))

    @property
    def sources(self) -> tuple[int, ...]:
        """All domains but the target.

        Raises:
            ConfigError: there is no one target.
        """
        target = self.one_target()
        return tuple(d for d in self.everything if d != target)

    def one_target(self) -> int:
        """The target; a ConfigError where several domains are asked about."""
        if self.target is None:
            raise ConfigError(
                "this strategy needs to know the one domain it is for",
                where="transfer.strategy",
                hint=f"Set target to one of {', '.join(self.names)}, or name it with --target",
            )
        return self.target

    def leaves_out_target(self, stage: Train) -> bool:
        """Whether the target counts by its weight, but is not learnt in this stage."""
        target = self.target
        return target is not None and self.weights[target] > 0 and target not in stage.learns

    def only(self, *domains: int) -> tuple[float, ...]:
        """The weights with 0 for every other domain."""
        return tuple(w if d in domains else 0.0 for d, w in enumerate(self.weights))


class Strategy(Protocol):
    """A way to use several domains."""

    @property
    def name(self) -> str:
        """How it is called in reports."""
        ...

    def stages(self, roles: Roles) -> list[Stage]:
        """What happens in turn; what the last stage reads is what the other parts are fitted on.

        Raises:
            ConfigError: the roles do not suit it.
        """
        ...


@dataclass(frozen=True)
class TargetOnly:
    """The target's own events alone: what transfer is measured against."""

    target: int
    name: str = "target-only"

    def stages(self, roles: Roles) -> list[Stage]:
        """One stage that neither reads nor learns any other domain."""
        return [Train(self.name, (self.target,), roles.only(self.target))]


@dataclass(frozen=True)
class Joint:
    """All domains at once: merged histories, the sum of per-domain mean losses."""

    name: str = "joint"

    def stages(self, roles: Roles) -> list[Stage]:
        """One stage that reads and learns everything."""
        return [Train(self.name, roles.everything, roles.weights)]


@dataclass(frozen=True)
class PretrainFinetune:
    """Texts first, then IDs: what can be carried over is learnt before what cannot.

    Source of the two stages: MISSRec (Wang et al. 2023) and UniSRec (Hou et al. 2022), here with
    the next-item loss in both.
    """

    options: PretrainConfig = field(default_factory=PretrainConfig)
    name: str = "pretrain-finetune"

    def stages(self, roles: Roles) -> list[Stage]:
        """Text-only training, then everything with the pretrained weights at a low rate."""
        chosen = self.options
        pool = roles.sources if chosen.domains == "sources" else roles.everything
        return [
            Train("pretrain", pool, roles.only(*pool), share=chosen.share, ids=False),
            Train(
                "finetune",
                roles.everything,
                roles.weights,
                share=1 - chosen.share,
                rate=chosen.rate,
            ),
        ]


@dataclass(frozen=True)
class ZeroShot:
    """The sources alone: no event of the target enters training, which knows it by its texts."""

    name: str = "zero-shot"

    def stages(self, roles: Roles) -> list[Stage]:
        """One stage that neither reads nor learns the target."""
        return [Train(self.name, roles.sources, roles.only(*roles.sources))]


@dataclass(frozen=True)
class Distilled:
    """A teacher that is wider, or knows the sources alone, and a student that follows its lists."""

    options: DistilConfig = field(default_factory=DistilConfig)
    name: str = "distil"

    def stages(self, roles: Roles) -> list[Stage]:
        """A teacher of its own, then the model that serves."""
        chosen = self.options
        pool = roles.sources if chosen.teacher == "sources" else roles.everything
        return [
            Train("teacher", pool, roles.only(*pool), share=chosen.share, width=chosen.width),
            Distil(
                "student",
                roles.everything,
                roles.weights,
                share=1 - chosen.share,
                teacher="teacher",
                top=chosen.top,
                strength=chosen.strength,
                temperature=chosen.temperature,
            ),
        ]


@dataclass(frozen=True)
class Meta:
    """Weights that adapt fast, learnt over domains and groups of people; then they do adapt."""

    options: MetaConfig = field(default_factory=MetaConfig)
    name: str = "meta"

    def stages(self, roles: Roles) -> list[Stage]:
        """Reptile over everything, then the target (every domain, where there are several)."""
        chosen = self.options
        learns = roles.weights if roles.target is None else roles.only(roles.target)
        return [
            Reptile(
                "meta",
                roles.everything,
                roles.weights,
                share=chosen.share,
                groups=chosen.groups,
                inner_steps=chosen.inner_steps,
                outer_rate=chosen.outer_rate,
            ),
            Train("adapt", roles.everything, learns, share=1 - chosen.share, rate=chosen.rate),
        ]


@dataclass(frozen=True)
class SelfTraining:
    """Joint training, then rounds of it with confident predictions as further events."""

    options: PseudoLabelConfig = field(default_factory=PseudoLabelConfig)
    name: str = "pseudo-label"

    def stages(self, roles: Roles) -> list[Stage]:
        """A joint stage, and per round a labelling and a joint stage on what it gave."""
        chosen = self.options
        domains = roles.everything if roles.target is None else (roles.target,)
        stages: list[Stage] = [Train("first", roles.everything, roles.weights, share=chosen.share)]
        for number in range(1, chosen.rounds + 1):
            stages.append(
                PseudoLabel(
                    f"labels-{number}",
                    domains,
                    fewer_than=chosen.fewer_than,
                    confidence=chosen.confidence,
                    most=chosen.most,
                    weight=chosen.weight,
                )
            )
            share = (1 - chosen.share) / chosen.rounds
            stages.append(Train(f"round-{number}", roles.everything, roles.weights, share=share))
        return stages


def chosen_strategy(config: TransferConfig, roles: Roles) -> Strategy:
    """The strategy that the configuration names.

    Raises:
        ConfigError: a class that cannot be found or takes no such options, or a strategy for one
            target where there are several.
    """
    if ":" in config.strategy:
        return _own(config.strategy, config.options)
    makers: dict[str, Callable[[], Strategy]] = {
        "joint": Joint,
        "pretrain-finetune": lambda: PretrainFinetune(config.pretrain),
        "distil": lambda: Distilled(config.distil),
        "zero-shot": ZeroShot,
        "meta": lambda: Meta(config.meta),
        "pseudo-label": lambda: SelfTraining(config.pseudo_label),
        "target-only": lambda: _target_only(roles),
    }
    return makers[config.strategy]()


def _target_only(roles: Roles) -> TargetOnly:
    target = roles.one_target()
    return TargetOnly(target, name=f"target-only-{roles.names[target]}")


def _own(path: str, options: dict[str, object]) -> Strategy:
    """A user's class, `package.module:Class`, with its options."""
    found = component(path, {}, where="transfer.strategy")
    if not callable(getattr(found, "stages", None)):
        raise ConfigError(
            f"{path} is no strategy",
            where="transfer.strategy",
            hint="A strategy is a class with a name and a method stages(roles)",
        )
    try:
        return cast(Strategy, cast(Callable[..., object], found)(**options))
    except TypeError as error:
        raise ConfigError(
            f"{path} does not take these options: {error}",
            where="transfer.options",
            hint="Name the arguments of the class, or leave options out",
        ) from None
