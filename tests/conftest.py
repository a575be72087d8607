"""Fixtures that several suites use: an embedded PostgreSQL, and a fresh database in it."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from hypothesis import HealthCheck, settings

from quietpager.masking.mask import mask
from quietpager.store.embedded import Embedded, start

# Hypothesis would make its folder in the project's root, where pytest's collection trips over it.
os.environ.setdefault(
    "HYPOTHESIS_STORAGE_DIRECTORY", str(Path(tempfile.gettempdir()) / "quietpager-hypothesis")
)

# How long an example takes says how busy the machine is.
settings.register_profile("quietpager", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quietpager")


@pytest.fixture(scope="session")
def dynamodb() -> Iterator[str]:
    """Serve a DynamoDB; gives its endpoint."""
    from tests.dynamodb import server  # noqa: PLC0415 (boto3 takes a while to import)

    with server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def pg_server() -> Iterator[Embedded]:
    """One server for the whole run, also under xdist: the workers share it, the last one stops it.

    Not below pytest's own temporary folder: that one is closed again whenever pytest starts, and
    as root the server runs as another user, who must pass through.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    home = Path(tempfile.gettempdir()) / f"quietpager-tests-{run}"
    server = start(home / "pg", {"fsync": "off", "max_connections": "200"})
    yield server
    if server.stop():
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def new_database(pg_server: Embedded) -> Callable[[], str]:
    """Make an empty database and give its URL."""

    def make() -> str:
        name = f"t_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(pg_server.url, autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
        return pg_server.url_of(name)

    return make


@pytest.fixture(scope="module")
def pg_url(new_database: Callable[[], Any]) -> str:
    """Give the URL of a database that is empty when a test module starts."""
    url: str = new_database()
    return url


@pytest.fixture(scope="session", autouse=True)
def mask_is_ready() -> None:
    """Import and compile what the first masked text needs, so that no example of a property pays for it."""
    mask("token: expired in pod web-5d4f8c7b9c-x2x4z_team-43")


@pytest.fixture(autouse=True)
def logs_as_imported() -> Iterator[None]:
    """Leave structlog as it is on import to the next test: a command sets a level for its whole process."""
    yield
    structlog.reset_defaults()
