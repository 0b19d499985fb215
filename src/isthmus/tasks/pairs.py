"""A table of two texts and a label → pairs to learn from, to stop by and to be judged on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from isthmus.data.splits import user_hash
from isthmus.errors import DataError, did_you_mean
from isthmus.language.cross_encoder import CrossEncoder
from isthmus.language.cross_encoder_tuning import LabelledPairs
from isthmus.tasks.examples import SPLITS, as_classes, check_classes
from isthmus.tasks.figures import Figures, figures_of

SHARES = (0.8, 0.9)
"""Where training and validation end, by a hash of the first text."""


def columns_of(frame: pl.DataFrame, names: Sequence[str], where: str) -> list[pl.Series]:
    """Columns by name; DataError names the near ones."""
    for name in names:
        if name not in frame.columns:
            raise DataError(
                f"column {name!r} is missing", where=where, hint=did_you_mean(name, frame.columns)
            )
    return [frame[name] for name in names]


def pairs_from_table(
    frame: pl.DataFrame,
    *,
    first: str = "history",
    second: str = "item",
    label: str = "label",
    where: str = "pairs",
) -> tuple[dict[str, LabelledPairs], tuple[str, ...]]:
    """Pairs of `train`, `validation` and `test`, and the classes' names.

    Where the table has no column `split`, pairs of one first text fall on one side: 80 % of these
    texts are learnt from, 10 % stopped by.

    Args:
        frame: one row per pair.
        first: column of the first text, such as a person's history.
        second: column of the second text, such as an item's.
        label: column of the class.
        where: names the table in messages.

    Raises:
        DataError: a missing column, labels that are no classes, one class only.
    """
    *texts, labels = columns_of(frame, (first, second, label), where)
    index, classes = as_classes(labels, where=where)
    one, other = (column.cast(pl.String).to_list() for column in texts)
    if "split" in frame.columns:
        role = frame["split"].cast(pl.String).to_numpy()
        unknown = sorted({str(r) for r in role} - set(SPLITS))
        if unknown:
            raise DataError(
                f"{unknown[0]!r} is no split",
                where=f"{where}, column 'split'",
                hint=f"Write {', '.join(SPLITS)}",
            )
    else:
        hashed = user_hash([text or "" for text in one], "labelled-texts")
        role = np.array(SPLITS)[np.searchsorted(SHARES, hashed, side="right")]
    found = {}
    for name in SPLITS:
        rows = np.flatnonzero(role == name)
        found[name] = LabelledPairs(
            [one[i] for i in rows],
            [other[i] for i in rows],
            index[rows],
            np.zeros(len(rows), np.int64),
        )
        if name != "test":
            check_classes(index[rows], classes, name, where=where)
    return found, classes


def judged_pairs(encoder: CrossEncoder, pairs: LabelledPairs) -> Figures:
    """How well classes of pairs are told; every pair gets its own most probable class."""
    if not len(pairs):
        return Figures({})
    told = encoder.tell(pairs.first, pairs.second)
    return figures_of("click", ["pairs"], {0: (pairs.label, told)}, encoder.classes)
