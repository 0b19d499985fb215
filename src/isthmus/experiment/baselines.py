"""The competitors of a comparison, by the name that reports and the command line use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from isthmus.baselines.als import ALS
from isthmus.baselines.bitgcf import BiTGCF
from isthmus.baselines.cmf import CMF
from isthmus.baselines.content import ContentKNN, ContentKNNConfig
from isthmus.baselines.cooccurrence import CoOccurrenceConfig
from isthmus.baselines.ease import EASE
from isthmus.baselines.emcdr import EMCDR
from isthmus.baselines.fading import fit_fading
from isthmus.baselines.needs import need_shared_people, need_texts
from isthmus.baselines.popular import Popular, RecentPopular
from isthmus.baselines.sasrec import fit_sasrec
from isthmus.baselines.unisrec import UniSRec
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
        neighbour: whether it is somebody else's cross-domain method, which competes when it is
            named: it takes minutes, or asks of the data what others do not.
        check: refuses data that it cannot use, given the snapshot, training events and a target.
    """

    about: str
    fit: Callable[[Ingredients], Scorer]
    seeded: bool = False
    merged: bool = False
    neighbour: bool = False
    check: Callable[[Dataset, Events, int], None] = lambda _dataset, _events, _target: None


FADES_TO = 0.05
"""Of co-occurrence by itself: what an old pair counts beside a new one, where pairs fade.

On Food–Kitchen validation behind a cut, NDCG@10 .0488 → .0696 and .0340 → .0442; less makes no
difference, .2 gives .0672 and .0437.
"""


def _text(given: Ingredients, merged: bool) -> Scorer:
    return ContentKNN.fit(given.dataset, given.events, given.raw, ContentKNNConfig(merged=merged))


def _company(given: Ingredients, merged: bool) -> Scorer:
    return fit_fading(
        given.dataset,
        given.split,
        CoOccurrenceConfig(merged=merged),
        given.config,
        reads=range(len(given.dataset.domains)),
        domains=[given.target],
        fades_to=FADES_TO,
    )


def _have_texts(dataset: Dataset, _events: Events, target: int) -> None:
    told = [domain.items["text"].count() > 0 for domain in dataset.domains]
    need_texts("unisrec", dataset, told, target)


BASELINES: dict[str, Baseline] = {
    "popular": Baseline("All-time counts.", lambda g: Popular.fit(g.dataset, g.events)),
    "recent-popular": Baseline(
        "What was popular just before the question.",
        lambda g: RecentPopular.fit(g.dataset, g.split.known_events(g.dataset)),
    ),
    "co-occurrence": Baseline(
        "What follows what, in the history of all domains.",
        lambda g: _company(g, merged=True),
        merged=True,
    ),
    "co-occurrence-target": Baseline(
        "What follows what, in the target's own history.",
        lambda g: _company(g, merged=False),
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
    "emcdr": Baseline(
        "Factors mapped from the other domains' (Man et al. 2017).",
        lambda g: EMCDR.fit(g.dataset, g.events, targets=[g.target]),
        merged=True,
        neighbour=True,
        check=partial(need_shared_people, "emcdr"),
    ),
    "cmf": Baseline(
        "All domains factorised with the same people (Singh and Gordon 2008).",
        lambda g: CMF.fit(g.dataset, g.events, g.target),
        merged=True,
        neighbour=True,
        check=partial(need_shared_people, "cmf"),
    ),
    "bitgcf": Baseline(
        "Graphs of all domains, joined at the people they share (Liu et al. 2020).",
        lambda g: BiTGCF.fit(
            g.dataset,
            g.split,
            g.config,
            targets=[g.target],
            folder=g.folder.with_name("bitgcf") if g.folder else None,
        ),
        seeded=True,
        merged=True,
        neighbour=True,
        check=partial(need_shared_people, "bitgcf"),
    ),
    "unisrec": Baseline(
        "Sequences of texts, pretrained on all domains (Hou et al. 2022).",
        lambda g: UniSRec.fit(g.dataset, g.split, g.raw, g.target, g.config, folder=g.folder),
        seeded=True,
        merged=True,
        neighbour=True,
        check=_have_texts,
    ),
}


CHEAP = ("popular", "recent-popular", "co-occurrence", "co-occurrence-target", "text")
"""Those that are fitted in seconds, for runs with many points."""


def chosen(names: Sequence[str] | None) -> dict[str, Baseline]:
    """The named baselines; None: all but the neighbours."""
    for name in names or ():
        if name not in BASELINES:
            raise ConfigError(
                f"no baseline is called {name!r}",
                where="--baselines",
                hint=did_you_mean(name, BASELINES),
            )
    return {
        name: baseline
        for name, baseline in BASELINES.items()
        if (not baseline.neighbour if names is None else name in names)
    }
