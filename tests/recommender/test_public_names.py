"""`import isthmus` is light, and hands out its names when they are asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import isthmus


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import isthmus, sys\n"
        "heavy = {'numpy', 'polars', 'torch', 'pydantic', 'scipy', 'transformers'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there() -> None:
    for name in isthmus.__all__:
        assert getattr(isthmus, name).__name__ == name
    assert set(isthmus.__all__) <= set(dir(isthmus))
    with pytest.raises(AttributeError, match="no attribute 'Recomender'"):
        _ = isthmus.Recomender
