"""What a dataset is like and what will go wrong with it, before any model is trained.

Figures per domain and per pair of domains, then advice: a fact, and what to do about it. Nothing
here needs a language model; texts are compared by the words they use.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.advice import advise
from isthmus.data.cleaning import CleaningReport
from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.data.timestamps import calendar
from isthmus.errors import DataError

_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
_WORDS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[\p{L}\p{N}]+"
_MOST_TEXTS = 100_000


@dataclass(frozen=True)
class DomainFigures:
    """One domain in figures.

    Attributes:
        name: the domain's name.
        users: people with events in it.
        items: size of the catalogue.
        events: number of events.
        density: events per possible pair of person and item.
        events_per_user: quantile → events of a person in this domain.
        silent_items: share of items without any event.
        single_users: share of its people with one event in it.
        text_share: share of items with a text.
        text_words: median words of a text.
        time_range: first and last day as ISO dates, or None without times.
        day_resolution: whether all times are whole days.
        tied_share: share of its events at the same moment as the event before in the person's
            merged history, or None without times.
        late_share: share of events in the last fifth of the time range.
        last_part: share of its events after the moment that cuts all events at 80 %, or None.
        rating_scale: lowest and highest rating, or None.
        top_share: share of events on the most popular hundredth of its items.
        duplicates: events that repeat another in person, item and moment.
    """

    name: str
    users: int
    items: int
    events: int
    density: float
    events_per_user: dict[str, float]
    silent_items: float
    single_users: float
    text_share: float
    text_words: float
    time_range: tuple[str, str] | None
    day_resolution: bool
    tied_share: float | None
    late_share: float | None
    last_part: float | None
    rating_scale: tuple[float, float] | None
    top_share: float
    duplicates: int


@dataclass(frozen=True)
class PairFigures:
    """Two domains beside each other.

    Attributes:
        first: name of one.
        second: name of the other.
        users: people with events in both.
        share: the same as a share of the smaller domain's people.
        events: events of these people, in (first, second).
        text_similarity: Bhattacharyya coefficient of the two distributions of words, 0 to 1; None
            where one has no texts.
        shared_words: share of the smaller vocabulary (words used twice or more) that the other
            uses too; None where one has no texts.
    """

    first: str
    second: str
    users: int
    share: float
    events: tuple[int, int]
    text_similarity: float | None
    shared_words: float | None


@dataclass(frozen=True)
class DataReport:
    """Figures, cleaning and advice.

    Attributes:
        users: people in all.
        domains: figures per domain.
        pairs: figures per pair of domains.
        advice: what will go wrong and what to do, gravest first.
        notes: what building the dataset found worth saying.
        cleaning: what cleaning dropped or changed.
    """

    users: int
    domains: tuple[DomainFigures, ...]
    pairs: tuple[PairFigures, ...]
    advice: tuple[str, ...]
    notes: tuple[str, ...]
    cleaning: CleaningReport

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        plain = {
            "users": self.users,
            "domains": [asdict(figures) for figures in self.domains],
            "pairs": [asdict(figures) for figures in self.pairs],
            "advice": list(self.advice),
            "notes": list(self.notes),
            "cleaning": self.cleaning.to_dict(),
        }
        return plain

    def sentences(self) -> list[str]:
        """The report as sentences for a terminal: domains, pairs, cleaning, advice."""
        said = [_domain_sentence(figures) for figures in self.domains]
        said += [_pair_sentence(figures) for figures in self.pairs]
        return [*said, *self.notes, *self.cleaning.lines(), *self.advice]

    def to_markdown(self) -> str:
        """The report as a Markdown page."""
        head = "| domain | users | items | events | density | median events | text | times |"
        rows = [
            f"| {d.name} | {d.users:,} | {d.items:,} | {d.events:,} | {d.density:.3%} "
            f"| {d.events_per_user.get('0.5', 0):g} | {d.text_share:.0%} "
            f"| {' to '.join(d.time_range) if d.time_range else 'none'} |"
            for d in self.domains
        ]
        parts = [
            ("What will go wrong, and what to do", self.advice or ("Nothing stands out.",)),
            ("Domains", [_domain_sentence(figures) for figures in self.domains]),
            ("Pairs", [_pair_sentence(figures) for figures in self.pairs]),
            ("Cleaning", [*self.notes, *self.cleaning.lines()]),
        ]
        table = "\n".join([head, "|---|" + "---:|" * 6 + "---|", *rows])
        lists = "\n".join(
            f"\n## {title}\n\n" + "\n".join(f"- {line}" for line in lines)
            for title, lines in parts
            if lines
        )
        return f"# Data report\n\n{self.users:,} people.\n\n{table}\n{lists}\n"

    def write(self, folder: Path) -> None:
        """Write `data-report.md` and `data-report.json`.

        Raises:
            DataError: the folder cannot be written.
        """
        folder = Path(folder)
        text = json.dumps(self.to_dict(), ensure_ascii=False, indent=1)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "data-report.json").write_text(text, "utf-8")
            (folder / "data-report.md").write_text(self.to_markdown(), "utf-8")
        except OSError as error:
            raise DataError(
                f"the report cannot be written: {error.strerror or error}",
                where=str(folder),
                hint="Choose another folder, or check that you may write there",
            ) from None


def check_dataset(dataset: Dataset, cleaning_report: CleaningReport) -> DataReport:
    """Measure a dataset and advise on it."""
    n = len(dataset.domains)
    cell = dataset.events.user * n + dataset.events.domain
    # [n_users, n_domains]: events of each person in each domain.
    counts = np.bincount(cell, minlength=dataset.n_users * n).reshape(dataset.n_users, n)
    domains = tuple(_domain_figures(dataset, i, counts[:, i], cleaning_report) for i in range(n))
    pairs = _pair_figures(dataset, counts)
    return DataReport(
        users=dataset.n_users,
        domains=domains,
        pairs=pairs,
        advice=advise(domains, pairs, cleaning_report),
        notes=dataset.notes,
        cleaning=cleaning_report,
    )


def _domain_figures(
    dataset: Dataset, index: int, per_user: NDArray[np.int64], report: CleaningReport
) -> DomainFigures:
    domain, events = dataset.domains[index], dataset.events
    mine = events.domain == index
    item, time, rating = events.item[mine], events.time[mine], events.rating[mine]
    per_user = per_user[per_user > 0]
    per_item = np.bincount(item, minlength=domain.n_items)
    n, users = len(item), len(per_user)
    spread = {
        f"{q:g}": float(np.quantile(per_user, q, method="lower")) for q in _QUANTILES if users
    }
    top = np.sort(per_item)[::-1][: max(domain.n_items // 100, 1)].sum()
    clocked = bool(n) and not np.isnan(time).any()
    low, high = (float(time.min()), float(time.max())) if clocked else (0.0, 0.0)
    rated = rating[~np.isnan(rating)]
    found = (float(rated.min()), float(rated.max())) if len(rated) else None
    text = domain.items["text"]
    words = text.drop_nulls().str.count_matches(_WORDS).median()
    return DomainFigures(
        name=domain.name,
        users=users,
        items=domain.n_items,
        events=n,
        density=n / max(users * domain.n_items, 1),
        events_per_user=spread,
        silent_items=float((per_item == 0).mean()) if domain.n_items else 0.0,
        single_users=float((per_user == 1).mean()) if users else 0.0,
        text_share=1 - text.null_count() / max(domain.n_items, 1),
        text_words=float(words) if isinstance(words, int | float) else 0.0,
        time_range=(_day(low), _day(high)) if clocked else None,
        day_resolution=clocked and bool((time % 86_400 == 0).all()),
        tied_share=_tied_share(events, mine) if clocked else None,
        late_share=float((time > high - (high - low) / 5).mean())
        if clocked and high > low
        else None,
        last_part=_last_part(events, mine) if clocked else None,
        rating_scale=report.rating_scales.get(domain.name, found),
        top_share=float(top / n) if n else 0.0,
        duplicates=report.duplicates.get(domain.name, 0),
    )


def _tied_share(events: Events, mine: NDArray[np.bool_]) -> float:
    tied = np.zeros(len(events), bool)
    tied[1:] = (np.diff(events.user) == 0) & (np.diff(events.time) == 0)
    return float(tied[mine].mean())


def _last_part(events: Events, mine: NDArray[np.bool_]) -> float | None:
    """Share of a domain's events in the last fifth of all events, where every one has a time."""
    if np.isnan(events.time).any():
        return None
    cut = np.quantile(events.time, 0.8, method="higher")
    return float((events.time[mine] >= cut).mean())


def _pair_figures(dataset: Dataset, counts: NDArray[np.int64]) -> tuple[PairFigures, ...]:
    active = (counts > 0).astype(np.int64)
    common = active.T @ active
    events = counts.T @ active
    words = [_words(domain) for domain in dataset.domains]
    figures = []
    for a, b in combinations(range(len(dataset.domains)), 2):
        similarity, shared = _compare(words[a], words[b])
        figures.append(
            PairFigures(
                first=dataset.names[a],
                second=dataset.names[b],
                users=int(common[a, b]),
                share=float(common[a, b] / max(min(common[a, a], common[b, b]), 1)),
                events=(int(events[a, b]), int(events[b, a])),
                text_similarity=similarity,
                shared_words=shared,
            )
        )
    return tuple(figures)


def _words(domain: Domain) -> pl.DataFrame:
    """Words of a domain's texts: columns `word`, `n`. Scripts without spaces count by character."""
    texts = domain.items["text"].drop_nulls()
    texts = texts.gather_every(len(texts) // _MOST_TEXTS + 1)
    words = texts.str.to_lowercase().str.extract_all(_WORDS).alias("word").to_frame()
    return words.explode("word").drop_nulls().group_by("word").agg(pl.len().alias("n"))


def _compare(a: pl.DataFrame, b: pl.DataFrame) -> tuple[float | None, float | None]:
    """(Bhattacharyya coefficient, share of the smaller vocabulary that both use)."""
    if not (a.height and b.height):
        return None, None
    joint = a.join(b, on="word", suffix="_other")
    product = joint["n"].cast(pl.Float64) * joint["n_other"].cast(pl.Float64)
    scale = float(np.sqrt(float(a["n"].sum()) * float(b["n"].sum())))
    frequent = [frame.filter(pl.col("n") > 1) for frame in (a, b)]
    smaller = min(frequent, key=lambda frame: frame.height)
    other = b if smaller is frequent[0] else a
    shared = smaller.join(other, on="word", how="semi").height / max(smaller.height, 1)
    # Groups come in no fixed order, and an exact sum does not depend on it.
    return min(math.fsum(product.sqrt()) / scale, 1.0), shared


def _day(seconds: float) -> str:
    return calendar(seconds).date().isoformat()


def _domain_sentence(d: DomainFigures) -> str:
    times = f"from {d.time_range[0]} to {d.time_range[1]}" if d.time_range else "no times"
    scale = f", rated {d.rating_scale[0]:g} to {d.rating_scale[1]:g}" if d.rating_scale else ""
    return (
        f"{d.name}: {d.users:,} users, {d.items:,} items, {d.events:,} events (density "
        f"{d.density:.3%}), median {d.events_per_user.get('0.5', 0):g} a user, text for "
        f"{d.text_share:.0%} of items, {times}{scale}."
    )


def _pair_sentence(p: PairFigures) -> str:
    texts = (
        "texts cannot be compared"
        if p.text_similarity is None or p.shared_words is None
        else f"similarity of texts {p.text_similarity:.2f}, {p.shared_words:.0%} of words in common"
    )
    return (
        f"{p.first} and {p.second}: {p.users:,} users in common ({p.share:.0%} of the smaller), "
        f"with {p.events[0]:,} and {p.events[1]:,} events; {texts}."
    )
