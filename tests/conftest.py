"""What several folders of tests need."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from postgres_cluster import Cluster

# How long an example takes is the machine's affair, and nothing here is a timed test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A throwaway PostgreSQL server; whoever stops it starts it again."""
    try:
        server = Cluster(durable=False)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    yield server
    server.close()
