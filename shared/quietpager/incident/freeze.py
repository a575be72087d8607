"""Freeze windows: times in which nothing is written. Who calls it: the policy, for guard 4.

A window recurs (a cron line, read in an IANA time zone, and how long it lasts) or happens once
(`from`, `to`). Lengths are elapsed seconds, so a window that is open when the clocks change is as long as
any other.
"""

from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import ConfigDict, Field, field_validator, model_validator

from quietpager.model.data import Data

LONGEST = 31 * 24 * 3600.0
"""Seconds that a recurring window may last."""


class Freeze(Data):
    """One window: `cron` with `duration`, or `from` with `to`."""

    model_config = ConfigDict(populate_by_name=True, allow_inf_nan=False)

    namespace: str = Field(default="", description="where it holds, `*` and `?` allowed; empty: everywhere")
    cron: str | None = Field(
        default=None,
        description="when it opens, again and again: minute, hour, day of the month, month, day of the week",
    )
    duration: float | None = Field(default=None, gt=0, le=LONGEST, description="s; how long it stays open")
    zone: str = Field(default="UTC", description="IANA time zone of `cron`, and of times that name none")
    start: datetime | None = Field(default=None, alias="from", description="when it opens, once")
    end: datetime | None = Field(default=None, alias="to", description="when it closes")
    why: str = Field(default="", description="what the person on call is told")

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, LookupError):
            raise ValueError(
                "there is no such time zone; an IANA name such as Europe/Berlin is one"
            ) from None
        return name

    @field_validator("cron")
    @classmethod
    def _is_a_cron_line(cls, line: str | None) -> str | None:
        if line is None:
            return None
        try:
            next(CronSim(line, datetime.fromisoformat("2024-01-01T00:00:00+00:00")))
        except (CronSimError, StopIteration) as wrong:
            said = str(wrong) or "it never comes"
            raise ValueError(f"{said}; five fields such as `0 18 * * FRI` are allowed") from None
        return line

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        recurs = (self.cron is not None, self.duration is not None)
        once = (self.start is not None, self.end is not None)
        if (all(recurs) and not any(once)) or (all(once) and not any(recurs)):
            if (
                self.start is not None
                and self.end is not None
                and self._aware(self.start) >= self._aware(self.end)
            ):
                raise ValueError("a window opens before it closes: `from` must be earlier than `to`")
            return self
        raise ValueError("a window has `cron` and `duration`, or `from` and `to`")

    def _aware(self, moment: datetime) -> datetime:
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=ZoneInfo(self.zone))

    def until(self, now: datetime, namespace: str) -> datetime | None:
        """Tell when this window closes, if it holds there and is open now; it opens at its first moment."""
        if self.namespace and not fnmatchcase(namespace, self.namespace):
            return None
        if self.start is not None and self.end is not None:
            start, end = self._aware(self.start), self._aware(self.end)
            return end if start <= now < end else None
        if self.cron is None or self.duration is None:
            return None
        length = timedelta(seconds=self.duration)
        begin = now - length
        # Forward from the earliest opening that could still be open: looking backward from a moment that
        # the clock shows twice, in autumn, the first of the two would be missed.
        openings = CronSim(self.cron, begin.astimezone(ZoneInfo(self.zone)))
        for opened in takewhile(lambda moment: moment <= now, openings):
            if opened > begin:
                return opened.astimezone(now.tzinfo) + length
        return None
