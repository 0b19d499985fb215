"""The model card of a run: what it is, what it is for, what it reached and where it hurts."""

from __future__ import annotations

from pathlib import Path

from isthmus.experiment.carried import carried
from isthmus.experiment.records import read_run, write_whole
from isthmus.experiment.schema import RunRecord
from isthmus.report.page import environment
from isthmus.report.reading import harm_table, harmed, standing, uplift


def write_model_card(folder: Path) -> Path:
    """Read the run in `folder`, write `model-card.md` beside it and return its path.

    Raises:
        CheckpointError: no run there, a damaged one, or the folder cannot be written.
    """
    path = folder / "model-card.md"
    write_whole(path, card(read_run(folder)).encode())
    return path


def card(record: RunRecord) -> str:
    """The card as Markdown."""
    return (
        environment()
        .get_template("model-card.md")
        .render(
            record=record,
            harms=harm_table(record),
            carried=[said for target in record.targets for said in carried(record.points, target)],
            targets=[
                {
                    "name": target,
                    "standing": standing(record, target),
                    "uplift": uplift(record, target),
                    "harmed": harmed(record, target),
                    "still": harmed(record, target, "gated"),
                }
                for target in record.targets
            ],
        )
    )
