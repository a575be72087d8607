"""What a claim costs against a transaction made by hand, and whether a budget ever gives too many.

Who calls it: `make bench`. Both on an embedded PostgreSQL that keeps its promises (fsync on).

    ours     `carry_out` up to the claim: intent · switch and slots · [switch, 3 slots, intent, chain, due]
    by hand  the same rows, one prepared statement each, no conditions looked at, as pgbench would send them
"""

import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any, Final

import psycopg

from quietpager.change.send import carry_out
from quietpager.errors import Retry
from quietpager.incident import records
from quietpager.incident.policy import Budget, Places, Policy
from quietpager.model.cluster import ClusterUnavailable
from quietpager.model.incident import Autonomy, Intent, IntentState
from quietpager.model.store import ABSENT, Put
from quietpager.store import embedded
from quietpager.store.postgres import PostgresStore
from tests.acts import NOW, RAISE_MEMORY, add, context, intents, owner, rehearsal, tell

CLAIMS, BLOCK = 4000, 200
"""Claims of each kind, and how many of one kind follow each other before the other has its turn."""
PROCESSES, BUDGET, WINDOWS = 8, 5, 1000
RACE: Final = Policy(
    autonomy=Autonomy.AUTO,
    namespaces=Places(allow=("*",)),
    budget=Budget(window=60.0, target=1, namespace=10 * BUDGET, cluster=BUDGET),
)
PATIENCE: Final = 120.0
"""Seconds that one process waits for the others."""

_SCOPES = ("target", "namespace", "cluster")


class Away:
    """A cluster that never answers: a claim is as far as an effect goes."""

    def get(self, *_: Any) -> Any:
        raise ClusterUnavailable("away")


def measured(folder: Path) -> list[tuple[str, str]]:
    """Measure both; gives rows for the table."""
    with embedded.start(folder / "protocol") as server:
        return [*claims(server.url), *races(server.url)]


# -- a claim, and the same rows by hand ---------------------------------------------------------------------


def claims(url: str) -> list[tuple[str, str]]:
    """Claim intents, in turns with the transaction made by hand, one client at a time."""
    store = PostgresStore(url)
    store.transact([Put(records.SWITCH, {"stopped": False}, ABSENT)])
    _prepare(store, "ours")
    _prepare(store, "hand")
    policy = Policy()

    def ours(number: int) -> None:
        with suppress(ClusterUnavailable):
            carry_out(
                f"int-ours-{number}", cage=RAISE_MEMORY.cage, store=store, cluster=Away(), policy=policy,  # type: ignore[arg-type]
                clock=lambda: NOW, still_failing=lambda _: True, actor="bench",
            )  # fmt: skip

    took: dict[str, list[float]] = {"ours": [], "hand": []}
    with psycopg.connect(url, autocommit=True, prepare_threshold=1) as at:
        by_hand = _by_hand(at)
        for start in range(0, CLAIMS, BLOCK):
            for name, do in (("hand", by_hand), ("ours", ours)):
                took[name] += _timed(do, range(start, start + BLOCK))
    claimed = sum(one.state is IntentState.CLAIMED for one in intents(store))
    store.close()
    if claimed != 2 * CLAIMS:
        raise AssertionError(f"{claimed} of {2 * CLAIMS} intents were claimed")
    ratio = statistics.fmean(took["hand"]) / statistics.fmean(took["ours"])
    ms = {name: 1000 * statistics.fmean(some) for name, some in took.items()}
    p99 = {name: 1000 * statistics.quantiles(some, n=100)[98] for name, some in took.items()}
    return [
        ("claim + audit + kill switch + 3 slots, of a transaction made by hand", f"{ratio:.0%} (>= 50 %)"),
        ("the same, mean: ours / by hand", f"{ms['ours']:.2f} / {ms['hand']:.2f} ms"),
        ("the same, p99: ours / by hand", f"{p99['ours']:.1f} (<= 10) / {p99['hand']:.1f} ms"),
    ]


def _timed(do: Callable[[int], None], numbers: Sequence[int]) -> list[float]:
    took = []
    for number in numbers:
        begun = time.perf_counter()
        do(number)
        took.append(time.perf_counter() - begun)
    return took


def _slots(name: str, number: int) -> tuple[str, ...]:
    return tuple(records.slot(f"{scope}/{name}-{number}", 0) for scope in _SCOPES)


def _prepare(store: PostgresStore, name: str) -> None:
    for number in range(CLAIMS):
        of = f"inc-{name}-{number}"
        slots = _slots(name, number)
        intent = Intent(
            id=f"int-{name}-{number}", incident=of, rehearsal="r", action="raise-memory",
            target=owner(number), generation=1, edits=rehearsal().edits, created_at=NOW, slots=slots,
            expires_at=NOW + timedelta(seconds=60),
        )  # fmt: skip
        taken = [Put(slot, {"at": NOW.isoformat(), "holder": of}, ABSENT) for slot in slots]
        store.transact([Put(records.intent(intent.id), intent.to_json(), ABSENT), *taken])


def _by_hand(at: "psycopg.Connection[Any]") -> Callable[[int], None]:
    """Write the rows that a claim writes: switch read, slots, intent, chain and its head, due item."""
    state = "UPDATE quietpager.state SET version = version + 1, body = %s::jsonb WHERE key = %s"
    empty = "0" * 64

    def one(number: int) -> None:
        name = f"hand-{number}"
        of, intent = f"inc-{name}", f"int-{name}"
        stamp = json.dumps({"at": NOW.isoformat(), "holder": of})
        with at.transaction():
            at.execute("SELECT body FROM quietpager.state WHERE key = %s FOR SHARE", [records.SWITCH])
            for slot in _slots("hand", number):
                at.execute(state, [stamp, slot])
            found = at.execute(
                "SELECT body::text FROM quietpager.state WHERE key = %s", [records.intent(intent)]
            ).fetchone()
            body = json.loads(found[0]) | {"state": "CLAIMED"} if found else {}
            at.execute(state, [json.dumps(body), records.intent(intent)])
            at.execute(
                "INSERT INTO quietpager.audit (chain, seq, at, kind, actor, body, previous, hash)"
                " VALUES (%s, 1, %s, 'claimed', 'bench', %s::jsonb, %s, %s)",
                [of, NOW, json.dumps({"intent": intent}), empty, empty],
            )
            at.execute(
                "INSERT INTO quietpager.state (key, version, body) VALUES (%s, 1, %s::jsonb)",
                [f"CHAIN#{of}", json.dumps({"seq": 1, "hash": empty})],
            )
            at.execute(
                "INSERT INTO quietpager.due (id, at, every, message) VALUES (%s, %s, %s, %s::jsonb)"
                " ON CONFLICT (id) DO UPDATE SET at = EXCLUDED.at",
                [records.talk(intent), NOW, timedelta(seconds=5), json.dumps({"intent": intent})],
            )

    return one


# -- a race for a budget ------------------------------------------------------------------------------------


def races(url: str) -> list[tuple[str, str]]:
    """Let processes race, in window after window, for fewer places than there are processes."""
    store = PostgresStore(url)
    before = {one.incident for one in intents(store)}
    for number in range(PROCESSES):
        for window in range(WINDOWS):
            name = number + PROCESSES * window
            add(store, range(name, name + 1))
    spawn = get_context("spawn")
    barrier = spawn.Barrier(PROCESSES)
    begun = time.monotonic()
    racers = [spawn.Process(target=_race, args=(url, barrier, n), daemon=True) for n in range(PROCESSES)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    took = time.monotonic() - begun
    if any(racer.exitcode for racer in racers):
        raise AssertionError("a process that raced did not end well")
    acts = Counter(one.created_at for one in intents(store) if one.incident not in before)
    store.close()
    right = sum(acts[_opens(window)] == BUDGET for window in range(WINDOWS))
    spread = f"{min(acts.values(), default=0)} to {max(acts.values(), default=0)}"
    what = f"{PROCESSES} processes race for B = {BUDGET}: windows with exactly {BUDGET} acts"
    return [(what, f"{right} of {WINDOWS} ({spread} acts, {took:.0f} s)")]


def _opens(window: int) -> datetime:
    """When a window opens: the first moment at which the slots of the one before are free."""
    length = RACE.budget.window + RACE.act + 2 * RACE.skew
    return NOW + window * timedelta(seconds=length, microseconds=1)


def _race(url: str, barrier: Any, number: int) -> None:
    store, now = PostgresStore(url, connections=1), NOW
    ctx = context(store, RACE, lambda: now)
    for window in range(WINDOWS):
        now = _opens(window)
        try:
            barrier.wait(PATIENCE)
        except BrokenBarrierError:
            raise SystemExit(1) from None
        _insist(lambda at=window: tell(ctx, number + PROCESSES * at))  # type: ignore[misc]


def _insist(do: Callable[[], None]) -> None:
    """Do it as the broker would: a lost race is tried again."""
    while True:
        try:
            return do()
        except Retry:
            continue
