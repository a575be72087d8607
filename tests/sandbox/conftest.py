"""One sandbox and one client for each module of the sandbox's tests."""

from collections.abc import Iterator

import pytest

from quietpager.cluster.client import ApiServer, connect
from quietpager.sandbox.server import running


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run one sandbox for all tests; each uses a namespace of its own."""
    with running(speed=100) as found:
        yield found


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[ApiServer]:
    """Talk to it."""
    found = connect(url, manager="tests")
    yield found
    found.close()
