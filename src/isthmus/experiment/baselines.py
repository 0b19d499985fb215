"""The competitors of a comparison, by the name that reports and the command line use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from isthmus.baselines.als import ALS
from isthmus.baselines.content import ContentKNN, ContentKNNConfig
from isthmus.baselines.cooccurrence import CoOccurrence, CoOccurrenceConfig
from isthmus.baselines.ease import EASE
from isthmus.baselines.popular import Popular, RecentPopular
from isthmus.baselines.sasrec import fit_sasrec
from isthmus.config import Config
from isthmus.data.dataset import Dataset, Events
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split
from isthmus.errors import ConfigError, did_you_mean
from isthmus.scoring import Scorer


@dataclass(frozen=True)
class Ingredients:
    """What a baseline may be made of; the events are training events only."""

    dataset: Dataset
    split: Split
    events: Events
    raw: Sequence[ItemFeatures]
    config: Config
    target: int
    folder: Path | None


@dataclass(frozen=True)
class Baseline:
    """A competitor.

    Attributes:
        about: one line for people.
        fit: makes the scorer.
        seeded: whether the training seed changes it.
        merged: whether it reads other domains.
    """

    about: str
    fit: Callable[[Ingredients], Scorer]
    seeded: bool = False
    merged: bool = False


def _text(given: Ingredients, merged: bool) -> Scorer:
    return ContentKNN.fit(given.dataset, given.events, given.raw, ContentKNNConfig(merged=merged))


BASELINES: dict[str, Baseline] = {
    "popular": Baseline("All-time counts.", lambda g: Popular.fit(g.dataset, g.events)),
    "recent-popular": Baseline(
        "What was popular just before the question.",
        lambda g: RecentPopular.fit(g.dataset, g.split.known_events(g.dataset)),
    ),
    "co-occurrence": Baseline(
        "What follows what, in the history of all domains.",
        lambda g: CoOccurrence.fit(g.dataset, g.events, CoOccurrenceConfig(merged=True)),
        merged=True,
    ),
    "co-occurrence-target": Baseline(
        "What follows what, in the target's own history.",
        lambda g: CoOccurrence.fit(g.dataset, g.events, CoOccurrenceConfig(merged=False)),
    ),
    "ease": Baseline(
        "Linear item-item model in closed form (Steck 2019).",
        lambda g: EASE.fit(g.dataset, g.events.only(g.target)),
    ),
    "als": Baseline(
        "Implicit matrix factorisation (Hu, Koren and Volinsky 2008).",
        lambda g: ALS.fit(g.dataset, g.events.only(g.target)),
    ),
    "text": Baseline(
        "Texts like those of the target's own history.", lambda g: _text(g, merged=False)
    ),
    "sasrec": Baseline(
        "Ids alone, target's own history (Kang and McAuley 2018).",
        lambda g: fit_sasrec(g.dataset, g.split, g.target, g.config, folder=g.folder)[0],
        seeded=True,
    ),
}


CHEAP = ("popular", "recent-popular", "co-occurrence", "co-occurrence-target", "text")
"""Those that are fitted in seconds, for runs with many points."""


def chosen(names: Sequence[str] | None) -> dict[str, Baseline]:
    """The named baselines; None: all of them."""
    for name in names or ():
        if name not in BASELINES:
            raise ConfigError(
                f"no baseline is called {name!r}",
                where="--baselines",
                hint=did_you_mean(name, BASELINES),
            )
    return {n: b for n, b in BASELINES.items() if names is None or n in names}
