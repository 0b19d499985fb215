"""What a record shows beside figures: example users, the item map, the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from isthmus.alignment.distance import DomainDistance
from isthmus.data.check import DataReport
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.errors import RequestError
from isthmus.experiment.schema import (
    DataFacts,
    Distance,
    DomainFacts,
    DomainsApart,
    ExampleUser,
    HistoryRow,
    ItemMap,
    PairFacts,
    Recommended,
)
from isthmus.recommender import Recommender
from isthmus.transfer.learned import learned_distances

MAP_POINTS = 1500
EXAMPLES_PER_TARGET = 2
SHOWN_HISTORY, SHOWN_ITEMS = 8, 5


def example_users(recommender: Recommender, targets: Sequence[str]) -> list[ExampleUser]:
    """People whose history shows what the other domain tells: much of it there, little here.

    They are the test users with the most events elsewhere among those with one to three in the
    target, so the choice does not look at the recommendations.
    """
    dataset = recommender.dataset
    examples = []
    for target in targets:
        index = dataset.domain_index(target)
        for user in _telling_users(recommender, index):
            raw = dataset.user_ids[int(user)]
            try:
                answers = recommender.recommend(target, users=[raw], k=SHOWN_ITEMS)
            except RequestError:  # they have everything that the target offers
                continue
            own, elsewhere = _counts(dataset, user, index)
            examples.append(
                ExampleUser(
                    user=raw,
                    target=target,
                    for_whom=f"{elsewhere} events elsewhere, {own} in {target}",
                    history=_history(dataset, user),
                    recommendations=[
                        Recommended(
                            title=row["title"] or row["item_id"],
                            category=row["category"],
                            score=row["score"],
                            parts=row["parts"],
                            why=row["why"],
                        )
                        for row in answers.iter_rows(named=True)
                    ],
                )
            )
    return examples


def _telling_users(recommender: Recommender, target: int) -> NDArray[np.int64]:
    dataset, split = recommender.dataset, recommender.split
    events = dataset.events
    asked = split.test.position[events.domain[split.test.position] == target]
    users = np.unique(events.user[asked])
    total = np.diff(events.offsets)[users]
    own = np.bincount(events.user[events.domain == target], minlength=dataset.n_users)[users]
    few = (own >= 1) & (own <= 3)
    pool = np.flatnonzero(few) if few.any() else np.arange(len(users))
    best = pool[np.argsort(-(total - own)[pool], kind="stable")][:EXAMPLES_PER_TARGET]
    return users[best]


def _counts(dataset: Dataset, user: np.int64, target: int) -> tuple[int, int]:
    span = slice(dataset.events.offsets[user], dataset.events.offsets[user + 1])
    own = int((dataset.events.domain[span] == target).sum())
    return own, int(span.stop - span.start) - own


def _history(dataset: Dataset, user: np.int64) -> list[HistoryRow]:
    """The latest events, oldest first."""
    events = dataset.events
    stop = int(events.offsets[user + 1])
    rows = []
    for e in range(max(int(events.offsets[user]), stop - SHOWN_HISTORY), stop):
        domain = dataset.domains[int(events.domain[e])]
        item = domain.items.row(int(events.item[e]), named=True)
        rows.append(
            HistoryRow(
                domain=domain.name,
                title=item["title"] or item["item_id"],
                category=item["category"],
            )
        )
    return rows


def domains_apart(recommender: Recommender) -> list[DomainsApart]:
    """Distances by texts and by learned vectors, of the seed that is served; none where no loss on
    representations was on."""
    settings = recommender.config.alignment
    dataset, system = recommender.dataset, recommender.system
    if not (settings.representations or settings.user_representations):
        return []
    found = learned_distances(dataset, recommender.raw, system, recommender.config)
    return [
        DomainsApart(
            a=dataset.names[each.a],
            b=dataset.names[each.b],
            pairs=each.pairs,
            stages={name: _plain_distance(measured) for name, measured in each.stages.items()},
        )
        for each in found
    ]


def _plain_distance(measured: DomainDistance) -> Distance:
    figures = asdict(measured)
    return Distance(**{k: None if v is None or v != v else v for k, v in figures.items()})


def item_map(
    dataset: Dataset,
    raw: Sequence[ItemFeatures],
    aligned: Sequence[ItemFeatures],
    *,
    points: int = MAP_POINTS,
) -> ItemMap | None:
    """A fixed sample of at most `points` items with a text on the plane of the two widest
    directions; None where there are too few."""
    rng = np.random.default_rng(0)
    share = max(1, points // len(dataset.domains))
    kept = [np.sort(rng.permutation(np.flatnonzero(feature.present))[:share]) for feature in raw]
    if sum(map(len, kept)) < 3:
        return None
    before = np.concatenate([f.vectors[k] for f, k in zip(raw, kept, strict=True)])
    after = np.concatenate([f.vectors[k] for f, k in zip(aligned, kept, strict=True)])
    labels = np.repeat(np.arange(len(kept)), [len(k) for k in kept])
    titles = [
        domain.items["title"][int(i)] or domain.items["item_id"][int(i)]
        for domain, chosen in zip(dataset.domains, kept, strict=True)
        for i in chosen
    ]
    return ItemMap(
        domain=[dataset.names[d] for d in labels],
        title=titles,
        before=_plane(before),
        after=_plane(after),
        distance_before=_distance(before, labels),
        distance_after=_distance(after, labels),
    )


def _plane(vectors: NDArray[np.float32]) -> list[tuple[float, float]]:
    centred = vectors - vectors.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ axes[:2].T
    flat /= np.abs(flat).max() or 1.0
    return [(float(x), float(y)) for x, y in flat]


def _distance(vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> float | None:
    """Mean distance between domain centres, in units of the spread within domains."""
    present = np.unique(labels)
    if len(present) < 2:
        return None
    centres = np.stack([vectors[labels == d].mean(0) for d in present])
    within = np.sqrt(
        np.mean([((vectors[labels == d] - c) ** 2).sum(1).mean() for d, c in enumerate(centres)])
    )
    pairs = np.linalg.norm(centres[:, None] - centres[None, :], axis=2)
    return float(pairs[np.triu_indices(len(present), 1)].mean() / within) if within else None


def data_facts(report: DataReport) -> DataFacts:
    """The data report as the record keeps it."""
    dropped: dict[str, dict[str, int]] = {d.name: {} for d in report.domains}
    for entry in report.cleaning.entries:
        if entry.action == "dropped" and entry.domain in dropped:
            reasons = dropped[entry.domain]
            reasons[entry.reason] = reasons.get(entry.reason, 0) + entry.rows
    return DataFacts(
        domains=[
            DomainFacts(
                name=d.name,
                users=d.users,
                items=d.items,
                events=d.events,
                density=d.density,
                first=d.time_range[0] if d.time_range else None,
                last=d.time_range[1] if d.time_range else None,
                text_coverage=d.text_share,
                rating_scale=d.rating_scale,
                dropped=dropped[d.name],
            )
            for d in report.domains
        ],
        pairs=[
            PairFacts(
                a=p.first, b=p.second, shared_users=p.users, text_similarity=p.text_similarity
            )
            for p in report.pairs
        ],
        notes=[*report.notes, *report.advice],
    )
