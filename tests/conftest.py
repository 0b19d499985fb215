"""What several folders of tests need."""

from collections.abc import Iterator

import pytest

from postgres_cluster import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A throwaway PostgreSQL server; whoever stops it starts it again."""
    try:
        server = Cluster(durable=False)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    yield server
    server.close()
