"""`quietpager watchdog`: notices when quietpager stops answering, and tells people directly.

It asks a probe that answers 2xx while every heartbeat is fresh, and tells people through the channels
directly: no store, no broker, no function takes part. It speaks once for each change of state; an alarm
that no channel took is tried again at the next look.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

import structlog

from quietpager.model.text import clean
from quietpager.outgoing import NoAnswer, ask
from quietpager.people.channels import alarm, load_channels
from quietpager.runtime.logs import configure_logs

TIMEOUT: Final = 5.0
"""Seconds the probe has to answer."""

WHERE: Final = "quietpager incidents; the runbook of govern/clock"
"""The third line of its message: where to look when the product is silent."""

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}

WELL: Final = "quietpager is well again"
UNWELL: Final = "quietpager itself is not well"

Tell = Callable[[str, str], bool]
"""Tells people, with a headline and a sentence; False where nobody could be told."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known: misses in a row, and whether people were told last that it is unwell."""

    misses: int = 0
    alarmed: bool = False


def seconds(text: str) -> float:
    """Read a duration such as 500ms, 10s or 2m.

    Raises:
        SystemExit: it is none.
    """
    found = re.fullmatch(r"([0-9]+)(ms|s|m)", text)
    if found is None or int(found[1]) == 0:
        raise SystemExit(f"--every {text} is no duration; write 500ms, 10s or 2m.")
    return int(found[1]) * _UNITS[found[2]]


def look(url: str) -> str | None:
    """Ask the probe; gives what is wrong, or None."""
    try:
        answer = ask("GET", url, seconds=TIMEOUT)
    except NoAnswer as no:
        return f"The probe does not answer ({no.why})."
    if 200 <= answer.status < 300:
        return None
    said = clean(answer.body[:2000].decode(errors="replace"), 300)
    return f"The probe answers {answer.status}. {' '.join(said.split())}".strip()


def after(before: Watch, wrong: str | None, limit: int, tell: Tell) -> Watch:
    """Take one look into account, and tell people if that changes anything."""
    if wrong is None:
        if before.alarmed and not tell(WELL, "The probe answers."):
            return replace(before, misses=0)
        return Watch()
    misses = before.misses + 1
    if before.alarmed or misses < limit:
        return replace(before, misses=misses)
    return Watch(
        misses, alarmed=tell(UNWELL, f"{wrong} Nothing may be healed, and nobody told, until it is mended.")
    )


def tell_people(headline: str, text: str) -> bool:
    """Tell every channel; True if one of them took it."""
    try:
        failed = alarm(text, link=WHERE, headline=headline)
        for channel, why in failed.items():
            log.warning("a channel was not told", channel=channel, why=why)
        return len(failed) < len(load_channels())
    except ValueError as wrong:
        log.warning("the channels cannot be read", why=str(wrong))
        return False


def run(
    url: str,
    every: str,
    limit: int,
    *,
    rounds: int | None = None,
    tell: Tell = tell_people,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Watch for ever, or for so many rounds."""
    pause, watch = seconds(every), Watch()
    configure_logs()
    try:
        load_channels()
    except ValueError as wrong:
        raise SystemExit(str(wrong)) from None
    for number in count():
        if number == rounds:
            return
        watch = after(watch, look(url), limit, tell)
        sleep(pause)
