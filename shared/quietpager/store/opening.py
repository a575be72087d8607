"""Which back end a store's URL means. Every part that opens a store or a mailbox asks here.

postgresql://…              PostgreSQL
dynamodb://REGION/PREFIX    DynamoDB; `?endpoint=URL` for one that is not AWS's own
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

from quietpager.model.store import Store, StoreUnavailable
from quietpager.store.mailbox import Mailbox
from quietpager.store.of_cluster import OfCluster
from quietpager.store.versions import Versioned

CLUSTER_NAME: Final = "QUIETPAGER_CLUSTER"
"""Environment variable: the name that this cluster has in keys, records and messages."""

DYNAMODB: Final = "dynamodb:"
_NO_BOTO: Final = "This store is DynamoDB, and boto3 is not installed: pip install 'quietpager[dynamodb]'."


def open_store(url: str, *, cluster: str = "", connections: int = 4) -> Store:
    """Open one cluster's part of a store, with records that say their version.

    Nothing is connected before its first use.

    Args:
        url: see above.
        cluster: whose records; without it the one that `QUIETPAGER_CLUSTER` names, or `default`.
        connections: how many PostgreSQL gets at most.

    Raises:
        StoreUnavailable: the URL is none, what it takes is not installed, or no cluster can have that name.
    """
    try:
        return of_cluster(open_back_end(url, connections=connections), cluster)
    except ValueError as wrong:
        raise StoreUnavailable(str(wrong)) from wrong


def of_cluster(store: Store, cluster: str = "") -> Store:
    """Give one cluster's part of a back end that is open; raises ValueError for a name that is none."""
    return Versioned(OfCluster(store, cluster or os.environ.get(CLUSTER_NAME, "default")))


def open_back_end(url: str, *, connections: int = 4) -> Store:
    """Open a back end with its keys as they are kept: for migrating it. Raises as `open_store` does."""
    # The drivers cost import time, so only the one that is used is imported.
    if url.startswith(DYNAMODB):
        with _dynamodb():
            from quietpager.store.dynamodb import DynamoStore  # noqa: PLC0415

            return DynamoStore(url)
    from quietpager.store.postgres import PostgresStore  # noqa: PLC0415

    return PostgresStore(url, connections=connections)


def open_mailbox(url: str) -> Mailbox:
    """Open the local broker's mailbox in the same place; raises as `open_store` does."""
    if url.startswith(DYNAMODB):
        with _dynamodb():
            from quietpager.store.dynamodb_mailbox import DynamoMailbox  # noqa: PLC0415

            return DynamoMailbox(url)
    from quietpager.store.postgres_mailbox import PostgresMailbox  # noqa: PLC0415

    return PostgresMailbox(url)


@contextmanager
def _dynamodb() -> Iterator[None]:
    """Say in a sentence that boto3 is not installed, or that the URL is none."""
    if find_spec("boto3") is None:
        raise StoreUnavailable(_NO_BOTO)
    try:
        yield
    except ValueError as wrong:
        raise StoreUnavailable(str(wrong)) from wrong
