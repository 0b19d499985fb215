"""Plain Hugging Face folders, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isthmus.errors import CheckpointError


def check_place(folder: Path) -> None:
    """See that a model may be written there, before the long work begins.

    Raises:
        CheckpointError: it holds other things than a model.
    """
    if (
        folder.exists()
        and not (folder / "config.json").is_file()
        and (not folder.is_dir() or any(folder.iterdir()))
    ):
        raise CheckpointError(
            "the folder holds other things than a language model",
            where=str(folder),
            hint="Name a new or empty folder with --output",
        )


def write_model_folder(folder: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a folder aside, and put it in place of an earlier model.

    Raises:
        CheckpointError: the folder holds other things, or cannot be written.
    """
    check_place(folder)
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        aside.mkdir(parents=True)
        fill(aside)
        old = folder.with_name(f"{aside.name}.old")
        if folder.exists():
            folder.rename(old)
        os.replace(aside, folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(
            f"cannot be written: {error.strerror or error}",
            where=str(folder),
            hint="Choose another folder, or free some space",
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def save_model(folder: Path, model: Any, base: Path) -> None:
    """Save a model with its base's tokenizer and pooling, for `language.model = 'FOLDER'`.

    Raises:
        CheckpointError: the folder holds other things, or cannot be written.
    """
    from isthmus.language.models import load_tokenizer, quiet

    def fill(aside: Path) -> None:
        with quiet():
            model.save_pretrained(aside)
        load_tokenizer(base).save_pretrained(aside)
        pooling = base / "1_Pooling" / "config.json"
        if pooling.is_file():
            (aside / "1_Pooling").mkdir()
            shutil.copyfile(pooling, aside / "1_Pooling" / "config.json")

    write_model_folder(folder, fill)
