"""The store on DynamoDB: three tables, one TransactWriteItems for each transaction of the port.

Who calls it: `runtime.connect.open_store`, for a URL `dynamodb://REGION/PREFIX`. Importing this module
is cheap; boto3 is imported by the first call. `infra/terraform/dynamodb.tf.json` makes the tables.

    PREFIX-state   pk = the record's key            version, body; index by-kind for `scan`
    PREFIX-audit   pk = chain, sk = seq             only ever inserted: nobody has the right to do more
    PREFIX-due     pk = the item's id               at, every, message, since; index by-time: (shard, at)

What DynamoDB promises and what is built on it: TransactWriteItems is all or nothing and serialisable
with every other write of the items it names, checks included; reads here are strongly consistent but
for the two indexes, which only people (`scan`) and the clock (`claim_due`) read. A due item that the
index shows late is claimed a tick later; one that it shows although it is gone or moved fails its own
condition. No item has a TTL: what has expired is found by comparing times.

A hot key would throttle, so due items are spread over `SHARDS` index partitions by a hash of their
id, those of incidents over as many others, so that neither hides the other; and budget slots are one
item each (`records.slot`).
"""

import json
import random
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from quietpager.model.store import (
    ABSENT,
    AuditEntry,
    Check,
    Conflict,
    Delete,
    Due,
    Json,
    Put,
    Record,
    StoreUnavailable,
    Write,
)
from quietpager.store.audit import HEAD, plain
from quietpager.store.batch import Batch
from quietpager.store.codec import escape, unescape
from quietpager.store.queue import age, chosen
from quietpager.store.search_terms import PAST, most_similar

Item = dict[str, Any]

SHARDS: Final = 8
"""Partitions of the due queue: each takes 1,000 writes a second (DynamoDB's limit for a partition)."""

MOST_ACTIONS: Final = 100
"""What one TransactWriteItems may hold (DynamoDB's quota)."""

MOST_READ: Final = 100
"""What one BatchGetItem may ask for (the same)."""

MOST_BYTES: Final = 380_000
"""A packed body's limit; an item may have 400 KB, names and keys included (the same)."""

TRIES: Final = 40
"""How often a transaction that met another one, and wrote nothing, is tried."""

_COMPRESSED_FROM: Final = 4096
"""Bodies from this many bytes on are packed."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class DynamoStore:
    """`port.Store` over three tables."""

    def __init__(self, url: str, *, client: Any = None) -> None:
        """Remember where the tables are; nothing is connected yet.

        Args:
            url: `dynamodb://REGION/PREFIX`, with `?endpoint=URL` for one that is not AWS's own.
            client: a boto3 DynamoDB client to use instead of one of our own.

        Raises:
            ValueError: the URL names no region or no prefix.
        """
        parts = urlsplit(url)
        self._region, self._prefix = parts.netloc, parts.path.strip("/")
        if parts.scheme != "dynamodb" or not self._region or not self._prefix:
            raise ValueError(
                f"{url!r} is no store: write dynamodb://REGION/PREFIX, as in dynamodb://eu-west-1/qp."
            )
        self._endpoint = parse_qs(parts.query).get("endpoint", [None])[0]
        self._lock, self._made = Lock(), client

    def get(self, key: str) -> Record | None:
        """Read one record, strongly consistent."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, Record]:
        """Read several records; one round trip for each hundred."""
        found: dict[str, Record] = {}
        wanted = list(dict.fromkeys(keys))
        with self._speaking() as client:
            for start in range(0, len(wanted), MOST_READ):
                left = [{"pk": _text(key)} for key in wanted[start : start + MOST_READ]]
                while left:
                    request = {self._state: {"Keys": left, "ConsistentRead": True}}
                    answer = client.batch_get_item(RequestItems=request)
                    records = (_record(item) for item in answer["Responses"].get(self._state, ()))
                    found |= {record.key: record for record in records}
                    left = answer.get("UnprocessedKeys", {}).get(self._state, {}).get("Keys", [])
        return found

    def scan(self, kind: str) -> list[Record]:
        """Read all records of one kind, in key order, through the index: for people."""
        items = self._pages(
            "query", TableName=self._state, IndexName="by-kind", KeyConditionExpression="kind = :kind",
            ExpressionAttributeValues={":kind": _text(kind)},
        )  # fmt: skip
        return sorted((_record(item) for item in items), key=lambda record: record.key)

    def page(self, kind: str, after: str, limit: int) -> list[Record]:
        """Read up to `limit` records of one kind after a key, through the index."""
        items = self._pages(
            "query", TableName=self._state, IndexName="by-kind", Most=max(limit, 0),
            KeyConditionExpression="kind = :kind AND pk > :after",
            ExpressionAttributeValues={":kind": _text(kind), ":after": _text(after)},
        )  # fmt: skip
        return [_record(item) for item in items]

    def similar(self, text: str, limit: int) -> list[Record]:
        """Find records `PAST#…` that share words with a text; reads them all, for there is no full text."""
        return most_similar(self.scan(PAST), text, limit)

    def transact(self, writes: Iterable[Write]) -> None:
        """Do all or nothing; raises `Conflict`, ValueError, TypeError as the port says.

        ValueError also for more than a hundred writes, and for a body that no item can hold.
        """
        batch = Batch.of(writes)
        fixed = [self._condition(write) for write in batch.conditions]
        fixed += [self._put_due(item) for item in batch.due]
        fixed += [{"Delete": {"TableName": self._due, "Key": {"pk": _text(done)}}} for done in batch.done]
        size = len(fixed) + len(batch.audits) + len(batch.heads())
        if size > MOST_ACTIONS:
            raise ValueError(f"A transaction of {size} writes: DynamoDB takes at most {MOST_ACTIONS}.")
        _ = [plain(audit.body) for audit in batch.audits]
        if not size:
            return
        for turn in range(TRIES):
            if self._try(batch, fixed):
                return
            time.sleep(random.uniform(0, 0.02 * 2 ** min(turn, 5)))  # noqa: S311 (spreads retries)
        raise StoreUnavailable(
            f"Other transactions were in the way {TRIES} times; the tables {self._prefix}-* are too busy."
        )

    def claim_due(self, now: datetime, limit: int) -> list[Due]:
        """Take up to `limit` due items, as `queue` chooses, and move each on to `now + every`."""
        ripe = [due for shard in range(SHARDS) for due in self._ripe(shard, now, max(limit, 0))]
        # Of incidents all that is due: the oldest incident's need not be what has been due longest.
        ripe += [due for shard in range(SHARDS, 2 * SHARDS) for due in self._ripe(shard, now, None)]
        return [due for due in chosen(ripe, limit) if self._moved(due, now)]

    def due_item(self, id_: str) -> Due | None:
        """Read one due item."""
        with self._speaking() as client:
            found = client.get_item(TableName=self._due, Key={"pk": _text(id_)}, ConsistentRead=True)
        return _due_of(found["Item"]) if "Item" in found else None

    def due_items(self) -> list[Due]:
        """Read all due items, oldest first."""
        items = self._pages("scan", TableName=self._due, ConsistentRead=True)
        return sorted(map(_due_of, items), key=age)

    def audit(self, chain: str) -> list[AuditEntry]:
        """Read one chain in order."""
        items = self._pages(
            "query", TableName=self._audit, ConsistentRead=True, KeyConditionExpression="pk = :chain",
            ExpressionAttributeValues={":chain": _text(chain)},
        )  # fmt: skip
        return [_entry(item) for item in items]

    def audit_chains(self) -> list[str]:
        """Name all chains."""
        return [record.key.removeprefix(HEAD) for record in self.scan(HEAD.rstrip("#"))]

    def close(self) -> None:
        """Give back connections; a later use opens new ones."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    # What is asked of DynamoDB

    @property
    def _state(self) -> str:
        return f"{self._prefix}-state"

    @property
    def _audit(self) -> str:
        return f"{self._prefix}-audit"

    @property
    def _due(self) -> str:
        return f"{self._prefix}-due"

    def _try(self, batch: Batch, fixed: Sequence[Item]) -> bool:
        """Send it once; False where another transaction was in the way and nothing was written."""
        heads = self.get_many(batch.heads())
        entries, moved = batch.chain({key: record.body for key, record in heads.items()})
        chained = [self._insert(entry) for entry in entries]
        for key, body in moved.items():
            version = heads[key].version if key in heads else ABSENT
            chained.append(self._condition(Put(key, body, version)))
        with self._speaking() as client:
            try:
                client.transact_write_items(TransactItems=[*fixed, *chained])
            except client.exceptions.TransactionCanceledException:
                pass
            except client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] not in _IN_THE_WAY:
                    raise
            else:
                return True
        there = self.get_many([write.key for write in batch.conditions])
        failing = batch.first_failing({key: record.version for key, record in there.items()})
        if failing is not None:
            raise Conflict(failing.key, failing.expect, there.get(failing.key))
        return False

    def _condition(self, write: Put | Delete | Check) -> Item:
        """Turn one conditional write into an action."""
        asked: Item = {"TableName": self._state}
        if write.expect == ABSENT:
            asked["ConditionExpression"] = "attribute_not_exists(pk)"
        else:
            asked["ConditionExpression"] = "version = :version"
            asked["ExpressionAttributeValues"] = {":version": _number(write.expect)}
        match write:
            case Put():
                kind = write.key.partition("#")[0] if "#" in write.key else ""
                item = {
                    "pk": _text(write.key),
                    "version": _number(write.expect + 1),
                    "body": _pack(write.body),
                }
                return {"Put": asked | {"Item": item | ({"kind": _text(kind)} if "#" in write.key else {})}}
            case Delete() if write.expect != ABSENT:
                return {"Delete": asked | {"Key": {"pk": _text(write.key)}}}
            case _:
                return {"ConditionCheck": asked | {"Key": {"pk": _text(write.key)}}}

    def _put_due(self, due: Due) -> Item:
        shard = zlib.crc32(escape(due.id).encode()) % SHARDS
        item = {
            "pk": _text(due.id), "at": _number(_micros(due.at)), "message": _pack(due.message),
            "every": _number(due.every // timedelta(microseconds=1)),
            "shard": _number(shard if due.since is None else SHARDS + shard),
        }  # fmt: skip
        if due.since is not None:
            item["since"] = _number(_micros(due.since))
        return {"Put": {"TableName": self._due, "Item": item}}

    def _insert(self, entry: AuditEntry) -> Item:
        item = {
            "pk": _text(entry.chain), "seq": _number(entry.seq), "at": _number(_micros(entry.at)),
            "kind": _text(entry.kind), "actor": _text(entry.actor), "body": _pack(entry.body),
            "previous": _text(entry.previous), "hash": _text(entry.hash),
        }  # fmt: skip
        condition = "attribute_not_exists(pk)"
        return {"Put": {"TableName": self._audit, "Item": item, "ConditionExpression": condition}}

    def _moved(self, due: Due, now: datetime) -> bool:
        """Move one item on, unless somebody else did; the index may be behind."""
        with self._speaking() as client:
            try:
                client.update_item(
                    TableName=self._due, Key={"pk": _text(due.id)}, UpdateExpression="SET #at = :then",
                    ConditionExpression="#at = :seen AND every = :every",
                    ExpressionAttributeNames={"#at": "at"},
                    ExpressionAttributeValues={
                        ":seen": _number(_micros(due.at)), ":then": _number(_micros(now + due.every)),
                        ":every": _number(due.every // timedelta(microseconds=1)),
                    },
                )  # fmt: skip
            except client.exceptions.ConditionalCheckFailedException:
                return False
            except client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] in _IN_THE_WAY:
                    return False
                raise
        return True

    def _ripe(self, shard: int, now: datetime, most: int | None) -> list[Due]:
        items = self._pages(
            "query", TableName=self._due, IndexName="by-time", Most=most,
            KeyConditionExpression="#shard = :shard AND #at <= :now",
            ExpressionAttributeNames={"#at": "at", "#shard": "shard"},
            ExpressionAttributeValues={":shard": _number(shard), ":now": _number(_micros(now))},
        )  # fmt: skip
        return [_due_of(item) for item in items]

    def _pages(self, call: str, *, Most: int | None = None, **asked: Any) -> list[Item]:  # noqa: N803 (boto's style)
        """Read all pages of a query or scan, or as many as hold `Most` items."""
        found: list[Item] = []
        with self._speaking() as client:
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
    def _speaking(self) -> Iterator[Any]:
        """Lend the client; what it raises, but for what the port knows, is `StoreUnavailable`."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 (see the module's docstring)

        try:
            yield self._client()
        except (BotoCoreError, ClientError) as error:
            text = f"DynamoDB ({self._region}, tables {self._prefix}-*) answers: {error}"
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
                    "dynamodb", region_name=self._region, endpoint_url=self._endpoint, config=config
                )
            return self._made


_IN_THE_WAY: Final = frozenset({"TransactionConflictException", "TransactionInProgressException"})


def _text(value: str) -> Item:
    return {"S": f"={escape(value)}"}


def _plain_text(value: Item) -> str:
    return unescape(str(value["S"])[1:])


def _number(value: int) -> Item:
    return {"N": str(value)}


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(value: Item) -> datetime:
    return _EPOCH + timedelta(microseconds=int(value["N"]))


def _pack(body: Json) -> Item:
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


def _unpack(value: Item) -> Json:
    text = value["S"] if "S" in value else zlib.decompress(bytes(value["B"]))
    body: Json = json.loads(text)
    return body


def _record(item: Item) -> Record:
    return Record(_plain_text(item["pk"]), int(item["version"]["N"]), _unpack(item["body"]))


def _due_of(item: Item) -> Due:
    every = timedelta(microseconds=int(item["every"]["N"]))
    since = _moment(item["since"]) if "since" in item else None
    return Due(_plain_text(item["pk"]), _moment(item["at"]), every, _unpack(item["message"]), since)


def _entry(item: Item) -> AuditEntry:
    return AuditEntry(
        chain=_plain_text(item["pk"]), seq=int(item["seq"]["N"]), at=_moment(item["at"]),
        kind=_plain_text(item["kind"]), actor=_plain_text(item["actor"]), body=_unpack(item["body"]),
        previous=_plain_text(item["previous"]), hash=_plain_text(item["hash"]),
    )  # fmt: skip
