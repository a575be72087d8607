"""When a budget slot counts as used. Who calls it: `deciding.ground` at the commit, the sender at a claim."""

from datetime import datetime

from quietpager.model.store import Record


def stamp(record: Record | None, now: datetime) -> datetime:
    """Give the moment that a slot is used at; a slow clock never sets one back that a faster one has set."""
    return max(now, moment(record, "at") or now)


def moment(record: Record | None, name: str) -> datetime | None:
    """Read a moment of a record; None where there is no record."""
    return None if record is None else datetime.fromisoformat(str(record.body[name]))
