"""The tables on DynamoDB: read from the Terraform file beside this module, and made where it is not AWS.

Who calls it: `quietpager migrate`, the demo, and the tests. On AWS the tables are Terraform's, with their
backups and rights: nothing here makes one there.
"""

import json
from pathlib import Path
from typing import Any, Final

from quietpager.model.store import StoreUnavailable
from quietpager.store.dynamodb_tables import Tables

TERRAFORM: Final = Path(__file__).with_name("dynamodb.tf.json")


def tables(prefix: str) -> list[dict[str, Any]]:
    """Read the tables as Terraform would make them, as arguments of CreateTable."""
    found = json.loads(TERRAFORM.read_text(encoding="utf-8"))["resource"]["aws_dynamodb_table"]
    return [_create(table, prefix) for table in found.values()]


def make_tables(url: str) -> list[str]:
    """Make what is missing, and name it; on AWS only look.

    Raises:
        StoreUnavailable: it does not answer, it is AWS's own and a table is missing, or the URL is none.
    """
    try:
        place = Tables(url)
    except ValueError as wrong:
        raise StoreUnavailable(str(wrong)) from wrong
    try:
        missing = [one for one in tables(place.prefix) if not place.exists(one["TableName"])]
        names = [str(one["TableName"]) for one in missing]
        if names and place.is_aws:
            raise StoreUnavailable(
                f"The tables {', '.join(names)} are missing; on AWS Terraform makes them: {TERRAFORM}."
            )
        for one in missing:
            with place.speaking() as client:
                client.create_table(**one)
        return names
    finally:
        place.close()


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
