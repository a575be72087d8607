"""The store on DynamoDB: three tables, one TransactWriteItems for each transaction of the port.

Who calls it: `opening.open_store`, for a URL `dynamodb://REGION/PREFIX`. Importing this module
is cheap; boto3 is imported by the first call. `dynamodb.tf.json`, beside this file, is the Terraform
that makes the tables on AWS; `dynamodb_schema` makes them elsewhere.

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

import random
import time
import zlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from quietpager.model.store import (
    ABSENT,
    AuditEntry,
    Check,
    Conflict,
    Delete,
    Due,
    Put,
    Record,
    StoreUnavailable,
    Write,
)
from quietpager.store.audit import HEAD, plain
from quietpager.store.batch import Batch
from quietpager.store.codec import escape
from quietpager.store.dynamodb_tables import (
    IN_THE_WAY,
    MOST_ACTIONS,
    Item,
    Tables,
    micros,
    moment_of,
    number_item,
    pack,
    text_item,
    text_of,
    unpack,
)
from quietpager.store.queue import age, chosen
from quietpager.store.search_terms import PAST, most_similar

SHARDS: Final = 8
"""Partitions of the due queue: each takes 1,000 writes a second (DynamoDB's limit for a partition)."""

MOST_READ: Final = 100
"""What one BatchGetItem may ask for (DynamoDB's quota)."""

TRIES: Final = 40
"""How often a transaction that met another one, and wrote nothing, is tried."""


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
        self._tables = Tables(url, client=client)

    def get(self, key: str) -> Record | None:
        """Read one record, strongly consistent."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, Record]:
        """Read several records; one round trip for each hundred."""
        found: dict[str, Record] = {}
        wanted = list(dict.fromkeys(keys))
        with self._tables.speaking() as client:
            for start in range(0, len(wanted), MOST_READ):
                left = [{"pk": text_item(key)} for key in wanted[start : start + MOST_READ]]
                while left:
                    request = {self._state: {"Keys": left, "ConsistentRead": True}}
                    answer = client.batch_get_item(RequestItems=request)
                    records = (_record(item) for item in answer["Responses"].get(self._state, ()))
                    found |= {record.key: record for record in records}
                    left = answer.get("UnprocessedKeys", {}).get(self._state, {}).get("Keys", [])
        return found

    def scan(self, kind: str) -> list[Record]:
        """Read all records of one kind, in key order, through the index: for people."""
        items = self._tables.pages(
            "query", TableName=self._state, IndexName="by-kind",
            KeyConditionExpression="kind = :kind AND begins_with(pk, :begin)",
            ExpressionAttributeValues={":kind": _kind_item(kind), ":begin": text_item(f"{kind}#")},
        )  # fmt: skip
        return sorted((_record(item) for item in items), key=lambda record: record.key)

    def page(self, kind: str, after: str, limit: int) -> list[Record]:
        """Read up to `limit` records of one kind after a key, through the index."""
        low, high = max(f"{kind}#", after), f"{kind}$"  # "$" is the character after "#"
        if low >= high:
            return []
        items = self._tables.pages(
            "query", TableName=self._state, IndexName="by-kind", Most=max(limit, 0) + 1,
            KeyConditionExpression="kind = :kind AND pk BETWEEN :low AND :high",
            ExpressionAttributeValues={
                ":kind": _kind_item(kind), ":low": text_item(low), ":high": text_item(high),
            },
        )  # fmt: skip
        found = [one for one in map(_record, items) if one.key not in (after, high)]
        return found[: max(limit, 0)]

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
        fixed += [{"Delete": {"TableName": self._due, "Key": {"pk": text_item(done)}}} for done in batch.done]
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
            f"Other transactions were in the way {TRIES} times; "
            f"the tables {self._tables.prefix}-* are too busy."
        )

    def claim_due(self, now: datetime, limit: int, within: str = "") -> list[Due]:
        """Take up to `limit` due items, as `queue` chooses, and move each on to `now + every`."""
        ripe = [due for shard in range(SHARDS) for due in self._ripe(shard, now, max(limit, 0), within)]
        # Of incidents all that is due: the oldest incident's need not be what has been due longest.
        ripe += [due for shard in range(SHARDS, 2 * SHARDS) for due in self._ripe(shard, now, None, within)]
        return [due for due in chosen(ripe, limit) if self._moved(due, now)]

    def due_item(self, id_: str) -> Due | None:
        """Read one due item."""
        with self._tables.speaking() as client:
            found = client.get_item(TableName=self._due, Key={"pk": text_item(id_)}, ConsistentRead=True)
        return _due_of(found["Item"]) if "Item" in found else None

    def due_items(self) -> list[Due]:
        """Read all due items, oldest first."""
        items = self._tables.pages("scan", TableName=self._due, ConsistentRead=True)
        return sorted(map(_due_of, items), key=age)

    def audit(self, chain: str) -> list[AuditEntry]:
        """Read one chain in order."""
        items = self._tables.pages(
            "query", TableName=self._audit, ConsistentRead=True, KeyConditionExpression="pk = :chain",
            ExpressionAttributeValues={":chain": text_item(chain)},
        )  # fmt: skip
        return [_entry(item) for item in items]

    def audit_chains(self) -> list[str]:
        """Name all chains."""
        return [record.key.removeprefix(HEAD) for record in self.scan(HEAD.rstrip("#"))]

    def close(self) -> None:
        """Give back connections; a later use opens new ones."""
        self._tables.close()

    # What is asked of DynamoDB

    @property
    def _state(self) -> str:
        return f"{self._tables.prefix}-state"

    @property
    def _audit(self) -> str:
        return f"{self._tables.prefix}-audit"

    @property
    def _due(self) -> str:
        return f"{self._tables.prefix}-due"

    def _try(self, batch: Batch, fixed: Sequence[Item]) -> bool:
        """Send it once; False where another transaction was in the way and nothing was written."""
        heads = self.get_many(batch.heads())
        entries, moved = batch.chain({key: record.body for key, record in heads.items()})
        chained = [self._insert(entry) for entry in entries]
        for key, body in moved.items():
            version = heads[key].version if key in heads else ABSENT
            chained.append(self._condition(Put(key, body, version)))
        with self._tables.speaking() as client:
            try:
                client.transact_write_items(TransactItems=[*fixed, *chained])
            except client.exceptions.TransactionCanceledException:
                pass
            except client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] not in IN_THE_WAY:
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
            asked["ExpressionAttributeValues"] = {":version": number_item(write.expect)}
        match write:
            case Put():
                kind = write.key.partition("#")[0] if "#" in write.key else ""
                item = {
                    "pk": text_item(write.key),
                    "version": number_item(write.expect + 1),
                    "body": pack(write.body),
                }
                return {
                    "Put": asked | {"Item": item | ({"kind": text_item(kind)} if "#" in write.key else {})}
                }
            case Delete() if write.expect != ABSENT:
                return {"Delete": asked | {"Key": {"pk": text_item(write.key)}}}
            case _:
                return {"ConditionCheck": asked | {"Key": {"pk": text_item(write.key)}}}

    def _put_due(self, due: Due) -> Item:
        shard = zlib.crc32(escape(due.id).encode()) % SHARDS
        item = {
            "pk": text_item(due.id), "at": number_item(micros(due.at)), "message": pack(due.message),
            "every": number_item(due.every // timedelta(microseconds=1)),
            "shard": number_item(shard if due.since is None else SHARDS + shard),
        }  # fmt: skip
        if due.since is not None:
            item["since"] = number_item(micros(due.since))
        return {"Put": {"TableName": self._due, "Item": item}}

    def _insert(self, entry: AuditEntry) -> Item:
        item = {
            "pk": text_item(entry.chain), "seq": number_item(entry.seq), "at": number_item(micros(entry.at)),
            "kind": text_item(entry.kind), "actor": text_item(entry.actor), "body": pack(entry.body),
            "previous": text_item(entry.previous), "hash": text_item(entry.hash),
        }  # fmt: skip
        condition = "attribute_not_exists(pk)"
        return {"Put": {"TableName": self._audit, "Item": item, "ConditionExpression": condition}}

    def _moved(self, due: Due, now: datetime) -> bool:
        """Move one item on, unless somebody else did; the index may be behind."""
        with self._tables.speaking() as client:
            try:
                client.update_item(
                    TableName=self._due, Key={"pk": text_item(due.id)}, UpdateExpression="SET #at = :then",
                    ConditionExpression="#at = :seen AND every = :every",
                    ExpressionAttributeNames={"#at": "at"},
                    ExpressionAttributeValues={
                        ":seen": number_item(micros(due.at)), ":then": number_item(micros(now + due.every)),
                        ":every": number_item(due.every // timedelta(microseconds=1)),
                    },
                )  # fmt: skip
            except client.exceptions.ConditionalCheckFailedException:
                return False
            except client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] in IN_THE_WAY:
                    return False
                raise
        return True

    def _ripe(self, shard: int, now: datetime, most: int | None, within: str = "") -> list[Due]:
        values = {":shard": number_item(shard), ":now": number_item(micros(now))}
        only: Item = {}
        if within:
            values[":within"] = text_item(within)
            only = {"FilterExpression": "begins_with(pk, :within)"}
        items = self._tables.pages(
            "query", TableName=self._due, IndexName="by-time", Most=most,
            KeyConditionExpression="#shard = :shard AND #at <= :now",
            ExpressionAttributeNames={"#at": "at", "#shard": "shard"},
            ExpressionAttributeValues=values, **only,
        )  # fmt: skip
        return [_due_of(item) for item in items]


def _kind_item(kind: str) -> Item:
    """Give what the index files a record under: its key's first part, whatever else is asked for."""
    return text_item(kind.partition("#")[0])


def _record(item: Item) -> Record:
    return Record(text_of(item["pk"]), int(item["version"]["N"]), unpack(item["body"]))


def _due_of(item: Item) -> Due:
    every = timedelta(microseconds=int(item["every"]["N"]))
    since = moment_of(item["since"]) if "since" in item else None
    return Due(text_of(item["pk"]), moment_of(item["at"]), every, unpack(item["message"]), since)


def _entry(item: Item) -> AuditEntry:
    return AuditEntry(
        chain=text_of(item["pk"]), seq=int(item["seq"]["N"]), at=moment_of(item["at"]),
        kind=text_of(item["kind"]), actor=text_of(item["actor"]), body=unpack(item["body"]),
        previous=text_of(item["previous"]), hash=text_of(item["hash"]),
    )  # fmt: skip
