"""The local host whose broker loses, doubles or delays messages. Who starts it: the soak, as a process.

    broker ──▶ dice ──▶ function        lost: the broker hears 204, the function hears nothing
                                        doubled: twice, at the same time    delayed: later than what follows

Pings are treated no better: a tick may be lost, too.
"""

import asyncio
import json
import os
import random
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

from cloudevents.core.v1.event import CloudEvent

from quietpager.cluster.client import connect
from quietpager.incident.policy import load_policy
from quietpager.local.broker import Answer, Subscriber
from quietpager.local.host import Host, run
from quietpager.model.cluster import Cluster
from quietpager.render import FunctionFolder
from quietpager.runtime.logs import configure_logs

NOTES: Final = "SOAK_NOTES"
"""Environment variable: a file that gets a line of JSON every few seconds: what waits, and what was done."""
SHARE: Final = "SOAK_SHARE"
"""Environment variable: the share of messages that something happens to, from 0 to 1."""
LONGEST: Final = 2.0
"""Seconds that a message is delayed at most."""


def lossy(deliver: Subscriber, share: float, dice: random.Random) -> Subscriber:
    """Put dice before a subscriber."""

    async def cast(event: CloudEvent) -> Answer:
        if dice.random() >= share:
            return await deliver(event)
        match dice.randrange(3):
            case 0:
                return Answer(204)
            case 1:
                first, _ = await asyncio.gather(deliver(event), deliver(event))
                return first
            case _:
                await asyncio.sleep(dice.uniform(0.0, LONGEST))
                return await deliver(event)

    return cast


async def note(host: Host, path: Path) -> None:
    """Note now and then how much is under way, so that a backlog can be told from a leak."""
    while True:
        counted = asdict(host.broker.counters)
        line = {"under_way": host.broker.under_way, "blocks": sys.getallocatedblocks(), **counted}
        with path.open("a", encoding="utf-8") as notes:
            notes.write(f"{json.dumps(line)}\n")
        await asyncio.sleep(5)


def main() -> None:
    """Start from the environment, as `quietpager.local.host` does."""
    configure_logs()

    def connect_as(folder: FunctionFolder | None) -> Cluster:
        who = "source" if folder is None else folder.name
        return connect(os.environ["QUIETPAGER_API_SERVER"], manager=f"quietpager-{who}")

    host = Host(os.environ["QUIETPAGER_STORE"], connect_as, load_policy())
    dice, share = random.Random(1), float(os.environ[SHARE])  # noqa: S311 (a test's dice)
    known = host.broker._subscribers
    host.broker._subscribers = {name: lossy(one, share, dice) for name, one in known.items()}

    async def both() -> None:
        notes = asyncio.create_task(note(host, Path(os.environ[NOTES])))
        await run(host, int(os.environ["QUIETPAGER_PORT"]), lambda _url: None)
        notes.cancel()

    asyncio.run(both())


if __name__ == "__main__":
    main()
