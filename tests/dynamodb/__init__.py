"""A DynamoDB for the tests: dynoxide where `make dynamodb` built it, else moto. Neither is AWS.

dynoxide answers many clients at once, its transactions are isolated, and it refuses what AWS refuses (a
reserved word in an expression, for one). moto's transactions are isolated only if it takes one request at a
time, and it takes much that AWS refuses. Both answer over HTTP, so that processes can share them.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import boto3
from botocore.config import Config

from quietpager.local import dynoxide as program
from quietpager.store.dynamodb_schema import tables

REGION: Final = "eu-west-1"
KEYS: Final = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}

MANY_AT_ONCE: Final = program.find() is not None
"""Whether the server answers more than one request at a time."""
NAME: Final = (
    f"dynoxide {program.VERSION}"
    if MANY_AT_ONCE
    else "moto, one request at a time (`make dynamodb` builds a stricter one where Rust is)"
)
"""Which server it is, for whoever reads the figures."""


@contextmanager
def server() -> Iterator[str]:
    """Serve for a while; gives the endpoint."""
    if MANY_AT_ONCE:
        with program.serve() as endpoint:
            yield endpoint
        return
    from tests.dynamodb import moto  # noqa: PLC0415 (it takes a second to import)

    with moto.serve() as endpoint:
        yield endpoint


def client(endpoint: str) -> Any:
    """Make a client for tests."""
    config = Config(max_pool_connections=50)
    return boto3.client("dynamodb", region_name=REGION, endpoint_url=endpoint, config=config, **KEYS)


def fresh(endpoint: str) -> str:
    """Make empty tables and give the store's URL."""
    prefix = f"t-{uuid.uuid4().hex[:12]}"
    for table in tables(prefix):
        client(endpoint).create_table(**table)
    return f"dynamodb://{REGION}/{prefix}?endpoint={endpoint}"
