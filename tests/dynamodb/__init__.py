"""A DynamoDB for the tests: dynoxide where `make dynamodb` built it, else moto. Neither is AWS.

dynoxide answers many clients at once, its transactions are isolated, and it refuses what AWS refuses (a
reserved word in an expression, for one). moto's transactions are isolated only if it takes one request at a
time, and it takes much that AWS refuses. Both answer over HTTP, so that processes can share them.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config

from tests.dynamodb import dynoxide

TERRAFORM: Final = Path(__file__).parents[2] / "infra" / "terraform" / "dynamodb.tf.json"
REGION: Final = "eu-west-1"
KEYS: Final = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}

MANY_AT_ONCE: Final = dynoxide.PROGRAM.exists()
"""Whether the server answers more than one request at a time."""
NAME: Final = (
    f"dynoxide {dynoxide.VERSION}"
    if MANY_AT_ONCE
    else "moto, one request at a time (`make dynamodb` builds a stricter one where Rust is)"
)
"""Which server it is, for whoever reads the figures."""


@contextmanager
def server() -> Iterator[str]:
    """Serve for a while; gives the endpoint."""
    if MANY_AT_ONCE:
        with dynoxide.serve() as endpoint:
            yield endpoint
        return
    from tests.dynamodb import moto  # noqa: PLC0415 (it takes a second to import)

    with moto.serve() as endpoint:
        yield endpoint


def client(endpoint: str) -> Any:
    """Make a client for tests."""
    config = Config(max_pool_connections=50)
    return boto3.client("dynamodb", region_name=REGION, endpoint_url=endpoint, config=config, **KEYS)


def tables(prefix: str) -> list[dict[str, Any]]:
    """Read the tables as terraform would make them, as arguments of CreateTable."""
    found = json.loads(TERRAFORM.read_text(encoding="utf-8"))["resource"]["aws_dynamodb_table"]
    return [_create(table, prefix) for table in found.values()]


def _create(table: dict[str, Any], prefix: str) -> dict[str, Any]:
    indexes = [
        {
            "IndexName": index["name"], "KeySchema": _schema(index),
            "Projection": {"ProjectionType": index["projection_type"]},
        }
        for index in table.get("global_secondary_index", ())
    ]  # fmt: skip
    asked = {
        "TableName": table["name"].replace("${var.prefix}", prefix),
        "BillingMode": table["billing_mode"],
        "KeySchema": _schema(table),
        "AttributeDefinitions": [
            {"AttributeName": one["name"], "AttributeType": one["type"]} for one in table["attribute"]
        ],
    }
    return asked | ({"GlobalSecondaryIndexes": indexes} if indexes else {})


def _schema(of: dict[str, Any]) -> list[dict[str, str]]:
    found = [{"AttributeName": of["hash_key"], "KeyType": "HASH"}]
    if "range_key" in of:
        found.append({"AttributeName": of["range_key"], "KeyType": "RANGE"})
    return found


def fresh(endpoint: str) -> str:
    """Make empty tables and give the store's URL."""
    prefix = f"t-{uuid.uuid4().hex[:12]}"
    for table in tables(prefix):
        client(endpoint).create_table(**table)
    return f"dynamodb://{REGION}/{prefix}?endpoint={endpoint}"
