"""Where configuration, models and runs lie, and whether what is to be written there can be."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from isthmus.language.cross_encoder import CrossEncoder
    from isthmus.recommender import Recommender

CONFIG = Path("isthmus.toml")
MODELS, RUNS = Path("models"), Path("runs")


def load_model(given: Path | None) -> Recommender:
    """The model in the folder given, or in models/NAME by the configuration in this folder.

    Raises:
        ConfigError: no folder is given, and no configuration here names one.
        CheckpointError: no such folder, or not a sound model.
    """
    from isthmus.recommender import Recommender

    return Recommender.load(model_folder(given))


def model_folder(given: Path | None) -> Path:
    """The folder given, or models/NAME by the configuration in this folder.

    Raises:
        ConfigError: no folder is given, and no configuration here names one.
    """
    if given is None:
        if not CONFIG.is_file():
            raise ConfigError(
                f"no model is named, and no {CONFIG} here would name one",
                where="--model",
                hint="Name the folder that 'isthmus fit' saved: --model models/NAME",
            )
        from isthmus.config import Config

        given = MODELS / Config.load(CONFIG).name
    return given


def load_cross_encoder(folder: Path) -> CrossEncoder:
    """The tuned language model in a folder.

    Raises:
        CheckpointError: no such folder, a damaged one, or tuned from another model.
        LanguageModelError: the model that it was tuned from is not to be had.
    """
    from isthmus.language.cross_encoder import CrossEncoder

    return CrossEncoder.load(folder)


def model_place(given: Path | None, name: str) -> Path:
    """The folder that a model will be saved in, seen to be fit for it before the long work begins.

    Raises:
        CheckpointError: it holds other things, or cannot be written.
    """
    folder = given or MODELS / name
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "versions").is_dir():
        raise CheckpointError(
            "the folder holds other things than a model",
            where=str(folder),
            hint="Name a new or empty folder with --model",
        )
    return writable(folder)


def writable(folder: Path) -> Path:
    """The folder, seen to take a file; where it is missing, the nearest one above it is.

    Raises:
        CheckpointError: nothing can be written there.
    """
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest) as probe:
            probe.write(bytes(4096))
            probe.flush()
    except OSError as error:
        raise CheckpointError(
            f"cannot be written: {error.strerror}",
            where=str(folder),
            hint="Choose another folder, or free some space",
        ) from None
    return folder
