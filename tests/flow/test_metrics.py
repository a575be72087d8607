"""Two faults go their way through the local host; afterwards every instrument tells of it at /metrics."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from quietpager.incident import records
from quietpager.incident.policy import Budget, Places, Policy
from quietpager.model.incident import Autonomy, Incident, State
from quietpager.model.store import Put
from quietpager.model.time import system_clock
from quietpager.runtime.context import functions_folder
from quietpager.runtime.metrics import CROWDED, INSTRUMENTS, PURGED, REFUSALS, REFUSED
from quietpager.runtime.pulse import PARTS
from quietpager.sandbox.load import load_case
from quietpager.sandbox.server import running
from tests.flow.host_bench import Bench

OOM = functions_folder() / "detect/crash/cases/30-oom-bounded"
POLICY = Policy(
    autonomy=Autonomy.AUTO, namespaces=Places(allow=("*",)),
    tick=0.3, sweep=0.5, recheck=0.3, window=1.5, rollout=3.0, dwell_seconds=0.3,
    dwell_unknown=0.3, dwell_restarts=2, cool_down=60.0, act=2.0, claim=10.0, planning=3.0,
    budget=Budget(target=1, namespace=3, cluster=10),
)  # fmt: skip
PATIENCE = 60
ORIGINS = ("event", "sweep")

Shown = dict[tuple[str, frozenset[tuple[str, str]]], float]

pytestmark = pytest.mark.timeout(150)


async def shown(bench: Bench) -> Shown:
    status, body = await bench.ask("/metrics")
    assert status == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def play(bench: Bench, ended: Callable[[Incident], bool], case: Callable[[Shown], Awaitable[None]]) -> None:
    """Break something, wait until its incident ends so, and look at the metrics."""

    async def within() -> None:
        await bench.start()
        try:
            bench.host.store.transact([Put(records.SWITCH, {"stopped": False, "by": "test"}, 0)])
            loaded = await asyncio.to_thread(load_case, bench.api, OOM, system_clock(), enabled=True)
            for event in loaded.events():
                await asyncio.to_thread(bench.cluster.create, "Event", event)
            end, found = time.monotonic() + PATIENCE, list[Incident]()
            while not any(ended(one) for one in found):
                assert time.monotonic() < end, [(str(one.owner), one.state, one.reason) for one in found]
                await asyncio.sleep(0.2)
                records_found = await asyncio.to_thread(bench.host.store.scan, "INCIDENT")
                found = [Incident.from_json(record.body) for record in records_found]
            await case(await shown(bench))
        finally:
            await bench.end()

    asyncio.run(within())


def labels(**pairs: str) -> frozenset[tuple[str, str]]:
    return frozenset(pairs.items())


def test_a_fault_that_heals_shows_in_every_instrument_but_the_refusals(
    new_database: Callable[[], str],
) -> None:
    async def case(seen: Shown) -> None:
        assert seen["quietpager_actions_total", labels(action="raise-memory", result="applied")] == 1
        assert seen["quietpager_verifications_total", labels(action="raise-memory", result="helped")] == 1
        assert seen["quietpager_findings_total", labels(outcome="failing", **{"class": "oom_killed"})] >= 1
        assert seen["quietpager_findings_total", labels(outcome="healthy", **{"class": "none"})] >= 3
        # Whichever found it first: the Event, or the sweep.
        found = [seen.get(("quietpager_events_total", labels(family="crash", origin=o)), 0) for o in ORIGINS]
        assert sum(found) >= 1
        assert seen["quietpager_events_total", labels(family="none", origin="event")] >= 1
        assert seen["quietpager_queue_age_seconds", labels()] >= 0
        for part in PARTS:
            assert seen["quietpager_heartbeat_age_seconds", labels(part=part)] >= 0
        names = {name for name, _ in seen}
        # Of a guard's no, a bad message, too many looks and a purge this story has none.
        none = {one.prometheus for one in (REFUSALS, REFUSED, CROWDED, PURGED)}
        assert names == {one.prometheus for one in INSTRUMENTS} - none

    with running(speed=25) as api:
        play(Bench(new_database(), api, POLICY), lambda one: one.state is State.CLOSED, case)


def test_a_guards_no_shows_under_its_name(new_database: Callable[[], str]) -> None:
    async def case(seen: Shown) -> None:
        assert seen["quietpager_refusals_total", labels(guard="budget")] >= 1
        assert not [key for key in seen if key[0] == "quietpager_actions_total"]

    nothing = POLICY.but(budget=Budget(target=0, namespace=0, cluster=0))
    with running(speed=25) as api:
        play(Bench(new_database(), api, nothing), lambda one: one.state is State.BLOCKED, case)
