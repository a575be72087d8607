"""Judges from heartbeats whether every part of the product is alive.

Who calls it: `quietpager status`, and `GET /health/heartbeat` of the local host and of every function.

A part is judged only where its beat can reach us: while the store is away nothing is known of the others,
and while nothing comes through the broker the silence of clock, sweep and source is the broker's. So the
part that is called stale is the one to mend. Its limit is longer the further its beat has to travel, so
that the nearer part is found first.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from quietpager.errors import Retry
from quietpager.incident import records
from quietpager.incident.policy import Policy
from quietpager.model.store import Record, Store, StoreUnavailable
from quietpager.model.text import clean
from quietpager.model.time import Clock, system_clock, to_text

PATH: Final = "/health/heartbeat"
"""Where it is asked for over HTTP: 200 where all is well, else 503; the same JSON."""

Verdict = Literal["ok", "stale", "never", "unknown"]

PARTS: Final = ("store", "broker", "clock", "sweep", "source")
"""In the order in which one carries the beats of the next."""

CARRIERS: Final[Mapping[str, tuple[str, ...]]] = {
    "store": (),
    "broker": ("store",),
    "clock": ("store", "broker"),
    "sweep": ("store", "broker"),
    "source": ("store", "broker", "sweep"),
}
"""What must be well before a part's silence is its own."""

NEXT: Final[Mapping[str, str]] = {
    "store": (
        "Nothing is decided or written until it answers. Is QUIETPAGER_STORE right, and does PostgreSQL run? "
        "Everything else waits for it and recovers by itself."
    ),
    "broker": (
        "No message came through it. Look at `kubectl -n quietpager get broker,trigger,pingsource`: is all "
        "ready, and are there the PingSources of clock and sweep, which send what it carries?"
    ),
    "clock": (
        "Incidents stand still: nothing is rechecked, verified or closed. Look at its PingSource, its "
        "Trigger and its pod; functions/govern/clock/runbook.md."
    ),
    "sweep": (
        "Failures without an Event are not found. Look at its PingSource, its Trigger and its pod, and at "
        "whether it may list pods; functions/ingest/sweep/runbook.md."
    ),
    "source": (
        "Events are on the API server that did not come through; what fails is found by the sweep only. Look "
        "at `kubectl -n quietpager get apiserversource` and its adapter's log; "
        "functions/ingest/intake/runbook.md."
    ),
}
"""What to do about a part that is silent."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its last beat, if there was one, its age and its limit in seconds, and what to do next."""

    part: str
    verdict: Verdict
    last: datetime | None
    age: float | None
    limit: float
    say: str


@dataclass(frozen=True, slots=True)
class Reading:
    """All parts, at one moment."""

    at: datetime
    parts: tuple[Part, ...]
    policy_fault: str = ""
    """Why the policy's file cannot be read just now."""

    @property
    def ok(self) -> bool:
        """Whether every part is well, and the policy can be read."""
        return not self.policy_fault and all(part.verdict == "ok" for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        """Give what the probe answers; ages and limits in seconds."""
        return {
            "ok": self.ok,
            "at": to_text(self.at),
            "parts": [
                {
                    "part": one.part, "verdict": one.verdict, "last": one.last and to_text(one.last),
                    "age_seconds": one.age, "limit_seconds": one.limit, "say": one.say,
                }
                for one in self.parts
            ],
            **({"policy": self.policy_fault} if self.policy_fault else {}),
        }  # fmt: skip

    def to_http(self) -> tuple[int, bytes]:
        """Give status and body of the probe's answer."""
        return (200 if self.ok else 503), json.dumps(self.to_json()).encode()


def limits_of(policy: Policy) -> dict[str, float]:
    """Tell after how many seconds without a beat each part is stale.

    Clock and sweep are given one turn more than the broker, the source once more: where the broker is
    what has stopped, it is found before them.
    """
    base = policy.silent_after
    return {
        "store": base,
        "broker": base,
        "clock": base + policy.tick,
        "sweep": base + policy.sweep,
        "source": 2 * base + policy.sweep,
    }


def judge(beats: Mapping[str, datetime | None], away: str | None, now: datetime, policy: Policy) -> Reading:
    """Judge every part. `beats`: part → last beat; `away`: why the store does not answer, or None."""
    limits, found = limits_of(policy), dict[str, Part]()
    for part in PARTS:
        last, limit = beats.get(part), limits[part]
        age = None if last is None else max((now - last).total_seconds(), 0.0)
        cause = next((one for one in CARRIERS[part] if found[one].verdict != "ok"), None)
        ahead = _seconds_ahead(last, now)
        own: Verdict = "never" if age is None else "ok" if age <= limit and ahead <= limit else "stale"
        if part == "store":
            own = "stale" if away is not None else "ok"
        if cause is not None and (own != "ok" or cause == "store"):
            say = f"Not known: its beat comes through the {cause}; see to that first."
            found[part] = Part(part, "unknown", last, age, limit, say)
        else:
            say = _ahead(part, ahead) if ahead > limit else _say(part, own, age, limit, away)
            found[part] = Part(part, own, last, age, limit, say)
    return Reading(now, tuple(found[part] for part in PARTS))


def _seconds_ahead(last: datetime | None, now: datetime) -> float:
    return 0.0 if last is None else (last - now).total_seconds()


def _ahead(part: str, seconds: float) -> str:
    """A beat from the future hides that a part has stopped, for as long as it is ahead."""
    return (
        f"The last beat of the {part} is {seconds:.0f} s in the future, so nothing can be said of it: one of "
        "two clocks is wrong. Compare the time on its node with the time here, and see to NTP."
    )


def _say(part: str, verdict: Verdict, age: float | None, limit: float, away: str | None) -> str:
    if verdict == "ok":
        return ""
    if part == "store":
        return f"The store does not answer: {away} {NEXT[part]}"
    if age is None:
        return f"The {part} has never given a sign of life. {NEXT[part]}"
    return f"The {part} gave no sign of life for {age:.0f} s; {limit:.0f} s are allowed. {NEXT[part]}"


class Pulse:
    """Reads the heartbeats again and again; remembers when the store last answered, and what it said."""

    def __init__(self, open_store: Callable[[], Store], policy: Policy, clock: Clock = system_clock) -> None:
        """Nothing is opened yet."""
        self._open, self._policy, self._clock = open_store, policy, clock
        self._known: dict[str, datetime | None] = {}

    def read(self) -> Reading:
        """Look once; never raises for a store that is away, nor for a record that cannot be read."""
        away = None
        try:
            keys = [records.heartbeat(part) for part in PARTS if part != "store"]
            found = self._open().get_many(keys)
        except (StoreUnavailable, Retry) as no:
            away = clean(str(no), 300)
        else:
            beats = {part: _at(found.get(records.heartbeat(part))) for part in PARTS}
            self._known = beats | {"store": self._clock()}
        return judge(self._known, away, self._clock(), self._policy)


def _at(record: Record | None) -> datetime | None:
    try:
        at = None if record is None else datetime.fromisoformat(str(record.body["at"]))
    except (KeyError, ValueError):
        return None
    return at if at is not None and at.tzinfo is not None else None


def table(reading: Reading) -> str:
    """Write it for a person."""
    lines = [f"{'part':8} {'verdict':8} {'last beat':28} {'age':>8} {'limit':>8}"]
    for one in reading.parts:
        last = "-" if one.last is None else to_text(one.last)
        age = "-" if one.age is None else _seconds(one.age)
        lines.append(f"{one.part:8} {one.verdict:8} {last:28} {age:>8} {_seconds(one.limit):>8}")
    lines += [f"{one.part}: {one.say}" for one in reading.parts if one.say]
    return "\n".join(lines) + "\n"


def _seconds(number: float) -> str:
    return str(timedelta(seconds=round(number))) if number >= 3600 else f"{number:.0f} s"
