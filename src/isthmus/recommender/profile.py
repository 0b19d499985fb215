"""What a person's history says of them, in words and with the evidence.

Events fade by half in 90 days, counted back from the person's latest one; without a clock each
event counts a little less than the one after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.data.timestamps import calendar
from isthmus.recommender.themes import Themes
from isthmus.scoring import Requests

HALF_LIFE_DAYS = 90.0
FADE_PER_EVENT = 0.95
INTERESTS, EVIDENCE = 5, 3
"""Most interests of a domain, and most items shown for each."""


@dataclass(frozen=True)
class Interest:
    """Something a person cares about in one domain.

    Attributes:
        name: a category or theme.
        share: part of the domain's recency-weighted events, in [0, 1].
        n_events: how many events speak for it.
        latest: day of the last of them, ISO; None without a clock.
        items: titles, latest first.
    """

    name: str
    share: float
    n_events: int
    latest: str | None
    items: tuple[str, ...]


@dataclass(frozen=True)
class DomainProfile:
    """One domain of a person.

    Attributes:
        domain: its name.
        n_events: events there.
        share: part of all recency-weighted events, in [0, 1].
        latest: day of the last event, ISO; None without a clock.
        interests: heaviest first.
    """

    domain: str
    n_events: int
    share: float
    latest: str | None
    interests: tuple[Interest, ...]


@dataclass(frozen=True)
class Suggested:
    """A theme among what another domain's history brings up here.

    Attributes:
        name: a category or theme.
        share: part of the recommendations, in [0, 1].
        of_catalogue: part of the whole catalogue, for comparison.
        items: titles, best first.
    """

    name: str
    share: float
    of_catalogue: float
    items: tuple[str, ...]


@dataclass(frozen=True)
class Suggestion:
    """What the history elsewhere suggests in one domain.

    Attributes:
        domain: where it suggests.
        sources: domains whose history was read.
        themes: most over-represented first; empty where nothing is carried over.
        note: why nothing is carried over, else None.
    """

    domain: str
    sources: tuple[str, ...]
    themes: tuple[Suggested, ...]
    note: str | None = None


@dataclass(frozen=True)
class Profile:
    """A readable profile.

    Attributes:
        user: raw id, None for a history given on the spot.
        known: whether the dataset holds this user.
        n_events: length of the history.
        domains: by weight, those without events left out.
        suggestions: one for each domain that has something to take over.
    """

    user: str | None
    known: bool
    n_events: int
    domains: tuple[DomainProfile, ...]
    suggestions: tuple[Suggestion, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The same for a terminal, a line each."""
        who = self.user or "given history"
        if not self.n_events:
            unknown = "" if self.known or self.user is None else " (unknown to the dataset)"
            return [f"{who}{unknown}: no history, so nothing is known"]
        where = f"{len(self.domains)} domain{'s' * (len(self.domains) != 1)}"
        lines = [f"{who}: {_events(self.n_events)} in {where}"]
        for domain in self.domains:
            latest = f", latest {domain.latest}" if domain.latest else ""
            lines += ["", f"{domain.domain} ({_events(domain.n_events)}{latest})"]
            for interest in domain.interests:
                # An item that stands for itself is named once.
                examples = "; ".join(item for item in interest.items if item != interest.name)
                closing = f": {examples}" if examples else ""
                lines.append(f"  {interest.share:4.0%}  {interest.name}{closing}")
        for suggestion in self.suggestions:
            lines += ["", f"{suggestion.domain}, from {' and '.join(suggestion.sources)}"]
            lines += [f"  {suggestion.note}"] if suggestion.note else []
            for theme in suggestion.themes:
                examples = "; ".join(theme.items)
                lines.append(
                    f"  {theme.share:4.0%}  {theme.name} ({theme.of_catalogue:.0%} of the "
                    f"catalogue): {examples}"
                )
        return lines


def domain_profiles(requests: Requests, themes: Mapping[int, Themes]) -> tuple[DomainProfile, ...]:
    """Interests of the one person in `requests`.

    Args:
        requests: a batch of one, its whole history.
        themes: by domain index.
    """
    weight = recency(requests)
    profiles = []
    for d in np.unique(requests.domain).tolist():
        here = np.flatnonzero(requests.domain == d)[::-1]  # the latest first
        own = weight[here]
        items = requests.item[here].tolist()
        interests = []
        for theme in themes[d].of(items, own.tolist())[:INTERESTS]:
            members = np.array(theme.members)
            titles = dict.fromkeys(themes[d].name(items[i]) for i in theme.members)
            interests.append(
                Interest(
                    theme.name,
                    float(own[members].sum() / own.sum()),
                    len(members),
                    _day(requests.time[here[members]]),
                    tuple(titles)[:EVIDENCE],
                )
            )
        profiles.append(
            DomainProfile(
                themes[d].domain.name,
                len(here),
                float(own.sum() / weight.sum()),
                _day(requests.time[here]),
                tuple(interests),
            )
        )
    return tuple(sorted(profiles, key=lambda profile: -profile.share))


def recency(requests: Requests) -> NDArray[np.float64]:
    """Weight of each event of the one person in `requests`, float64 [events] in (0, 1]."""
    time = requests.time
    newest = np.nanmax(time) if (~np.isnan(time)).any() else np.nan
    by_age = np.exp2(-(newest - time) / 86_400.0 / HALF_LIFE_DAYS)
    return np.where(np.isnan(time), FADE_PER_EVENT**requests.age, np.maximum(by_age, 1e-6))


def _day(time: NDArray[np.float64]) -> str | None:
    """ISO day of the latest known moment."""
    known = time[~np.isnan(time)]
    return calendar(float(known.max())).date().isoformat() if len(known) else None


def _events(n: int) -> str:
    return f"{n:,} event{'s' * (n != 1)}"
