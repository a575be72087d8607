"""What the store and the mailbox on DynamoDB share: the connection, and how values are written as items.

Who calls it: `dynamodb` and `dynamodb_mailbox`. Importing is cheap; boto3 is imported by the first call.
"""

import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from quietpager.model.store import Json, StoreUnavailable
from quietpager.store.codec import escape, unescape

Item = dict[str, Any]

MOST_ACTIONS: Final = 100
"""What one TransactWriteItems may hold (DynamoDB's quota)."""

MOST_BYTES: Final = 380_000
"""A packed body's limit; an item may have 400 KB, names and keys included (the same)."""

_COMPRESSED_FROM: Final = 4096
"""Bodies from this many bytes on are packed."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

IN_THE_WAY: Final = frozenset({"TransactionConflictException", "TransactionInProgressException"})
"""Codes of a transaction that met another one and wrote nothing."""


class Tables:
    """The tables of one prefix in one region. Thread-safe."""

    def __init__(self, url: str, *, client: Any = None) -> None:
        """Remember where they are; `dynamodb.DynamoStore` says what the arguments are.

        Raises:
            ValueError: the URL names no region or no prefix.
        """
        parts = urlsplit(url)
        self._region, self.prefix = parts.netloc, parts.path.strip("/")
        if parts.scheme != "dynamodb" or not self._region or not self.prefix:
            raise ValueError(
                f"{url!r} is no store: write dynamodb://REGION/PREFIX, as in dynamodb://eu-west-1/qp."
            )
        self._endpoint = parse_qs(parts.query).get("endpoint", [None])[0]
        self._lock, self._made = Lock(), client

    @property
    def is_aws(self) -> bool:
        """Whether it is AWS's own."""
        return self._endpoint is None

    def _nobody(self) -> dict[str, str]:
        """Give keys for a server without accounts: boto3 wants some. AWS itself is only reached by https."""
        plain = self._endpoint is not None and self._endpoint.startswith("http://")
        if not plain or "AWS_ACCESS_KEY_ID" in os.environ:
            return {}
        return {"aws_access_key_id": "nobody", "aws_secret_access_key": "nobody"}

    def exists(self, name: str) -> bool:
        """Tell whether a table is there, and active."""
        with self.speaking() as client:
            try:
                found: str = client.describe_table(TableName=name)["Table"]["TableStatus"]
            except client.exceptions.ResourceNotFoundException:
                return False
        return found in {"ACTIVE", "UPDATING"}

    def close(self) -> None:
        """Give back connections; a later use opens new ones."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    def pages(self, call: str, *, Most: int | None = None, **asked: Any) -> list[Item]:  # noqa: N803 (boto's style)
        """Read all pages of a query or scan, or as many as hold `Most` items."""
        found: list[Item] = []
        with self.speaking() as client:
            ask: Callable[..., Item] = getattr(client, call)
            if Most is not None:
                asked["Limit"] = max(Most, 1)
            while True:
                page = ask(**asked)
                found += page["Items"]
                if "LastEvaluatedKey" not in page or (Most is not None and len(found) >= Most):
                    return found if Most is None else found[:Most]
                asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    @contextmanager
    def speaking(self) -> Iterator[Any]:
        """Lend the client; what it raises, but for what the port knows, is `StoreUnavailable`."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 (see the module's docstring)

        try:
            yield self._client()
        except (BotoCoreError, ClientError) as error:
            text = f"DynamoDB ({self._region}, tables {self.prefix}-*) answers: {error}"
            raise StoreUnavailable(text) from error

    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                import boto3  # noqa: PLC0415 (see the module's docstring)
                from botocore.config import Config  # noqa: PLC0415

                config = Config(
                    connect_timeout=2, read_timeout=5, max_pool_connections=16,
                    retries={"mode": "standard", "total_max_attempts": 3},
                )  # fmt: skip
                self._made = boto3.client(
                    "dynamodb",
                    region_name=self._region,
                    endpoint_url=self._endpoint,
                    config=config,
                    **self._nobody(),
                )
            return self._made


def text_item(value: str) -> Item:
    """Write text; never empty, and escaped as everywhere in the store."""
    return {"S": f"={escape(value)}"}


def text_of(value: Item) -> str:
    """Read what `text_item` wrote."""
    return unescape(str(value["S"])[1:])


def number_item(value: int) -> Item:
    """Write a whole number."""
    return {"N": str(value)}


def micros(moment: datetime) -> int:
    """Give a moment as microseconds since 1970, which sort as the moments do."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment_of(value: Item) -> datetime:
    """Read a moment that was written as `micros`."""
    return _EPOCH + timedelta(microseconds=int(value["N"]))


def pack(body: Json) -> Item:
    """Write JSON as ASCII, so that every string and every number comes back as it was.

    Raises ValueError for NaN, an infinity, or more than an item can hold; TypeError for what is no JSON.
    """
    text = json.dumps(body, allow_nan=False).encode("ascii")
    if len(text) < _COMPRESSED_FROM:
        return {"S": text.decode("ascii")}
    packed = zlib.compress(text)
    if len(packed) > MOST_BYTES:
        raise ValueError(f"A body of {len(packed):,} bytes, packed: DynamoDB takes at most {MOST_BYTES:,}.")
    return {"B": packed}


def unpack(value: Item) -> Json:
    """Read what `pack` wrote."""
    text = value["S"] if "S" in value else zlib.decompress(bytes(value["B"]))
    body: Json = json.loads(text)
    return body
