"""Refused messages are counted, not chained one by one: whoever sends many of them fills nothing.

    10:00  first of the hour ─▶ audited with its sentence, and record REFUSED#<who>#<kind> {count: 1}
    10:00  9,999 more        ─▶ the record's count only, written whenever it has doubled
    11:03  next hour's first ─▶ audited with its sentence; and the total of 10:00, once

Who calls it: the edge of every function, and `ingest/dead_letter` for what could not be delivered. Where no
further one comes, `retention` audits the total and takes the record away.

What is promised: the first ones of each hour are audited before their sender hears of it. The count is what
was refused at least, and never more: a process that is killed may take along what it had not written yet,
which is at most as many again as it had written, and at most `LATEST` old when another one came. Records and
audit entries are bounded by functions times kinds, whoever sends whatever.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Final

from quietpager.errors import Retry
from quietpager.incident import records
from quietpager.model.store import ABSENT, Audit, Conflict, Delete, Json, Put, Record, Store, Write
from quietpager.model.time import to_text

HOUR: Final = timedelta(hours=1)
"""What is counted together. Hours of UTC, so that all processes count in the same one."""

LATEST: Final = timedelta(minutes=1)
"""A count that is older is written with the next refusal, doubled or not."""

TRIES: Final = 6
"""How often a lost race for one record is tried again."""

COUNTED: Final = "counted"
"""Kind of the audit entry with an hour's total."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One message that is refused. `kind` is of a small closed set; `body` has its sentence, bounded."""

    chain: str
    word: str
    who: str
    kind: str
    body: Json


@dataclass(slots=True)
class _Count:
    """What this process refused of one kind, in one hour: written, and not written yet."""

    hour: datetime | None = None
    written: int = 0
    unwritten: int = 0
    at: datetime | None = None


class Refusals:
    """What one process has refused. Thread-safe; who makes one: `Lazy`."""

    def __init__(self, counts_from: int = 1) -> None:
        """Nothing is counted yet. `counts_from`: audited one by one in each hour; the rest is counted."""
        self._lock = Lock()
        self._counts: dict[str, _Count] = {}
        self._counts_from = counts_from

    def note(self, store: Callable[[], Store], one: Refusal, now: datetime) -> None:
        """Audit a refusal, or count it.

        Raises:
            StoreUnavailable, Retry: it is neither audited nor counted; the message is to come again.
        """
        with self._lock:
            count = self._counts.setdefault(records.refused(one.who, one.kind), _Count())
            if count.hour != hour_of(now):
                count.hour, count.written, count.at = hour_of(now), 0, None
            count.unwritten += 1
            fresh = count.at is not None and now - count.at < LATEST
            if fresh and count.written >= self._counts_from and count.unwritten < count.written:
                return
            # Under the lock: the others of this kind wait for the first one's audit entry.
            self._write(store(), one, count, now)

    def _write(self, store: Store, one: Refusal, count: _Count, now: datetime) -> None:
        key, many, count.unwritten = records.refused(one.who, one.kind), count.unwritten, 0
        last: Conflict | None = None
        for _ in range(TRIES):
            try:
                store.transact(counted(store.get(key), one, many, now, self._counts_from))
            except Conflict as lost:
                last = lost
                continue
            count.written += many
            count.at = now
            return
        # Nothing was written, for certain; the next one writes these as well, this message comes again.
        count.unwritten = many - 1
        raise Retry(f"the count of refusals is written by others: {last}")


def hour_of(moment: datetime) -> datetime:
    """Give the hour that a moment is counted in."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def counted(before: Record | None, one: Refusal, many: int, now: datetime, counts_from: int) -> list[Write]:
    """Give the writes for `many` more of a kind, of which `one` is the last; the first are audited."""
    hour = to_text(hour_of(now))
    writes: list[Write] = []
    had, audited, first = 0, 0, one.body
    if before is not None and before.body["hour"] == hour:
        had, audited, first = int(before.body["count"]), int(before.body["audited"]), before.body["first"]
    elif before is not None:
        writes += total(before, now)
    if audited < counts_from:
        audited += 1
        writes.append(Audit(one.chain, now, one.word, one.who, one.body))
    body: Json = {
        "chain": one.chain, "who": one.who, "kind": one.kind, "hour": hour, "count": had + many,
        "audited": audited, "first": first, "last": one.body, "at": to_text(now),
    }  # fmt: skip
    version = ABSENT if before is None else before.version
    return [Put(records.refused(one.who, one.kind), body, version), *writes]


def total(record: Record, now: datetime) -> list[Write]:
    """Give the audit entry of an hour that is over; none where every one of it was audited by itself."""
    body = record.body
    if int(body["count"]) <= int(body["audited"]):
        return []
    says = {name: body[name] for name in ("kind", "hour", "count", "last")}
    return [Audit(str(body["chain"]), now, COUNTED, str(body["who"]), says)]


def closed(record: Record, now: datetime) -> list[Write]:
    """Take the record of an hour that is over away, and audit its total."""
    return [Delete(record.key, record.version), *total(record, now)]
