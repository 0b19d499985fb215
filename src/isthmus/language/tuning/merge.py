"""Tuned weights → a plain Hugging Face model that holds them, where the method has such a form."""

from __future__ import annotations

from pathlib import Path

from isthmus.config import LanguageConfig
from isthmus.errors import LanguageModelError
from isthmus.language.folders import check_place, save_model
from isthmus.language.models import load_torch_model
from isthmus.language.reader import Reader
from isthmus.language.tuning.methods import Tunable, check_mergeable


def merge(tuned: Path, language: LanguageConfig, folder: Path) -> None:
    """Write the base model with tuned weights inside, for `language.model = 'FOLDER'`.

    Args:
        tuned: folder of tuned weights.
        language: names the base model.
        folder: where the model goes.

    Raises:
        LanguageModelError: weights of another model, or of a method that cannot be merged.
        CheckpointError: a folder that cannot be read or written.
    """
    check_place(folder)
    reader = Reader.find(language.model_copy(update={"tuned": tuned}), None)
    if reader.tuned is None:
        raise LanguageModelError("there is nothing to merge", where=str(tuned))
    check_mergeable(reader.tuned.config.method)
    tunable = Tunable(load_torch_model(reader.folder), reader.pooling, reader.tuned.config)
    tunable.load(reader.tuned.tensors())
    save_model(folder, tunable.merged(), reader.folder)
