"""What a person's history elsewhere brings up in a domain: the themes of what it recommends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from isthmus.recommender.asking import Asked
from isthmus.recommender.profile import EVIDENCE, INTERESTS, Suggested, Suggestion
from isthmus.recommender.ranking import best_items
from isthmus.recommender.serving import Served
from isthmus.recommender.themes import Themes

SHARE, LEAST, MOST = 0.1, 10, 50
"""Recommendations that are looked at: a share of the catalogue, within these numbers."""


def suggestion(
    names: Sequence[str],
    served: Served,
    asked: Asked,
    target: int,
    themes: Themes,
    rank_of_equals: NDArray[np.int64],
) -> Suggestion | None:
    """Themes of what is recommended to one person by their history outside the target alone.

    Args:
        names: domain names in index order.
        served: who answers this person for the target.
        asked: a batch of one.
        target: index of the domain.
        themes: of its items.
        rank_of_equals: int64 [n_items], which of two items with one score goes first.

    Returns:
        None for a person without any history elsewhere.
    """
    elsewhere = asked.visible.keep(asked.visible.domain != target)
    if not len(elsewhere.item):
        return None
    carried = elsewhere.among(served.reads)
    if not len(carried.item):
        sources = tuple(names[d] for d in np.unique(elsewhere.domain))
        shut = f"nothing is carried over: {names[target]} is served from its own events alone"
        return Suggestion(names[target], sources, (), shut)
    offered = themes.domain.offered
    # Not through the gate: without what they have in the target they would look like a newcomer.
    top = best_items(
        served.side.blend,
        replace(asked, visible=carried),
        target,
        int(np.clip(SHARE * len(offered), LEAST, MOST)),
        offered=offered,
        rank_of_equals=rank_of_equals,
    )
    found = suggested(top.item[top.item >= 0].tolist(), themes)
    note = None if found else "nothing stands out against the catalogue"
    return Suggestion(
        names[target], tuple(names[d] for d in np.unique(carried.domain)), found, note
    )


def suggested(items: list[int], themes: Themes) -> tuple[Suggested, ...]:
    """Themes of recommended items, those that stand out most against the catalogue first.

    Args:
        items: local indices, best first.
        themes: of their domain.
    """
    found = [t for t in themes.of(items, [1.0] * len(items)) if len(t.members) > 1]
    base = themes.shares([t.name for t in found])
    everything = [
        Suggested(
            theme.name,
            len(theme.members) / len(items),
            of_catalogue,
            tuple(themes.name(items[place]) for place in theme.members)[:EVIDENCE],
        )
        for theme, of_catalogue in zip(found, base, strict=True)
    ]
    standing_out = [theme for theme in everything if theme.share > theme.of_catalogue]
    return tuple(sorted(standing_out, key=lambda s: s.of_catalogue - s.share)[:INTERESTS])
