"""Both sides of the question and the gate between them: what a recommender serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from isthmus.alignment.domains import align_features, features_apart
from isthmus.blend import Gated, GateDecision, decide
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split
from isthmus.transfer.beforehand import behaved_domains, check_system, one_target
from isthmus.transfer.sides import Joined, Side, blend_of, fit_side
from isthmus.transfer.strategies import TargetOnly


@dataclass(frozen=True)
class System:
    """Everything fitted.

    Attributes:
        transferred: learnt from all domains; with one domain, the same as its target-only side.
        alone: target-only side per domain index; domains without behaviour have none.
        gates: decision per domain index.
        features: aligned text vectors per domain, which the transferred neural part reads.
        own_features: the same in each domain's own axes, which the target-only sides read, so that
            nothing of another domain reaches them; the same object where these do not differ.
        joined: by index, what answers for a domain that joined after fitting, or that had no
            behaviour then; see `isthmus.transfer.joining`.
    """

    transferred: Side
    alone: dict[int, Side]
    gates: dict[int, GateDecision]
    features: list[ItemFeatures]
    own_features: list[ItemFeatures]
    joined: dict[int, Joined] = field(default_factory=dict)

    def sides(self, domain: int) -> tuple[Side, Side | None]:
        """Who answers for a domain where the gate is open, and where it is shut."""
        if domain in self.joined:
            found = self.joined[domain]
            if found.adapted is not None:
                return found.adapted, found.arrived
            return found.arrived, None
        return self.transferred, self.alone.get(domain)

    def widest(self, *domains: int) -> Side:
        """The transferred side, or of the given domains that joined later the last one's."""
        later = [d for d in domains if d in self.joined]
        return self.sides(max(later))[0] if later else self.transferred

    def comparing(self, source: int, target: int) -> Side:
        """Whose eyes tell which items of `target` are like one of `source`."""
        before = self.sides(target)[1]
        if source == target and before is not None and self.shut_for_all(target):
            return before
        # Only what stands behind the gate has seen both domains.
        return self.widest(source, target)

    @property
    def gated(self) -> Gated:
        """The scorer to serve."""
        known = range(len(self.features))
        sides = {d: self.sides(d) for d in known}
        return Gated(
            self.transferred.blend,
            {d: shut.blend for d, (_, shut) in sides.items() if shut is not None},
            self.gates,
            joined={d: sides[d][0].blend for d in self.joined},
            knows={d: sides[d][0].n_domains for d in known},
        )

    def with_joined(self, domain: int, joined: Joined, gate: GateDecision) -> System:
        """The same, but for who answers in one domain that joined, and how far."""
        return replace(
            self,
            joined={**self.joined, domain: joined},
            gates={**self.gates, domain: gate},
        )

    def began_silent(self, domain: int) -> bool:
        """Whether the transferred side learns a domain that had no behaviour at the fit."""
        beside = domain in self.alone or domain in self.joined
        return domain in self.gates and domain in self.transferred.fitted and not beside

    def shut_for_all(self, domain: int) -> bool:
        """Whether nobody is served by the side behind the gate in `domain`."""
        return self.sides(domain)[1] is not None and self.gates[domain].everywhere == 0


def fit_system(
    dataset: Dataset,
    split: Split,
    raw: Sequence[ItemFeatures],
    config: Config,
    *,
    targets: Sequence[int] | None = None,
    folder: Path | None = None,
) -> System:
    """Fit the transferred side once, a target-only side per target, and the gates.

    Args:
        dataset: the snapshot.
        split: training events and validation questions.
        raw: text vectors as the language model gives them, per domain.
        config: everything else.
        targets: domain indices to gate; None: every domain.
        folder: where checkpoints and curves go; a killed run finds its own there.

    Raises:
        DataError: no domain has any training event, or an alignment lacks texts, pairs or people.
        ConfigError: a weight is given for a domain that does not exist, or the strategy suits
            neither the domains nor the configuration.
    """
    strategy = check_system(dataset, split, config, targets)
    behaved = behaved_domains(dataset, split)
    features = align_features(raw, config, dataset)
    apart = config.alignment.features == ["whiten"] and config.alignment.basis == "own"
    own_features = features if apart else features_apart(raw, config)
    wanted = range(len(dataset.domains)) if targets is None else targets
    one = one_target(dataset, targets)

    def fit_alone(side: TargetOnly) -> Side:
        return fit_side(side, dataset, split, raw, own_features, config, folder=folder)

    if isinstance(strategy, TargetOnly):
        only = strategy.target
        side = _with_prior_weights(fit_alone(strategy), len(dataset.domains))
        gates = {only: _nothing_to_transfer(len(dataset.domains))}
        return System(side, {only: side}, gates, own_features, own_features)
    transferred = _with_prior_weights(
        fit_side(strategy, dataset, split, raw, features, config, target=one, folder=folder),
        len(dataset.domains),
    )
    alone: dict[int, Side] = {}
    gates = {}
    for target in wanted:
        name = dataset.names[target]
        if target not in behaved or target not in transferred.fitted:
            gates[target] = _open_unjudged(name, has_behaviour=target in behaved)
            continue
        alone[target] = fit_alone(TargetOnly(target, name=f"target-only-{name}"))
        gates[target] = decide(
            transferred.fitted[target], alone[target].fitted[target], config.blend, target=name
        )
    return System(transferred, alone, gates, features, own_features)


def _nothing_to_transfer(n_domains: int) -> GateDecision:
    cause = "There is one domain" if n_domains == 1 else "The strategy is target-only"
    return GateDecision(0.0, float("nan"), None, f"{cause}: nothing to transfer.")


def _open_unjudged(name: str, *, has_behaviour: bool) -> GateDecision:
    """The gate of a domain that has no side of its own to hold the transferred one against."""
    cause = "is not learnt" if has_behaviour else "has no behaviour to validate on"
    return GateDecision(
        1.0,
        float("nan"),
        None,
        f"{name} {cause}; the transferred model "
        "is used, with the part weights of the other domains.",
    )


def open_uncompared(name: str, n: int) -> GateDecision:
    """The gate of a domain that began silent, once `n` validation questions weigh its parts."""
    questions = "1 question" if n == 1 else f"{n:,} questions"
    return GateDecision(
        1.0,
        reason=f"{name} had no behaviour when the model was fitted, so there is no target-only "
        "side to compare with; the transferred model is used, with part weights found on "
        f"{questions} of its own.",
    )


def _with_prior_weights(side: Side, n_domains: int) -> Side:
    """Domains without validation questions get the mean part weights of those that have some."""
    informed = {d for d, f in side.fitted.items() if len(f.gain)}
    others = [d for d in range(n_domains) if d not in informed]
    return replace(side, blend=blend_of(side.parts, side.fitted, side.name, others=others))
