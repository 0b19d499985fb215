"""What `isthmus align` measured, as one page: tables of distances and a map for each way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isthmus.alignment.measure import Measured, Measurement
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.experiment.pictures import item_map
from isthmus.experiment.records import write_whole
from isthmus.report import distances
from isthmus.report.charts import plane_chart
from isthmus.report.page import embedded, whole_page
from isthmus.transfer.learned import LearnedDistance

MEANINGS = distances.MEANINGS | {
    "pairs": f"{distances.MEANINGS['pairs']}; no map was fitted on these pairs"
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


def learned_tables(dataset: Dataset, found: Sequence[LearnedDistance]) -> list[Table]:
    """One table for each pair of domains: texts, and the item vectors of a model."""
    return [
        Table(
            f"{dataset.names[each.a]} and {dataset.names[each.b]}: {each.pairs or 'no'} pairs",
            [Row(name, distances.cells(measured)) for name, measured in each.stages.items()],
        )
        for each in found
    ]


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
    return Row(measured.way.name, distances.cells(measured.distances[pair]))
