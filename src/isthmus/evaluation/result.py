"""What one system reached on one target, question by question, and how it is reported.

A value per question is kept, so that seeds can be pooled and systems compared later, from disk if
need be. Reports are rows in long form, one per slice and metric.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from isthmus.errors import CheckpointError, DataError
from isthmus.evaluation.ranks import Protocol
from isthmus.evaluation.significance import percentiles, resampled_means
from isthmus.evaluation.slices import ALL

RECORD_SCHEMA = pl.Schema(
    {
        "system": pl.String,
        "sources": pl.String,
        "target": pl.String,
        "protocol": pl.String,
        "share": pl.Float64,
        "seed": pl.Int64,
        "control": pl.String,
        "slice": pl.String,
        "metric": pl.String,
        "value": pl.Float64,
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "n": pl.Int64,
        "against": pl.String,
        "relative": pl.Float64,
        "rel_low": pl.Float64,
        "rel_high": pl.Float64,
        "p": pl.Float64,
        "p_holm": pl.Float64,
    }
)


@dataclass(frozen=True)
class Evaluation:
    """What one system reached on one target; the rows are questions.

    Attributes:
        system: the scorer's name.
        target: name of the target domain.
        protocol: `full` catalogue or `sampled` candidates.
        split: which rule made the questions.
        position: int64 [n] position of each answer in `Dataset.events`; a question asked again
            with its target history hidden is a second row.
        user: int64 [n] user row.
        values: float64 [n] by metric.
        slices: bool [n] by slice; `all` is every question as it is, `cold users` the second ask.
        totals: metrics of all lists together, by name.
        n_resamples: draws of users behind each interval.
        seed: of those draws.
        notes: what was merged, one sentence each.
    """

    system: str
    target: str
    protocol: Protocol
    split: str
    position: NDArray[np.int64]
    user: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]
    slices: dict[str, NDArray[np.bool_]]
    totals: dict[str, float]
    n_resamples: int = 1000
    seed: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.position)

    def mean(self, metric: str, slice_name: str = ALL) -> float:
        """Mean of one metric within one slice."""
        if metric in self.totals and slice_name == ALL:
            return self.totals[metric]
        return float(self.values[metric][self.slices[slice_name]].mean())

    def columns(self) -> NDArray[np.float64]:
        """Values [n, metrics], in the order of `values`."""
        return np.column_stack(list(self.values.values()))

    def masks(self) -> NDArray[np.bool_]:
        """Slices [n, slices], in the order of `slices`."""
        return np.column_stack(list(self.slices.values()))

    def records(
        self,
        *,
        system: str | None = None,
        sources: Sequence[str] = (),
        share: float = 1.0,
        seed: int | None = None,
        control: str = "none",
    ) -> pl.DataFrame:
        """One row per slice and metric with its interval, in `RECORD_SCHEMA`.

        Args:
            system: a name to report under; None: the scorer's own.
            sources: domains that the system learned from beside the target.
            share: part of the target's training events that it learned from.
            seed: training seed; None for pooled seeds.
            control: `none`, or what was shuffled on purpose.
        """
        means, draws = resampled_means(
            self.columns(), self.user, self.masks(), n_resamples=self.n_resamples, seed=self.seed
        )
        rows: list[tuple[object, ...]] = [
            (name, metric, float(means[s, m]), *percentiles(draws[:, s, m]), int(mask.sum()))
            for s, (name, mask) in enumerate(self.slices.items())
            for m, metric in enumerate(self.values)
        ]
        asked = int(self.slices[ALL].sum())
        rows += [(ALL, metric, value, None, None, asked) for metric, value in self.totals.items()]
        measured = ["slice", "metric", "value", "ci_low", "ci_high", "n"]
        frame = pl.DataFrame(rows, {c: RECORD_SCHEMA[c] for c in measured}, orient="row")
        return as_records(
            frame,
            system=system or self.system,
            sources="+".join(sources),
            target=self.target,
            protocol=self.protocol,
            share=share,
            seed=seed,
            control=control,
        )

    def save(self, path: Path) -> None:
        """Write one Parquet file, from which `load` gives the same evaluation back."""
        arrays: dict[str, NDArray[np.generic]] = {"position": self.position, "user": self.user}
        arrays |= {f"metric:{name}": values for name, values in self.values.items()}
        arrays |= {f"slice:{name}": mask for name, mask in self.slices.items()}
        about = {name: getattr(self, name) for name in _ABOUT}
        table = pa.table(arrays).replace_schema_metadata({_KEY: json.dumps(about)})
        pq.write_table(table, path, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read what `save` wrote; CheckpointError where it is something else."""
        try:
            table = pq.read_table(path)
            about = json.loads(table.schema.metadata[_KEY])
        except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"not a saved evaluation: {error}",
                where=str(path),
                hint="Evaluate again to write it anew",
            ) from None
        arrays = {name: table[name].to_numpy() for name in table.column_names}
        return cls(
            **{**about, "notes": tuple(about["notes"])},
            position=arrays["position"],
            user=arrays["user"],
            values=_with_prefix(arrays, "metric:"),
            slices=_with_prefix(arrays, "slice:"),
        )


_KEY = b"isthmus.evaluation"
_ABOUT = ("system", "target", "protocol", "split", "totals", "n_resamples", "seed", "notes")


def pool(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Several seeds of one system as one evaluation: each question's mean over the seeds.

    Raises:
        DataError: the evaluations do not ask the same questions.
    """
    first = evaluations[0]
    for other in evaluations[1:]:
        check_same_questions(first, other)
    return replace(
        first,
        values={
            metric: np.mean([e.values[metric] for e in evaluations], axis=0)
            for metric in first.values
        },
        totals={
            metric: float(np.mean([e.totals[metric] for e in evaluations]))
            for metric in first.totals
        },
    )


def check_same_questions(a: Evaluation, b: Evaluation) -> None:
    """DataError where two evaluations cannot be read question by question."""
    same = (
        (a.target, a.protocol, a.split) == (b.target, b.protocol, b.split)
        and np.array_equal(a.position, b.position)
        and np.array_equal(a.user, b.user)
        and a.slices.keys() == b.slices.keys()
        and a.values.keys() == b.values.keys()
    )
    if not same:
        raise DataError(
            f"{a.system!r} and {b.system!r} were not asked the same questions",
            where=f"target {a.target!r}",
            hint="Evaluate both on one dataset, split and configuration",
        )


def as_records(frame: pl.DataFrame, **constant: str | float | int | None) -> pl.DataFrame:
    """`frame` completed to `RECORD_SCHEMA`: `constant` columns, null for the rest and for NaN."""
    missing = [name for name in RECORD_SCHEMA if name not in frame.columns]
    return frame.with_columns(
        pl.lit(constant.get(name)).cast(RECORD_SCHEMA[name]).alias(name) for name in missing
    ).select(
        pl.col(name).cast(kind).fill_nan(None) if kind == pl.Float64 else pl.col(name).cast(kind)
        for name, kind in RECORD_SCHEMA.items()
    )


def _with_prefix(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {
        name.removeprefix(prefix): values
        for name, values in arrays.items()
        if name.startswith(prefix)
    }
