"""A DynamoDB for the tests: moto behind a server that takes one request at a time.

moto's own transactions are not isolated under threads; taken one after another they are, so conditions
and transactions can be tested under concurrent clients. What it cannot show is how AWS itself answers
under contention (TransactionConflict); the store's answer to that is tested with a client that says so.

moto keeps a deep copy of each table that a transaction touches, so that it can take back what came before a
condition that fails; with a table that grows it was most of the time. A transaction replaces items and never
changes one (`Put`, `Delete`, `ConditionCheck`; the store sends no `Update` in one), so a copy of the table's
two levels of names does the same.
"""

import copy
import json
import logging
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
from botocore.config import Config
from moto.dynamodb.models.table import Table
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

TERRAFORM = Path(__file__).parents[1] / "infra" / "terraform" / "dynamodb.tf.json"
REGION = "eu-west-1"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


class _Copies:
    """The module `copy`, as moto's DynamoDB sees it."""

    @staticmethod
    def deepcopy(thing: Any) -> Any:
        if not isinstance(thing, Table):
            return copy.deepcopy(thing)
        twin, ranged = copy.copy(thing), thing.has_range_key
        items = {key: dict(one) if ranged else one for key, one in thing.items.items()}
        twin.items = defaultdict(dict, items)
        return twin


@contextmanager
def server() -> Iterator[str]:
    """Serve for a while; gives the endpoint."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    app = DomainDispatcherApplication(create_backend_app)
    made = make_server("127.0.0.1", 0, app, threaded=False)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    try:
        with patch("moto.dynamodb.models.copy", _Copies):
            yield f"http://127.0.0.1:{made.server_port}"
    finally:
        made.shutdown()
        thread.join()


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
