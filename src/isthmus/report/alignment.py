"""What `isthmus align` measured, as one page: tables of distances and a map for each way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isthmus.alignment.distance import DomainDistance
from isthmus.alignment.measure import Measured, Measurement
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.experiment.pictures import item_map
from isthmus.experiment.records import write_whole
from isthmus.report.charts import plane_chart
from isthmus.report.page import embedded, whole_page

MEANINGS = {
    "MMD²": "squared maximum mean discrepancy with Gaussian kernels; 0: the two clouds look alike",
    "proxy-A": "how well a linear classifier tells the catalogues apart on held-out items; 0: as "
    "well as chance, 2: always",
    "covariance": "difference of the covariances as a share of the larger one",
    "pairs": "mean squared distance of items that belong together, as a share of that of any two; "
    "no map was fitted on these pairs",
    "cosine between": "mean cosine of an item of one catalogue and one of the other",
    "cosine within": "mean cosine of two items of one catalogue",
}


@dataclass(frozen=True)
class Row:
    """One way's line of a table.

    Attributes:
        way: its name.
        cells: figures in the order of `MEANINGS`, as text.
        missing: why there are none.
    """

    way: str
    cells: list[str]
    missing: str | None = None


@dataclass(frozen=True)
class Table:
    """Distances of one pair of domains."""

    title: str
    rows: list[Row]


def tables(dataset: Dataset, raw: Sequence[ItemFeatures], found: Measurement) -> list[Table]:
    """One table for each pair of domains, vectors as they are first."""
    made = []
    for a, b in found.ways[0].distances:
        counts = [f"{int(raw[d].present.sum()):,}" for d in (a, b)]
        judged = found.judged.get((a, b), 0)
        title = (
            f"{dataset.names[a]} and {dataset.names[b]}: {counts[0]} and {counts[1]} texts, "
            f"{judged or 'no'} pairs to judge by"
        )
        made.append(Table(title, [_row(measured, (a, b)) for measured in found.ways]))
    return made


def write_alignment(
    path: Path, name: str, dataset: Dataset, raw: Sequence[ItemFeatures], found: Measurement
) -> Path:
    """Write the page.

    Args:
        path: the HTML file.
        name: of the configuration.
        dataset: titles of the items.
        raw: text vectors per domain, which the domains' sizes are taken from.
        found: what was measured.

    Raises:
        CheckpointError: the file cannot be written.
    """
    page = whole_page(
        "alignment.html",
        name=name,
        anchor=dataset.names[found.anchor],
        tables=tables(dataset, raw, found),
        columns=list(MEANINGS),
        meanings=MEANINGS,
        maps=_maps(dataset, raw, found),
    )
    write_whole(path, page.encode())
    return path


def _maps(
    dataset: Dataset, raw: Sequence[ItemFeatures], found: Measurement
) -> list[tuple[str, object]]:
    """Captioned charts, as JSON, of the ways that could be gone."""
    maps: list[tuple[str, object]] = []
    for measured in found.ways:
        if measured.missing is None and (items := item_map(dataset, raw, measured.features)):
            caption = "as the language model gives them" if not measured.way.maps else None
            chart = embedded(plane_chart(items, items.after))
            maps.append((caption or measured.way.name, chart))
    return maps


def _row(measured: Measured, pair: tuple[int, int]) -> Row:
    if measured.missing is not None:
        return Row(measured.way.name, ["–"] * len(MEANINGS), measured.missing)
    return Row(measured.way.name, _cells(measured.distances[pair]))


def _cells(distance: DomainDistance) -> list[str]:
    figures = {
        "MMD²": (distance.mmd, 4),
        "proxy-A": (distance.proxy_a, 2),
        "covariance": (distance.coral, 3),
        "pairs": (distance.pairs, 3),
        "cosine between": (distance.between, 3),
        "cosine within": (distance.within, 3),
    }
    return [
        "–" if value is None or np.isnan(value) else f"{value:.{digits}f}".replace("-", "−")
        for value, digits in figures.values()
    ]
