"""Freeze windows: against a plain walk over the minutes, and where the clocks change."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from quietpager.incident.freeze import Freeze
from quietpager.incident.policy import Policy

BERLIN = "Europe/Berlin"


def window(**fields: Any) -> Freeze:
    return Freeze.model_validate(fields)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@given(
    st.integers(0, 23), st.integers(0, 59), st.integers(1, 3000), st.integers(0, 14 * 1440),
    st.sampled_from([BERLIN, "UTC", "America/St_Johns", "Australia/Lord_Howe"]),
)  # fmt: skip
def test_a_daily_window_is_open_where_a_walk_over_the_days_says_so(
    hour: int, minute: int, minutes: int, later: int, zone: str
) -> None:
    """Over a fortnight in which no clock changes in any of these zones."""
    start, place = datetime(2026, 6, 1, tzinfo=UTC), ZoneInfo(zone)
    now, length = start + timedelta(minutes=later), timedelta(minutes=minutes)
    one = window(cron=f"{minute} {hour} * * *", duration=minutes * 60, zone=zone)
    first = datetime(2026, 5, 25, hour, minute, tzinfo=place).astimezone(UTC)
    openings = [first + timedelta(days=day) for day in range(30)]
    is_open = any(opened <= now < opened + length for opened in openings)
    until = one.until(now, "shop")
    assert (until is not None) == is_open
    assert until is None or now < until <= now + length


@pytest.mark.parametrize(
    ("now", "is_open"),
    [
        # 29 March 2026: 02:30 does not exist, the window opens when the clocks have gone on to 03:00.
        ("2026-03-29T00:59:59+00:00", False),
        ("2026-03-29T01:00:00+00:00", True),
        ("2026-03-29T01:59:59+00:00", True),
        ("2026-03-29T02:00:00+00:00", False),
        # 25 October 2026: 02:30 is there twice; it opens once, at the first, and lasts its hour.
        ("2026-10-25T00:29:59+00:00", False),
        ("2026-10-25T00:30:00+00:00", True),
        ("2026-10-25T01:20:00+00:00", True),
        ("2026-10-25T01:29:59+00:00", True),
        ("2026-10-25T01:30:00+00:00", False),
        ("2026-10-25T02:20:00+00:00", False),
    ],
)
def test_when_the_clocks_change_a_window_opens_once_and_lasts_as_long_as_ever(
    now: str, is_open: bool
) -> None:
    one = window(cron="30 2 * * *", duration=3600, zone=BERLIN)
    assert (one.until(at(now), "shop") is not None) == is_open


@pytest.mark.parametrize(
    ("now", "is_open"),
    [
        ("2026-12-23T22:59:59+00:00", False),
        ("2026-12-23T23:00:00+00:00", True),
        ("2027-01-02T22:59:59+00:00", True),
        ("2027-01-02T23:00:00+00:00", False),
    ],
)
def test_times_without_a_zone_are_read_in_the_windows_own(now: str, is_open: bool) -> None:
    one = window(**{"from": "2026-12-24T00:00:00", "to": "2027-01-03T00:00:00", "zone": BERLIN})
    assert (one.until(at(now), "shop") is not None) == is_open


def test_a_weekend_of_windows_that_overlap_is_closed_by_the_last() -> None:
    now = at("2026-06-06T12:00:00+00:00")
    windows = (
        window(cron="0 18 * * FRI", duration=60 * 3600, zone=BERLIN, why="weekend"),
        window(**{"from": "2026-06-06T00:00:00Z", "to": "2026-06-09T00:00:00Z", "why": "release"}),
    )
    found = Policy(freeze=windows).frozen(now, "shop")
    assert found is not None
    assert (found[0].why, found[1]) == ("release", at("2026-06-09T00:00:00+00:00"))
    assert Policy(freeze=windows).frozen(at("2026-06-05T15:59:59+00:00"), "shop") is None
    assert Policy(freeze=windows).frozen(at("2026-06-05T16:00:00+00:00"), "shop") is not None


def test_a_window_may_hold_in_some_namespaces_only() -> None:
    one = window(cron="* * * * *", duration=60, namespace="bank-*")
    now = at("2026-06-06T12:00:00+00:00")
    assert one.until(now, "bank-a") is not None
    assert one.until(now, "shop") is None


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"cron": "0 0 * * *"}, {"duration": 60}, {"from": "2026-01-01T00:00:00Z"},
        {"cron": "0 0 * * *", "duration": 60, "to": "2026-01-01T00:00:00Z"},
        {"cron": "0 0 30 2 *", "duration": 60}, {"cron": "61 * * * *", "duration": 60},
        {"cron": "0 0 * *", "duration": 60}, {"cron": "0 0 * * *", "duration": 0},
        {"cron": "0 0 * * *", "duration": float("inf")},
        {"cron": "0 0 * * *", "duration": 60, "zone": "Mars/Base"},
        {"cron": "0 0 * * *", "duration": 60, "zone": "../../etc/passwd"},
        {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        {"from": "2026-01-02T00:00:00", "to": "2026-01-02T00:30:00+01:00"},
    ],
)  # fmt: skip
def test_a_window_that_is_none_is_refused_at_the_start(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        window(**fields)
