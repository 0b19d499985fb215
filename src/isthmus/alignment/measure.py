"""How far domains are from each other, before and after each way of aligning their texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from isthmus.alignment.checks import check_alignment
from isthmus.alignment.distance import DomainDistance
from isthmus.alignment.domains import FeatureAlignment, anchor_domain, find_pairs, pairs_of_texts
from isthmus.alignment.pairs import Pairs
from isthmus.config import FEATURE_MAPS, Config
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import user_hash
from isthmus.errors import ConfigError, DataError, IsthmusError

RAW = "none"


@dataclass(frozen=True)
class Way:
    """A way of aligning texts.

    Attributes:
        maps: names or dotted paths, applied in turn; none: vectors as they are.
        basis: axes of whitening.
    """

    maps: tuple[str, ...]
    basis: str = "own"

    @property
    def name(self) -> str:
        """How it is called: `whiten (shared axes) + procrustes`."""
        parts = [f"whiten ({self.basis} axes)" if m == "whiten" else m for m in self.maps]
        return " + ".join(parts) or RAW

    def config(self, config: Config) -> Config:
        """The configuration with this way in it."""
        how = {"features": list(self.maps), "basis": self.basis}
        return config.model_copy(update={"alignment": config.alignment.model_copy(update=how)})


@dataclass(frozen=True)
class Measured:
    """What one way made of all domains.

    Attributes:
        way: which.
        features: aligned vectors per domain.
        distances: by pair of domain indices.
        missing: why there is nothing, where the way could not be gone.
    """

    way: Way
    features: list[ItemFeatures]
    distances: dict[tuple[int, int], DomainDistance]
    missing: str | None = None


@dataclass(frozen=True)
class Measurement:
    """Distances as vectors are and after each way.

    Attributes:
        anchor: index of the domain that stood still.
        judged: by pair of domain indices, how many pairs of items the distances speak of; maps
            were not fitted on these.
        ways: vectors as they are come first.
    """

    anchor: int
    judged: dict[tuple[int, int], int]
    ways: list[Measured]


def all_ways() -> list[Way]:
    """Every named map alone, and each of the others after whitening within shared axes."""
    ways = [Way(("whiten",), "own"), Way(("whiten",), "shared")]
    others = [name for name in FEATURE_MAPS if name != "whiten"]
    ways += [Way((name,)) for name in others]
    # After whitening there is no covariance left to match.
    ways += [Way(("whiten", name), "shared") for name in others if name != "coral"]
    return [*ways, Way(("whiten", "procrustes"), "own")]


def measure(
    dataset: Dataset,
    raw: Sequence[ItemFeatures],
    config: Config,
    ways: Iterable[Way],
    *,
    forgiving: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Measurement:
    """Distances of all pairs of domains as they are, and after each way.

    Where two domains have pairs of items, half of them, a choice by the items' ids, serve maps that
    need pairs, and the distance of pairs is measured on the other half.

    Args:
        dataset: names and items of the domains.
        raw: text vectors as the language model gives them, one per domain.
        config: `alignment` and `language.whiten_dim` are read.
        ways: in which order.
        forgiving: whether a way that cannot be gone is passed over, with the reason.
        tell: takes a line when something begins.

    Raises:
        ConfigError: there is one domain, or a map that cannot be found or used.
        DataError: a domain has no text; pairs cannot be read, or are needed and there are none.
    """
    ways, names = list(ways), dataset.names
    check_ways(dataset, config, ways)
    for name, feature in zip(names, raw, strict=True):
        if not feature.present.any():
            raise DataError(
                f"no item of {name!r} has a text, and alignment goes by texts",
                where=f"domains.{name}",
                hint="Map its text columns under 'catalogue', or leave the domain out",
            )
    anchor = anchor_domain(raw, config, dataset)
    tell("looking for pairs")
    fitting, judging = _pairs(dataset, raw, config)
    # As (other, anchor), which is how maps take them.
    given = {
        a + b - anchor: pairs[:, ::-1] if a == anchor else pairs
        for (a, b), pairs in fitting.items()
        if anchor in (a, b)
    }
    measured = []
    for way in [Way(()), *ways]:
        tell(way.name)
        try:
            found = FeatureAlignment.fit(raw, way.config(config), dataset, pairs=given)
        except IsthmusError as error:
            if not forgiving:
                raise
            measured.append(Measured(way, [], {}, error.what))
            continue
        distances = {
            (a, b): _distance(found.features, a, b, judging.get((a, b)))
            for a, b in combinations(range(len(names)), 2)
        }
        measured.append(Measured(way, found.features, distances))
    return Measurement(anchor, {key: len(pairs) for key, pairs in judging.items()}, measured)


def check_ways(dataset: Dataset, config: Config, ways: Iterable[Way]) -> None:
    """Refuse what no text can change, before texts are encoded; see `measure`."""
    names = dataset.names
    if len(names) == 1:
        raise ConfigError(
            f"there is one domain, {names[0]!r}, and nothing to align it with",
            where="domains",
            hint="Add a domain to the configuration",
        )
    for way in ways:
        check_alignment(dataset, way.config(config))


def _pairs(
    dataset: Dataset, raw: Sequence[ItemFeatures], config: Config
) -> tuple[dict[tuple[int, int], Pairs], dict[tuple[int, int], Pairs]]:
    """Pairs of items by pair of domains: half to fit on, half to judge by."""
    fitting, judging = {}, {}
    for a, b in combinations(range(len(dataset.domains)), 2):
        found = find_pairs(raw, config, dataset, a, b)
        if not len(found):
            continue
        ids = [dataset.domains[a].items["item_id"][int(i)] for i in found[:, 0]]
        first = user_hash(ids, "pairs-half") < 0.5
        # One pair alone is fitted on, and nothing is left to judge by.
        fitting[a, b] = found[first] if first.any() else found
        judging[a, b] = found[~first] if first.any() else found[:0]
    return fitting, judging


def _distance(
    features: Sequence[ItemFeatures], a: int, b: int, pairs: Pairs | None
) -> DomainDistance:
    rows = [features[d].vectors[features[d].present] for d in (a, b)]
    if pairs is not None:
        pairs = pairs_of_texts(pairs, features[a], features[b])
    return DomainDistance.measure(rows[0], rows[1], pairs)
