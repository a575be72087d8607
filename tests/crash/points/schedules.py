"""Which faults are tried: every point, every pair of points, then random ones."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, product
from typing import Final, Literal

Moment = Literal["before", "after", "within"]
"""Before a call, after it and before its answer is known, or inside a transaction of PostgreSQL: written,
its locks held, not committed."""

Kind = Literal["kill", "stop", "sleep"]
"""SIGKILL; SIGSTOP, woken just after the act deadline; SIGSTOP, woken when nothing else moves any more."""

Outside = Literal["", "edit", "heal", "stop"]
"""What others do at the first fault: nothing, a foreign edit, it heals by itself, `quietpager stop`."""

DECIDERS: Final = (0, 1)
REMEDIATORS: Final = (2, 3)
WORKERS: Final = (*DECIDERS, *REMEDIATORS)
_TWIN: Final = {0: 1, 1: 0, 2: 3, 3: 2}
_OUTSIDE: Final[tuple[Outside, ...]] = ("", "edit", "heal", "stop")
_SEED: Final = 20261125

TRANSACTIONS: Final = 4
"""How many transactions of a worker are tried `within`; an undisturbed one has two or three."""


@dataclass(frozen=True)
class Fault:
    """One signal. `call` counts the worker's calls of store and cluster, or for `within` its transactions,
    since it began or since its last fault."""

    worker: int
    call: int
    moment: Moment
    kind: Kind

    def __str__(self) -> str:
        """Write it for a reader."""
        return f"{self.kind} worker {self.worker} {self.moment} its call {self.call}"


@dataclass(frozen=True)
class Schedule:
    """Faults, in the order in which each worker meets its own, and what others do meanwhile."""

    faults: tuple[Fault, ...]
    outside: Outside = ""

    def __str__(self) -> str:
        """Write it for a reader."""
        said = "; ".join(map(str, self.faults)) or "no fault"
        return f"{said}{f'; meanwhile: {self.outside}' if self.outside else ''}"


def points(worker: int, calls: int) -> list[Fault]:
    """Give every single fault of one worker; which way a stopped one is woken alternates."""
    found = []
    for call, moment in product(range(1, calls + 1), ("before", "after")):
        found.append(Fault(worker, call, moment, "kill"))
        found.append(Fault(worker, call, moment, "sleep" if (call % 2) == (moment == "before") else "stop"))
    for call, kind in product(range(1, TRANSACTIONS + 1), ("kill", "stop")):
        found.append(Fault(worker, call, "within", kind))
    return found


def singles(calls: Mapping[int, int]) -> Iterator[Schedule]:
    """Give every point, with everything that others may do. Of twins, one is enough: both get all."""
    for worker, outside in product((DECIDERS[0], REMEDIATORS[0]), _OUTSIDE):
        for fault in points(worker, calls[worker]):
            yield _quiet(Schedule((fault,), outside))


def pairs(calls: Mapping[int, int]) -> Iterator[Schedule]:
    """Give all pairs of points, up to swapping twins: on one worker, on twins, and one of each role."""
    for worker in (DECIDERS[0], REMEDIATORS[0]):
        here = points(worker, calls[worker])
        for one, two in product(here, here):
            yield Schedule((one, two))
        for one, two in combinations_with_replacement(here, 2):
            yield Schedule((one, Fault(_TWIN[worker], two.call, two.moment, two.kind)))
    for one, two in product(points(DECIDERS[0], calls[0]), points(REMEDIATORS[0], calls[2])):
        yield Schedule((one, two))


def _quiet(schedule: Schedule) -> Schedule:
    """Leave the switch alone where a worker may be stopped with locks held: who flips it would wait."""
    held = any(fault.moment == "within" and fault.kind != "kill" for fault in schedule.faults)
    return replace(schedule, outside="") if held and schedule.outside == "stop" else schedule


def at_random(calls: Mapping[int, int], chance: random.Random) -> Schedule:
    """Draw one to three faults anywhere."""
    drawn = []
    for _ in range(chance.choice((1, 2, 2, 3))):
        worker = chance.choice(WORKERS)
        moment: Moment = chance.choice(("before", "before", "after", "after", "within"))
        kind: Kind = chance.choice(("kill", "stop") if moment == "within" else ("kill", "stop", "sleep"))
        call = chance.randint(1, TRANSACTIONS if moment == "within" else calls[worker])
        drawn.append(Fault(worker, call, moment, kind))
    return _quiet(Schedule(tuple(drawn), chance.choice(_OUTSIDE)))


def chosen(calls: Mapping[int, int], number: int) -> Sequence[Schedule]:
    """Choose so many: all points and all pairs, then random ones; or an even share of points and pairs."""
    chance = random.Random(_SEED)  # noqa: S311 (the same schedules in every run, no secret)
    every, twice = list(singles(calls)), list(pairs(calls))
    if number < len(every) + len(twice):
        some = min(len(every), number // 2)
        return [*chance.sample(every, some), *chance.sample(twice, min(len(twice), number - some))]
    rest = number - len(every) - len(twice)
    return [*every, *twice, *(at_random(calls, chance) for _ in range(rest))]
