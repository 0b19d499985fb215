"""The search for better settings, and where training curves go."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from isthmus.config.section import Section


class Range(Section):
    """Numbers between two ends, both included."""

    low: float = Field(description="The smallest.")
    high: float = Field(description="The largest.")
    log: bool = Field(False, description="Tried evenly by their logarithm.")
    whole: bool = Field(False, description="Whole numbers only.")

    @model_validator(mode="after")
    def _rises(self) -> Range:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 where log is set")
        return self


Choices = list[bool | int | float | str]


def _usual_space() -> dict[str, Choices | Range]:
    return {
        "model.dim": [32, 64, 128],
        "model.layers": [1, 2, 3],
        "model.dropout": Range(low=0.1, high=0.6),
        "model.id_shrinkage": Range(low=0.5, high=10, log=True),
        "training.learning_rate": Range(low=5e-4, high=8e-3, log=True),
        "training.id_rate": Range(low=5, high=100, log=True),
        "training.negatives": [128, 256, 512, 1024],
    }


class SearchConfig(Section):
    """The search for better settings; what `isthmus search` does."""

    trials: int = Field(20, ge=1, description="Settings to try, the configured ones among them.")
    workers: int = Field(1, ge=1, description="Processes that try at the same time.")
    prune: bool = Field(
        True, description="Break off a trial that does worse than half of the others so far."
    )
    prune_from: int = Field(5, ge=1, description="Finished trials before any is broken off.")
    space: dict[str, Choices | Range] = Field(
        default_factory=_usual_space,
        description="What is tried: key = a list of values, or { low, high, log, whole }.",
    )


class TrackingConfig(Section):
    """Where training curves go beside the run's own records; needs the extra `track`."""

    tools: list[Literal["tensorboard", "wandb"]] = Field(
        ["tensorboard"], description="tensorboard, wandb (Weights & Biases), both or none."
    )
    project: str = Field("isthmus", description="wandb: the project.")
    online: bool = Field(
        False, description="wandb: send to the service as training goes; else keep files here."
    )
