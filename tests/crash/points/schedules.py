"""Which faults are tried: every point, every pair of points, then random ones."""

import random
from collections.abc import Iterator, Sequence
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
OUTSIDE: Final[tuple[Outside, ...]] = ("", "edit", "heal", "stop")
_SEED: Final = 20261125

CALLS: Final = {0: 8, 1: 8, 2: 10, 3: 10}
"""Calls of each worker at which faults are tried. Undisturbed, a decider makes 4 for the plan and 3 for the
outcome, a remediator 9; what comes later is the same once more, for a message that came again."""

TRANSACTIONS: Final = 3
"""The same for `within`: a decider makes 2 transactions, a remediator 2."""


@dataclass(frozen=True)
class Fault:
    """One signal. `call` counts the worker's calls of store and cluster, or for `within` its transactions,
    since it began or since its last fault."""

    worker: int
    call: int
    moment: Moment
    kind: Kind
    only: str = ""
    """Count calls of this name only."""

    def __str__(self) -> str:
        """Write it for a reader."""
        return f"{self.kind} worker {self.worker} {self.moment} its {self.only or 'call'} {self.call}"


@dataclass(frozen=True)
class Schedule:
    """Faults, in the order in which each worker meets its own, and what others do meanwhile."""

    faults: tuple[Fault, ...]
    outside: Outside = ""

    def __str__(self) -> str:
        """Write it for a reader."""
        said = "; ".join(map(str, self.faults)) or "no fault"
        return f"{said}{f'; meanwhile: {self.outside}' if self.outside else ''}"


def points(worker: int) -> list[Fault]:
    """Give every single fault of one worker.

    Whether a process dies after one call or before the next is the same to everybody else, so every gap
    between two calls has all three kinds: `sleep` at its end, `stop` at its beginning, `kill` at both.
    """
    found: list[Fault] = []
    for call in range(1, CALLS[worker] + 1):
        found += [Fault(worker, call, "before", "kill"), Fault(worker, call, "before", "sleep")]
        found += [Fault(worker, call, "after", "kill"), Fault(worker, call, "after", "stop")]
    for call in range(1, TRANSACTIONS + 1):
        found += [Fault(worker, call, "within", "kill"), Fault(worker, call, "within", "stop")]
    return found


def singles() -> Iterator[Schedule]:
    """Give every point, with everything that others may do. Of twins, one is enough: both get all."""
    for worker, outside in product((DECIDERS[0], REMEDIATORS[0]), OUTSIDE):
        for fault in points(worker):
            yield _quiet(Schedule((fault,), outside))


def pairs() -> Iterator[Schedule]:
    """Give all pairs of points, up to swapping twins: on one worker, on twins, and one of each role."""
    for worker in (DECIDERS[0], REMEDIATORS[0]):
        here = points(worker)
        for one, two in product(here, here):
            yield Schedule((one, two))
        for one, two in combinations_with_replacement(here, 2):
            yield Schedule((one, replace(two, worker=_TWIN[worker])))
    for one, two in product(points(DECIDERS[0]), points(REMEDIATORS[0])):
        yield Schedule((one, two))


def stalls(outside: Outside) -> Sequence[Schedule]:
    """Give the points at which a stalled remediator is most dangerous: before its claim, before its write."""
    some = product([(2,), (3,), REMEDIATORS], ("json_patch", "transact"))
    once = [
        Schedule(tuple(Fault(worker, 1, "before", "sleep", only) for worker in who), outside)
        for who, only in some
    ]
    return once * 12


def _quiet(schedule: Schedule) -> Schedule:
    """Leave the switch alone where a worker may be stopped with locks held: who flips it would wait."""
    held = any(fault.moment == "within" and fault.kind != "kill" for fault in schedule.faults)
    return replace(schedule, outside="") if held and schedule.outside == "stop" else schedule


def at_random(chance: random.Random) -> Schedule:
    """Draw one to three faults anywhere, repeated deliveries included."""
    drawn = []
    for _ in range(chance.choice((1, 2, 2, 3))):
        worker = chance.choice(WORKERS)
        moment: Moment = chance.choice(("before", "before", "after", "after", "within"))
        kind: Kind = chance.choice(("kill", "stop") if moment == "within" else ("kill", "stop", "sleep"))
        call = chance.randint(1, TRANSACTIONS if moment == "within" else CALLS[worker] + 4)
        drawn.append(Fault(worker, call, moment, kind))
    return _quiet(Schedule(tuple(drawn), chance.choice(OUTSIDE)))


def chosen(number: int) -> Sequence[Schedule]:
    """Choose so many: all points and all pairs, then random ones; or an even share of points and pairs."""
    chance = random.Random(_SEED)  # noqa: S311 (the same schedules in every run, no secret)
    every, twice = list(singles()), list(pairs())
    if number < len(every) + len(twice):
        some = min(len(every), number // 2)
        return [*chance.sample(every, some), *chance.sample(twice, number - some)]
    rest = number - len(every) - len(twice)
    return [*every, *twice, *(at_random(chance) for _ in range(rest))]
