"""The same question with less of the target, and with something destroyed on purpose.

A point is a target, a share of its behaviour and a control. At each, both sides are fitted anew
for several seeds and asked the test questions of the whole. Points are kept on disk like every
other part of a comparison, so a killed curve goes on with what is missing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split
from isthmus.data.thinning import By, Thinned, thin
from isthmus.errors import ConfigError, DataError
from isthmus.experiment.baselines import CHEAP, Baseline, Ingredients, chosen
from isthmus.experiment.controls import ALONE_UNCHANGED, alter, check_control
from isthmus.experiment.environment import begin_peak
from isthmus.experiment.seed_run import Exam, Measured, measure_baseline, measure_systems
from isthmus.recommender import Recommender
from isthmus.transfer.beforehand import check_system
from isthmus.transfer.sides import roles_of
from isthmus.transfer.strategies import chosen_strategy
from isthmus.transfer.system import fit_system

LEAST_EVENTS = 10
"""Training events of the target below which there is nothing to learn from or to divide."""

NONE = "none"


@dataclass(frozen=True)
class Point:
    """One place of the curve; `target` is a domain index."""

    target: int
    share: float
    control: str = NONE


@dataclass(frozen=True)
class CurvePlan:
    """Which points are measured beside the ordinary comparison.

    Attributes:
        shares: of the target's behaviour, rising; the whole is measured in any case.
        by: what a share is of, see `isthmus.data.thinning`.
        controls: names from `experiment.controls.CONTROLS`; each is run at every share.
        baselines: competitors at shares below 1; None: the cheap ones of the comparison.

    Raises:
        ConfigError: shares outside (0, 1] or not rising, a control given twice, an unknown
            baseline.
    """

    shares: tuple[float, ...] = (1.0,)
    by: By = "users"
    controls: tuple[str, ...] = ()
    baselines: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for share in self.shares:
            if not 0 < share <= 1:
                raise ConfigError(
                    f"{share:g} is no share of the target's data",
                    where="--curve",
                    hint="Write shares above 0 and up to 1: 0.1,0.25,1",
                )
        if any(b <= a for a, b in pairwise(self.shares)):
            raise ConfigError(
                f"the shares {', '.join(f'{s:g}' for s in self.shares)} do not rise",
                where="--curve",
                hint="Write each once, the smallest first",
            )
        if len(set(self.controls)) < len(self.controls):
            raise ConfigError("a control is given twice", where="--control", hint="Give it once")
        chosen(self.baselines)

    def points(self, targets: Sequence[int]) -> list[Point]:
        """All points but the ordinary comparison's, in the order in which they are measured."""
        shares = dict.fromkeys((*self.shares, 1.0))
        every = [
            Point(target, share, control)
            for control in (NONE, *self.controls)
            for target in targets
            for share in shares
        ]
        return [point for point in every if point.share < 1 or point.control != NONE]

    def competitors(self, of_comparison: Sequence[str]) -> dict[str, Baseline]:
        """Baselines at shares below 1."""
        if self.baselines is not None:
            return chosen(self.baselines)
        return chosen([name for name in of_comparison if name in CHEAP])

    def check(self, dataset: Dataset, split: Split, targets: Sequence[int], config: Config) -> None:
        """Refuse what cannot be measured, before anything is fitted.

        Raises:
            ConfigError: one domain only, a control that has nothing to destroy, a baseline that
                cannot use what a share leaves, or several targets and a strategy that would train
                otherwise for one of them.
            DataError: a share leaves fewer than `LEAST_EVENTS` training events of a target, or
                less than an alignment needs.
        """
        if len(dataset.domains) == 1:
            raise ConfigError(
                "there is one domain, so there is no transfer to measure with less data",
                where="--curve" if self.shares != (1.0,) else "--control",
                hint="Add a second domain, or leave the option out",
            )
        for target in targets:
            if len(targets) > 1:
                _check_same_stages(dataset, config, target)
            for control in self.controls:
                check_control(control, dataset, target)
            for share in self.shares:
                left = thin(dataset, split, target, share, self.by)
                if left.n_events < LEAST_EVENTS:
                    raise DataError(
                        f"a share of {share:g} by {self.by} leaves {left.n_events} training "
                        f"events in {dataset.names[target]!r}, and it takes {LEAST_EVENTS}",
                        where="--curve",
                        hint="Give a larger share",
                    )
                check_system(left.dataset, left.split, config, [target])
                events = left.split.train_events(left.dataset)
                for baseline in chosen(self.baselines or ()).values():
                    baseline.check(left.dataset, events, target)


def _check_same_stages(dataset: Dataset, config: Config, target: int) -> None:
    """Raise ConfigError where a strategy trains otherwise for one target than for several.

    A point is fitted for one target; the ordinary comparison, its share of 1, for all of them.
    """
    one, several = (
        chosen_strategy(config.transfer, roles).stages(roles)
        for roles in (roles_of(dataset, config, t) for t in (target, None))
    )
    if one != several:
        raise ConfigError(
            f"with several targets, {config.transfer.strategy} trains otherwise than for one, and "
            "each point of a curve or a control is of one",
            where="--target",
            hint=f"Compare one target at a time: --target {dataset.names[target]}",
        )


@dataclass(frozen=True)
class Whole:
    """What every point is cut from.

    Attributes:
        config: of the comparison.
        dataset: with everything.
        split: of it.
        raw: text vectors per domain.
        mark: what finished parts depend on, see `compare.fingerprint`.
        folder: of the run's parts.
        tell: called with a line when a stage begins.
    """

    config: Config
    dataset: Dataset
    split: Split
    raw: Sequence[ItemFeatures]
    mark: str
    folder: Path
    tell: Callable[[str], None] = field(default=lambda _line: None)

    def altered(self, point: Point) -> Whole:
        """The same after the point's control."""
        if point.control == NONE:
            return self
        dataset, raw = alter(point.control, self.dataset, self.split, self.raw, point.target)
        return replace(self, dataset=dataset, raw=raw)

    def place(self, point: Point, by: By, seed: int) -> Path:
        """Where a point's parts lie."""
        if point.share == 1 and point.control == NONE:
            return self.folder / f"seed-{seed}"
        name = f"{by}-{point.share:g}" if point.share < 1 else "whole"
        if point.control != NONE:
            name = f"{name}-{point.control}"
        return self.folder / "curve" / self.dataset.names[point.target] / name / f"seed-{seed}"


def measure_curve(
    plan: CurvePlan, whole: Whole, targets: Sequence[int], seeds: Sequence[int], of: Sequence[str]
) -> dict[Point, list[Measured]]:
    """Fit and measure every point that is not on disk yet.

    Args:
        plan: the points.
        whole: what they are cut from.
        targets: domain indices.
        seeds: training seeds.
        of: names of the comparison's baselines.

    Returns:
        By point, one entry per seed.
    """
    found: dict[Point, list[Measured]] = {}
    for point in plan.points(targets):
        competitors = plan.competitors(of) if point.control == NONE else {}
        found[point] = _measure_point(point, plan, whole, seeds, competitors)
    return found


def _measure_point(
    point: Point,
    plan: CurvePlan,
    whole: Whole,
    seeds: Sequence[int],
    competitors: Mapping[str, Baseline],
) -> list[Measured]:
    mark = _mark(whole.mark, point, plan.by, whole.dataset.names)
    made: tuple[Whole, Thinned] | None = None
    measured = []
    for seed in seeds:
        place = whole.place(point, plan.by, seed)
        wanted = {n: b for n, b in competitors.items() if b.seeded or seed == seeds[0]}
        found = Measured.load(place / "systems", mark)
        parts = {name: Measured.load(place / "baselines" / name, mark) for name in wanted}
        if found is None or None in parts.values():
            if made is None:
                altered = whole.altered(point)
                made = (
                    altered,
                    thin(altered.dataset, whole.split, point.target, point.share, plan.by),
                )
            run = _Run(*made, point, seed, place, mark, _label(point, whole.dataset, seed))
            if found is None:
                if point.control in ALONE_UNCHANGED:
                    _lend_alone(whole, point, plan.by, seed, place)
                found = run.systems()
            for name, baseline in wanted.items():
                if parts[name] is None:
                    parts[name] = run.baseline(name, baseline)
        for part in parts.values():
            assert part is not None, "it was measured above"
            found.join(part)
        measured.append(found)
    return measured


@dataclass(frozen=True)
class _Run:
    """One seed of one point."""

    whole: Whole
    thinned: Thinned
    point: Point
    seed: int
    place: Path
    mark: str
    label: str

    @property
    def config(self) -> Config:
        """The whole comparison's, under this seed."""
        return self.whole.config.model_copy(update={"seed": self.seed})

    @property
    def exam(self) -> Exam:
        """What everybody is asked; at a share below 1, with what was thinned out hidden."""
        hidden = self.thinned.hidden if self.point.share < 1 else None
        return Exam(self.whole.dataset, self.thinned.asked, hidden)

    def systems(self) -> Measured:
        """Both sides, fitted on what is left and asked everything."""
        given, split, raw = self.thinned.dataset, self.thinned.split, self.whole.raw
        self.whole.tell(f"{self.label}: fitting both sides")
        begin_peak()
        began = time.perf_counter()
        system = fit_system(
            given, split, raw, self.config, targets=[self.point.target], folder=self.place
        )
        recommender = Recommender(given, self.config, split, raw, system)
        fitting = time.perf_counter() - began
        self.whole.tell(f"{self.label}: measuring both sides")
        found = measure_systems(
            recommender, [self.point.target], self.config, fitting, exam=self.exam
        )
        found.save(self.place / "systems", self.mark)
        return found

    def baseline(self, name: str, baseline: Baseline) -> Measured:
        """A competitor, likewise."""
        self.whole.tell(f"{self.label}: {name}")
        begin_peak()
        given, split = self.thinned.dataset, self.thinned.split
        ingredients = Ingredients(
            given,
            split,
            split.train_events(given),
            self.whole.raw,
            self.config,
            self.point.target,
            None,
        )
        found = measure_baseline(
            name, baseline, ingredients, [self.point.target], self.place, exam=self.exam
        )
        found.save(self.place / "baselines" / name, self.mark)
        return found


def _label(point: Point, dataset: Dataset, seed: int) -> str:
    control = "" if point.control == NONE else f", {point.control}"
    return f"seed {seed}, {dataset.names[point.target]} at {point.share:.3g}{control}"


def _mark(whole: str, point: Point, by: By, names: Sequence[str]) -> str:
    """What a finished part of a point depends on beside the seed."""
    share = [by, point.share] if point.share < 1 else []
    what = [whole, names[point.target], share, point.control]
    return hashlib.blake2b(json.dumps(what).encode(), digest_size=16).hexdigest()


def _lend_alone(whole: Whole, point: Point, by: By, seed: int, place: Path) -> None:
    """Hand on the checkpoints of the target alone, which a control of the sources leaves as it is.

    Training looks at what it is given to decide whether they are its own, so this saves time and
    can change no figure.
    """
    name = f"target-only-{whole.dataset.names[point.target]}"
    trained = whole.place(replace(point, control=NONE), by, seed) / "checkpoints" / name
    here = place / "checkpoints" / name
    if trained.is_dir() and not here.exists():
        aside = here.with_name(f".{name}")
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(trained, aside)
        aside.rename(here)
