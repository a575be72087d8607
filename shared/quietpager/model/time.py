"""Time as the product uses it: aware UTC datetimes that come in as arguments."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Whatever tells the time; handlers get one, tests give a virtual one."""


def system_clock() -> datetime:
    """Tell the machine's time; the only place that reads it."""
    return datetime.now(UTC)  # noqa: TID251 (this is the home of the clock)


def to_text(moment: datetime) -> str:
    """Write a moment the way Kubernetes does (RFC 3339, UTC), with microseconds where there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
