"""Runs schedules over one store and gives the figures; `test_points` calls it."""

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.crash.points.controller import Figures, Pool, Run, policy_of, pool
from tests.crash.points.judge import CRASHED, KINDS
from tests.crash.points.ports import Api
from tests.crash.points.schedules import WORKERS, Schedule


@dataclass(frozen=True)
class Plan:
    """What to run, and where. `act` is the act deadline in seconds, `at_once` how many run at a time.

    `mutant` names a mechanism of `tests.model.mutants` to take out. `until_wrong`: stop at the first find.
    """

    url: str
    schedules: Sequence[Schedule]
    act: float = 0.25
    at_once: int = 8
    mutant: str = ""
    until_wrong: bool = False


def run(plan: Plan) -> Figures:
    """Run it; the figures say what was wrong, if anything."""
    # Not pytest's own folder: a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="qp-"))
    try:
        return asyncio.run(_run(plan, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _run(plan: Plan, folder: Path) -> Figures:
    figures, begun = Figures(), time.monotonic()
    workers = (plan.at_once + 2) * len(WORKERS)
    async with pool(folder, plan.url, policy_of(plan.act), plan.mutant, workers) as made:
        api = Api(f"{folder}/api")
        try:
            left = enumerate(plan.schedules)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(plan.at_once):
                    tasks.create_task(_some(plan, made, api, figures, left))
        finally:
            api.close()
    figures.wrong += [(CRASHED, said) for said in made.complaints]
    figures.seconds = time.monotonic() - begun
    return figures


async def _some(
    plan: Plan, made: Pool, api: Api, figures: Figures, left: Iterator[tuple[int, Schedule]]
) -> None:
    for number, schedule in left:
        if plan.until_wrong and figures.wrong:
            return
        await Run(made, api, figures, f"s{number}", schedule)()


def words(name: str, figures: Figures) -> str:
    """Write the figures in a few lines."""
    wrong = Counter(kind for kind, _ in figures.wrong)
    zeros = ", ".join(f"{wrong[kind]} x {kind}" for kind in KINDS)
    ends = ", ".join(f"{n} {state}" for state, n in figures.states.most_common())
    return (
        f"{name}: {figures.schedules:,} schedules, {figures.kills:,} kills, {figures.stops:,} stops, "
        f"{figures.writes:,} writes accepted, {figures.refused:,} refused, {figures.seconds:.0f} s\n"
        f"  {zeros}\n  ends: {ends}"
    )
