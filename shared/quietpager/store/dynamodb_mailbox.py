"""The local broker's mailbox on DynamoDB: one small table, beside the store's three.

Who calls it: `opening.open_mailbox`. `infra/terraform/dynamodb.tf.json` makes the table; where Knative is the
broker it stays empty and costs nothing.

    PREFIX-delivery   pk = the delivery's id   place (when it came), trigger, event, attempt

`pending` reads the whole table, strongly consistent: it holds what is under way and no more. It is read once,
when a broker starts, so a delivery that was accepted just before a kill is seen, which an index could miss.
"""

import random
import time
from collections.abc import Sequence
from itertools import count
from typing import Any, Final

import structlog

from quietpager.model.store import StoreUnavailable
from quietpager.store.dynamodb_tables import (
    IN_THE_WAY,
    MOST_ACTIONS,
    Item,
    Tables,
    number_item,
    pack,
    text_item,
    text_of,
    unpack,
)
from quietpager.store.mailbox import Delivery

TRIES: Final = 10
"""How often a write that met another one is tried."""

log = structlog.get_logger()


class DynamoMailbox:
    """`mailbox.Mailbox` in a table of its own."""

    def __init__(self, url: str, *, client: Any = None) -> None:
        """Remember the URL; nothing is connected yet. Raises ValueError as `DynamoStore` does."""
        self._tables, self._later = Tables(url, client=client), count()

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        """Keep them; of more than a hundred, a hundred in one transaction.

        One that is kept already is written again as it was: its sender did not hear that it was kept.
        """
        puts = self._puts(deliveries)
        for start in range(0, len(puts), MOST_ACTIONS):
            self._write(puts[start : start + MOST_ACTIONS])

    def complete(self, delivery_id: str, follow_ups: Sequence[Delivery]) -> None:
        """Drop one that is done and keep what became of it, in one transaction."""
        gone = {"Delete": {"TableName": self._table, "Key": {"pk": text_item(delivery_id)}}}
        self._write([gone, *self._puts(follow_ups)])

    def pending(self) -> list[Delivery]:
        """Read what is not done, oldest first."""
        items = self._tables.pages("scan", TableName=self._table, ConsistentRead=True)
        return [_delivery(item) for item in sorted(items, key=_place)]

    def close(self) -> None:
        """Give back connections."""
        self._tables.close()

    @property
    def _table(self) -> str:
        return f"{self._tables.prefix}-delivery"

    def _puts(self, deliveries: Sequence[Delivery]) -> list[Item]:
        """Write deliveries as actions, one for each id.

        One that is too large for an item is delivered and not kept: a kill loses it, and the sweep finds what
        it told. No Event of Kubernetes comes near the limit.
        """
        puts = dict[str, Item]()
        for one in deliveries:
            try:
                event = pack(one.event)
            except ValueError as no:
                log.warning("A delivery is not kept.", trigger=one.trigger, why=str(no))
                continue
            # The time orders what several processes wrote, the number what this one wrote at once.
            item = {
                "pk": text_item(one.id), "place": number_item(time.time_ns()),
                "turn": number_item(next(self._later)), "trigger": text_item(one.trigger), "event": event,
                "attempt": number_item(one.attempt),
            }  # fmt: skip
            puts[one.id] = {"Put": {"TableName": self._table, "Item": item}}
        return list(puts.values())

    def _write(self, actions: list[Item]) -> None:
        for turn in range(TRIES if actions else 0):
            with self._tables.speaking() as client:
                try:
                    client.transact_write_items(TransactItems=actions)
                except client.exceptions.TransactionCanceledException:
                    pass
                except client.exceptions.ClientError as error:
                    if error.response["Error"]["Code"] not in IN_THE_WAY:
                        raise
                else:
                    return
            time.sleep(random.uniform(0, 0.02 * 2**turn))  # noqa: S311 (spreads retries)
        if actions:
            raise StoreUnavailable(f"The table {self._table} is too busy: {TRIES} writes met others.")


def _place(item: Item) -> tuple[int, int]:
    return int(item["place"]["N"]), int(item["turn"]["N"])


def _delivery(item: Item) -> Delivery:
    return Delivery(
        text_of(item["pk"]), text_of(item["trigger"]), unpack(item["event"]), int(item["attempt"]["N"])
    )
