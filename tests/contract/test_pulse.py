"""Heartbeats: who is called stale, who is not blamed for another's silence, and what a beat proves."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import click
import pytest
from click.testing import CliRunner

from quietpager.cli.main import main
from quietpager.cli.status import address_of, server
from quietpager.errors import BadMessage, Retry
from quietpager.incident import records
from quietpager.incident.policy import Policy
from quietpager.model.cluster import Cluster, ClusterUnavailable
from quietpager.model.message import EVENT_ADD, HEARTBEAT, PING, Message
from quietpager.model.store import Put, Record, Store, StoreUnavailable
from quietpager.model.time import to_text
from quietpager.runtime import loading
from quietpager.runtime.context import Context, Lazy, make_context
from quietpager.runtime.pulse import PARTS, Pulse, judge, limits_of, table
from quietpager.store.memory import MemoryStore

POLICY = Policy(tick=5, sweep=30, silence=90)
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
FRESH: dict[str, datetime | None] = dict.fromkeys(PARTS, NOW)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def verdicts(beats: dict[str, datetime | None], away: str | None = None) -> dict[str, str]:
    return {one.part: one.verdict for one in judge(beats, away, NOW, POLICY).parts}


ALL_OK = dict.fromkeys(PARTS, "ok")
NO_STORE = dict.fromkeys(PARTS, "unknown") | {"store": "stale"}


@pytest.mark.parametrize("part", ["broker", "clock", "sweep", "source"])
def test_a_part_is_stale_past_its_limit_and_no_other_is(part: str) -> None:
    limit = limits_of(POLICY)[part]
    assert verdicts(FRESH | {part: ago(limit)}) == ALL_OK
    assert verdicts(FRESH | {part: ago(limit + 1)}) == ALL_OK | {part: "stale"}
    assert verdicts(FRESH | {part: None}) == ALL_OK | {part: "never"}


def test_what_comes_through_a_silent_broker_is_not_blamed() -> None:
    long_ago: dict[str, datetime | None] = dict.fromkeys(PARTS)
    long_ago |= dict.fromkeys(PARTS, ago(3600)) | {"store": NOW}
    assert verdicts(long_ago) == dict.fromkeys(PARTS, "unknown") | {"store": "ok", "broker": "stale"}
    # A clock that beats all the same is well: it is the way of replies that is broken.
    assert verdicts(long_ago | {"clock": NOW})["clock"] == "ok"
    assert verdicts(FRESH | {"sweep": None, "source": ago(3600)})["source"] == "unknown"


def test_nothing_is_known_while_the_store_is_away() -> None:
    reading = judge(FRESH, "PostgreSQL does not do it: refused", NOW, POLICY)
    assert {one.part: one.verdict for one in reading.parts} == dict.fromkeys(PARTS, "unknown") | {
        "store": "stale"
    }
    assert not reading.ok
    assert "refused" in reading.parts[0].say
    assert "QUIETPAGER_STORE" in reading.parts[0].say


def test_a_broker_that_stops_is_found_before_those_it_carries() -> None:
    """At every moment after the broker stopped, whoever is called stale is the broker."""
    stopped: dict[str, datetime | None] = {
        "broker": NOW,
        "clock": ago(POLICY.tick),
        "sweep": ago(POLICY.sweep),
        "source": ago(POLICY.silent_after / 3 + POLICY.sweep),
        "store": NOW,
    }
    reading = judge(stopped, None, NOW, POLICY)
    for second in range(400):
        now = NOW + timedelta(seconds=second)
        reading = judge(stopped | {"store": now}, None, now, POLICY)
        assert {one.part for one in reading.parts if one.verdict == "stale"} <= {"broker"}
    assert {one.verdict for one in reading.parts} == {"ok", "stale", "unknown"}


def test_a_limit_is_never_less_than_three_turns() -> None:
    assert Policy(silence=1, tick=5, sweep=30).silent_after == 90


def test_a_sentence_says_what_to_do_next() -> None:
    reading = judge(FRESH | {"clock": ago(500), "source": None}, None, NOW, POLICY)
    said = table(reading)
    assert "The clock gave no sign of life for 500 s; 95 s are allowed." in said
    assert "functions/govern/clock/runbook.md" in said
    assert "The source has never given a sign of life." in said


class Away(MemoryStore):
    def get_many(self, keys: Any) -> dict[str, Record]:  # noqa: ARG002 (as the port)
        raise StoreUnavailable("away for a while")


def test_the_pulse_reads_what_is_there_and_survives_what_is_not_a_beat() -> None:
    store = MemoryStore()
    store.transact(
        [
            Put(records.heartbeat("clock"), {"at": to_text(NOW)}, 0),
            Put(records.heartbeat("sweep"), {"at": "yesterday"}, 0),
            Put(records.heartbeat("broker"), {"at": "2026-11-25T12:00:00"}, 0),
            Put(records.heartbeat("source"), {}, 0),
        ]
    )
    stores: list[Store] = [store]
    pulse = Pulse(lambda: stores[-1], POLICY, lambda: NOW)
    got = {one.part: one.verdict for one in pulse.read().parts}
    assert got == {"store": "ok", "clock": "ok", "sweep": "unknown", "broker": "never", "source": "unknown"}
    stores.append(Away())
    reading = pulse.read()
    assert {one.part: one.verdict for one in reading.parts} == dict.fromkeys(PARTS, "unknown") | {
        "store": "stale"
    }
    assert {one.part: one.last for one in reading.parts}["clock"] == NOW  # what was known is still told


# What writes the beats


@dataclass
class Events:
    """A cluster that has Events, and nothing else."""

    created: list[datetime] = field(default_factory=list)
    away: bool = False
    lists: int = 0

    def each(self, kind: str, *_: Any) -> Iterable[dict[str, Any]]:
        if kind == "Event":
            self.lists += 1
            if self.away:
                raise ClusterUnavailable("away")
            return [{"metadata": {"creationTimestamp": to_text(at)}} for at in self.created] + [{}]
        return []


@dataclass
class World:
    """Handlers on a store in memory, with a clock that is turned by hand."""

    store: MemoryStore = field(default_factory=MemoryStore)
    cluster: Events = field(default_factory=Events)
    now: datetime = NOW
    contexts: dict[str, Context] = field(default_factory=dict)

    def ctx(self, name: str) -> Context:
        if name not in self.contexts:
            lazy = Lazy(lambda: self.store, lambda: cast("Cluster", self.cluster))
            self.contexts[name] = make_context(name, lazy, policy=POLICY, clock=lambda: self.now)
        return self.contexts[name]

    def call(self, name: str, message: Message) -> list[Message]:
        handle = loading.handler(name)
        answers: list[Message] = handle(message, self.ctx(name))
        return answers

    def turn(self, job: str, name: str) -> Message:
        return self.call(name, Message(id=job, type=PING, attributes={"job": job}))[-1]

    def event(self, created: datetime) -> None:
        meta = {"name": "e", "namespace": "shop", "uid": "1", "creationTimestamp": to_text(created)}
        involved = {"kind": "Pod", "name": "web", "namespace": "shop"}
        data = {"kind": "Event", "apiVersion": "v1", "metadata": meta, "involvedObject": involved}
        self.call("ingest/intake", Message(id="e", type=EVENT_ADD, attributes={"kind": "Event"}, data=data))

    def at(self, part: str, name: str = "at") -> datetime | None:
        record = self.store.get(records.heartbeat(part))
        return None if record is None else datetime.fromisoformat(record.body[name])

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.mark.parametrize(("job", "name"), [("clock", "govern/clock"), ("sweep", "ingest/sweep")])
def test_a_turn_is_a_beat_and_says_one_more_through_the_broker(job: str, name: str) -> None:
    world = World()
    said = world.turn(job, name)
    assert (said.type, world.at(job), world.at("broker")) == (HEARTBEAT, NOW, None)
    world.later(3)
    assert world.call("ingest/intake", said) == []
    assert world.at("broker") == NOW  # when it was said, not when it came


def test_an_old_or_forged_heartbeat_makes_no_broker_younger() -> None:
    world = World()
    new = world.turn("clock", "govern/clock")
    old = new.but(data={"at": to_text(ago(500))})
    forged = new.but(data={"at": to_text(ago(-5000))})
    for message in (new, old, forged):
        world.call("ingest/intake", message)
    assert world.at("broker") == NOW
    for data in ({}, {"at": "soon"}, {"at": "2026-11-25T12:00:00"}, {"at": None}):
        with pytest.raises(BadMessage, match="heartbeat"):
            world.call("ingest/intake", new.but(data=data))


def test_an_event_that_comes_is_a_beat_but_not_each_one_a_write() -> None:
    world = World()
    world.event(ago(2))
    assert (world.at("source"), world.at("source", "seen")) == (NOW, ago(2))
    world.later(POLICY.sweep / 2)
    world.event(NOW)
    assert world.at("source") == NOW
    world.later(POLICY.sweep)
    world.event(ago(100))  # one that was long under way makes nothing older
    assert (world.at("source"), world.at("source", "seen")) == (world.now, ago(2))
    world.later(POLICY.sweep)
    world.event(world.now + timedelta(days=1))
    assert world.at("source", "seen") == world.now


def quiet(world: World, seconds: float) -> None:
    for _ in range(int(seconds / POLICY.sweep)):
        world.later(POLICY.sweep)
        world.turn("sweep", "ingest/sweep")


def test_a_quiet_cluster_is_no_silent_source() -> None:
    world = World()
    world.event(NOW)
    world.cluster.created = [NOW, NOW + timedelta(seconds=POLICY.sweep - 1)]  # within what intake may skip
    quiet(world, 3600)
    assert verdict_of(world) == "ok"


def verdict_of(world: World, part: str = "source") -> str:
    beats = {one: world.at(one) for one in PARTS if one != "store"}
    reading = judge(beats | {"broker": world.now, "clock": world.now}, None, world.now, POLICY)
    return {one.part: one.verdict for one in reading.parts}[part]


def test_an_event_on_the_server_that_did_not_come_is_a_silent_source() -> None:
    world = World()
    world.event(NOW)
    quiet(world, 300)
    world.cluster.created = [world.now]
    quiet(world, 60)
    assert verdict_of(world) == "ok"  # it may still be under way, and its limit has not passed
    quiet(world, 300)
    assert verdict_of(world) == "stale"
    world.event(world.now)
    assert verdict_of(world) == "ok"


def test_a_source_that_never_brought_anything_is_found_with_the_first_event_it_misses() -> None:
    world = World()
    world.cluster.created = [ago(1000)]  # what was there before it began, no source delivers
    quiet(world, 600)
    assert verdict_of(world) == "ok"
    world.cluster.created.append(world.now)
    quiet(world, 600)
    assert verdict_of(world) == "stale"


def test_events_are_listed_only_where_none_came_for_a_while() -> None:
    world = World()
    for _ in range(10):
        world.later(POLICY.sweep)
        world.event(world.now)
        world.turn("sweep", "ingest/sweep")
    assert world.cluster.lists == 0


def test_events_that_cannot_be_listed_are_no_proof_and_no_fault_of_the_sweep() -> None:
    world = World()
    world.event(NOW)
    world.cluster.away = True
    quiet(world, 600)
    assert world.at("sweep") == world.now
    assert verdict_of(world) == "stale"


def test_an_event_goes_its_way_while_the_store_is_away() -> None:
    class Gone(MemoryStore):
        def get(self, key: str) -> Record | None:  # noqa: ARG002 (as the port)
            raise StoreUnavailable("away")

    world = World(store=Gone())
    world.event(NOW)  # raises nothing


# The command and its probe


def test_status_without_a_store_says_what_is_missing() -> None:
    done = CliRunner().invoke(main, ["status"], env={"QUIETPAGER_STORE": ""})
    assert done.exit_code == 1
    assert "store    stale" in done.output
    assert "set QUIETPAGER_STORE to a PostgreSQL URL" in done.output


def test_status_of_a_store_that_is_away_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://nobody@127.0.0.1:{taken.getsockname()[1]}/none"
        done = CliRunner().invoke(main, ["status", "--json"], env={"QUIETPAGER_STORE": url})
    answer = json.loads(done.output)
    assert (done.exit_code, answer["ok"]) == (1, False)
    assert answer["parts"][0]["verdict"] == "stale"
    assert "does not answer" in answer["parts"][0]["say"]
    assert "Traceback" not in done.output


def test_status_of_a_policy_that_cannot_be_read_is_a_sentence(tmp_path: Any) -> None:
    wrong = tmp_path / "policy.yaml"
    wrong.write_text("silence: soon\n")
    env = {"QUIETPAGER_POLICY": str(wrong), "QUIETPAGER_STORE": ""}
    done = CliRunner().invoke(main, ["status"], env=env)
    assert done.exit_code == 1
    assert "policy cannot be read" in done.output


@contextmanager
def probing(pulse: Pulse) -> Iterator[str]:
    with server(pulse, "127.0.0.1", 0) as probe:
        thread = threading.Thread(target=probe.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{probe.server_port}"
        probe.shutdown()
        thread.join()


def ask(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as no:
        with no:
            return no.code, no.read()


def test_the_probe_answers_200_or_503_with_the_same_json() -> None:
    store, moments = MemoryStore(), [NOW]
    for part in ("clock", "sweep", "broker", "source"):
        store.transact([Put(records.heartbeat(part), {"at": to_text(NOW)}, 0)])
    stores: list[Store | None] = [store]

    def opened() -> Store:
        if stores[-1] is None:
            raise Retry("No store.")
        return stores[-1]

    with probing(Pulse(opened, POLICY, lambda: moments[-1])) as url:
        status, body = ask(f"{url}/health/heartbeat")
        assert (status, json.loads(body)["ok"]) == (200, True)
        moments.append(NOW + timedelta(seconds=3600))
        status, body = ask(f"{url}/health/heartbeat")
        assert (status, json.loads(body)["parts"][1]["verdict"]) == (503, "stale")
        stores.append(None)
        status, body = ask(f"{url}/health/heartbeat")
        assert (status, json.loads(body)["parts"][0]["verdict"]) == (503, "stale")
        assert ask(f"{url}/health/liveness")[0] == 200
        assert ask(f"{url}/nothing")[0] == 404


@pytest.mark.parametrize("wrong", ["", "8090", "host:", ":80", "host:port", "host:70000", "a:-1"])
def test_what_is_no_address_is_refused(wrong: str) -> None:
    with pytest.raises(click.BadParameter, match="HOST:PORT"):
        address_of(wrong)


def test_an_address_that_is_taken_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = CliRunner().invoke(main, ["status", "--serve", address])
    assert done.exit_code == 1
    assert "cannot be served on" in done.output
