"""What is known about items beside behaviour and text: (head, relation, tail).

Items are written `domain:item_id`, the rest `theme:…`, `topic:…` and `maker:…`. Unlike texts,
triples never mislead: they tell the true topic.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from isthmus.data.world.catalogue import MAKER, Catalogue
from isthmus.data.world.themes import TOPICS_PER_THEME, Theme


def triples(catalogues: Mapping[str, Catalogue], themes: tuple[Theme, ...]) -> pl.DataFrame:
    """Columns head, relation, tail: belongs_to a theme, is_about a topic, made_by a maker,
    part_of (a topic of a theme), related_to (themes)."""
    theme_tails = np.array([f"theme:{theme.name}" for theme in themes])
    topics = [topic.name for theme in themes for topic in theme.topics]
    topic_tails = np.array([f"topic:{name}" for name in topics])
    parts = []
    for name, catalogue in catalogues.items():
        head = pl.Series([f"{name}:{raw}" for raw in catalogue.table["item_id"]])
        makers = "maker:" + catalogue.table[MAKER[name]]
        for relation, tail in (
            ("belongs_to", pl.Series(theme_tails[catalogue.topic // TOPICS_PER_THEME])),
            ("is_about", pl.Series(topic_tails[catalogue.topic])),
            ("made_by", makers),
        ):
            parts.append(_rows(head, relation, tail))
    known = {theme.name for theme in themes}
    related = [
        (f"theme:{theme.name}", f"theme:{other}")
        for theme in themes
        for other in theme.related
        if other in known
    ]
    parts.append(
        _rows(pl.Series(topic_tails), "part_of", pl.Series(theme_tails.repeat(TOPICS_PER_THEME)))
    )
    parts.append(
        _rows(
            pl.Series([head for head, _ in related], dtype=pl.String),
            "related_to",
            pl.Series([tail for _, tail in related], dtype=pl.String),
        )
    )
    return pl.concat(parts)


def _rows(head: pl.Series, relation: str, tail: pl.Series) -> pl.DataFrame:
    return pl.DataFrame({"head": head, "tail": tail}).select(
        "head", pl.lit(relation).alias("relation"), "tail"
    )
