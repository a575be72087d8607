"""Every back end of the store, each empty. Who uses it: the contract, and what is shown on all of them."""

from collections.abc import Callable

import pytest

from quietpager.store.dynamodb import DynamoStore
from quietpager.store.memory import MemoryStore
from quietpager.store.port import Store
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
