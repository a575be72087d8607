"""Every back end of the store, each empty. Who uses it: the contract, and what is shown on all of them."""

from collections.abc import Callable, Iterator

import pytest

from quietpager.model.store import Store
from quietpager.store.dynamodb import DynamoStore
from quietpager.store.memory import MemoryStore
from quietpager.store.postgres import PostgresStore
from tests.roles import functions_url


def dynamo_store(endpoint: str) -> Store:
    """Make a store on fresh tables."""
    from tests.dynamodb import client, fresh  # noqa: PLC0415 (boto3 takes a while to import)

    return DynamoStore(fresh(endpoint), client=client(endpoint))


BACK_ENDS: dict[str, Callable[[pytest.FixtureRequest], Store]] = {
    "dynamodb": lambda request: dynamo_store(request.getfixturevalue("dynamodb")),
    "memory": lambda _: MemoryStore(),
    "postgres": lambda request: PostgresStore(request.getfixturevalue("new_database")(), connections=8),
    "postgres-functions": lambda request: PostgresStore(
        functions_url(request.getfixturevalue("new_database")()), connections=8
    ),
}


def empty_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Open a store of the back end that is asked for, and close it at the end of the test."""
    made = BACK_ENDS[request.param](request)
    yield made
    made.close()


on_every_back_end = pytest.fixture(params=sorted(BACK_ENDS))
"""Makes a module's fixture of `empty_store`: each test of it runs once for each back end."""
