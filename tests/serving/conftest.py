from collections.abc import Iterator

import pytest
from serving_world import Running, running


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that tests share; each uses people and items of its own."""
    with running(tmp_path_factory.mktemp("shop")) as service:
        yield service
