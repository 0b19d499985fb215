"""Cross-domain recommendation with pretrained language models.

    from isthmus import Config, Recommender, build_dataset

Names are imported when they are first used, so that `import isthmus` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus.config import Config
    from isthmus.data.build import (
        DomainFrames,
        PeopleFrames,
        build_dataset,
        dataset_from_frames,
    )
    from isthmus.data.dataset import Dataset
    from isthmus.data.features import ItemFeatures
    from isthmus.data.splits import Split
    from isthmus.errors import IsthmusError
    from isthmus.evaluation.result import Evaluation
    from isthmus.language import TextEncoder
    from isthmus.recommender import Profile, Recommender
    from isthmus.scoring import Request, Requests, Scorer, Scores

_HOMES = {
    "Config": "isthmus.config",
    "Dataset": "isthmus.data.dataset",
    "DomainFrames": "isthmus.data.build",
    "Evaluation": "isthmus.evaluation.result",
    "IsthmusError": "isthmus.errors",
    "ItemFeatures": "isthmus.data.features",
    "PeopleFrames": "isthmus.data.build",
    "Profile": "isthmus.recommender",
    "Recommender": "isthmus.recommender",
    "Request": "isthmus.scoring",
    "Requests": "isthmus.scoring",
    "Scorer": "isthmus.scoring",
    "Scores": "isthmus.scoring",
    "Split": "isthmus.data.splits",
    "TextEncoder": "isthmus.language",
    "build_dataset": "isthmus.data.build",
    "dataset_from_frames": "isthmus.data.build",
}

__all__ = [
    "Config",
    "Dataset",
    "DomainFrames",
    "Evaluation",
    "IsthmusError",
    "ItemFeatures",
    "PeopleFrames",
    "Profile",
    "Recommender",
    "Request",
    "Requests",
    "Scorer",
    "Scores",
    "Split",
    "TextEncoder",
    "build_dataset",
    "dataset_from_frames",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
