import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runner import TINY, Shop, run, write_shop
from tiny_bert import write_bert


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Vectors of the language model are cached in a temporary folder."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("XDG_CACHE_HOME")
    if before is not None:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    tables = sorted(path.name for path in folder.glob("*.parquet"))
    steps = [("init", *tables), ("check",), ("fit", *TINY)]
    init, check, fit = (run(*step, cwd=folder) for step in steps)
    return Shop(folder, init, check, fit)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random BERT."""
    return write_bert(tmp_path_factory.mktemp("bert"))
