"""The durable part of the local broker: deliveries that were accepted and are not done yet.

Who calls it: `shared/quietpager/local/broker.py` only. In production Knative's Broker does this and the table
stays empty. On PostgreSQL and on DynamoDB, wherever the store is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one Trigger's subscriber. `id` is unique; `attempt` counts from 0."""

    id: str
    trigger: str
    event: dict[str, Any]
    attempt: int = 0


class Mailbox(Protocol):
    """Kept in the store's database. Thread-safe. Raises `StoreUnavailable`."""

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        """Keep them, in one transaction; once this returns they survive a kill of the process.

        May be repeated: one that is kept already stays as it is.
        """
        ...

    def complete(self, delivery_id: str, follow_ups: Sequence[Delivery]) -> None:
        """Drop one that is done and keep what it became (reply, dead letter), in one transaction.

        May be repeated: what is gone already, or kept already, stays so.
        """
        ...

    def pending(self) -> list[Delivery]:
        """Read what an earlier process accepted and did not finish, oldest first."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...
