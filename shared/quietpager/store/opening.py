"""Which back end a store's URL means. Every part that opens a store or a mailbox asks here.

postgresql://…              PostgreSQL
dynamodb://REGION/PREFIX    DynamoDB; `?endpoint=URL` for one that is not AWS's own
"""

from typing import Final

from quietpager.model.store import Store, StoreUnavailable
from quietpager.store.mailbox import Mailbox

DYNAMODB: Final = "dynamodb:"
_NO_BOTO: Final = "This store is DynamoDB, and boto3 is not installed: pip install 'quietpager[dynamodb]'."


def open_store(url: str, *, connections: int = 4) -> Store:
    """Open a store; nothing is connected before its first use.

    `connections`: how many PostgreSQL gets at most.

    Raises:
        StoreUnavailable: the URL is none, or what it takes is not installed.
    """
    # The drivers cost import time, so only the one that is used is imported.
    if url.startswith(DYNAMODB):
        from quietpager.store.dynamodb import DynamoStore  # noqa: PLC0415

        _need_boto3()
        try:
            return DynamoStore(url)
        except ValueError as wrong:
            raise StoreUnavailable(str(wrong)) from wrong
    from quietpager.store.postgres import PostgresStore  # noqa: PLC0415

    return PostgresStore(url, connections=connections)


def open_mailbox(url: str) -> Mailbox:
    """Open the local broker's mailbox in the same place; raises as `open_store` does."""
    if url.startswith(DYNAMODB):
        from quietpager.store.dynamodb_mailbox import DynamoMailbox  # noqa: PLC0415

        _need_boto3()
        try:
            return DynamoMailbox(url)
        except ValueError as wrong:
            raise StoreUnavailable(str(wrong)) from wrong
    from quietpager.store.postgres_mailbox import PostgresMailbox  # noqa: PLC0415

    return PostgresMailbox(url)


def _need_boto3() -> None:
    from importlib.util import find_spec  # noqa: PLC0415 (only here)

    if find_spec("boto3") is None:
        raise StoreUnavailable(_NO_BOTO)
