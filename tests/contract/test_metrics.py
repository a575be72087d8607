"""The instruments: their names and attributes, what is counted when, and what nothing costs when off."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from quietpager.model.message import EVENT_ADD, PING, SIGNAL, Message
from quietpager.model.store import Audit, Conflict, Due, Put, Write
from quietpager.runtime.metrics import (
    ACTIONS,
    EVENTS,
    INSTRUMENTS,
    OFF,
    QUEUE_AGE,
    Exposition,
    Metered,
    count_messages,
    metered,
    resource_of,
    show_queue,
)
from quietpager.store.memory import MemoryStore

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def lines(shown: Exposition) -> set[str]:
    return {line for line in shown.text().decode().splitlines() if not line.startswith("#")}


def test_names_follow_the_semantic_conventions() -> None:
    assert len({one.name for one in INSTRUMENTS}) == len(INSTRUMENTS)
    for one in INSTRUMENTS:
        assert re.fullmatch(r"quietpager(\.[a-z]+)+", one.name)
        assert one.unit == "s" if one.kind == "gauge" else re.fullmatch(r"\{[a-z]+\}", one.unit)
        assert not one.name.endswith(("_total", "seconds"))  # the exporter adds what Prometheus wants
        assert one.says.endswith(".")


def test_what_an_instrument_does_not_have_is_refused_even_when_off() -> None:
    with pytest.raises(ValueError, match="family, origin"):
        OFF.add(EVENTS, family="crash")
    with pytest.raises(ValueError, match="has the attributes"):
        OFF.set(QUEUE_AGE, 1.0, part="x")


INTENT: dict[str, Any] = {"action": "raise-memory", "state": "APPLIED"}
TRIED = {"tried": [{"action": "rollout-undo"}, {"action": "raise-memory"}]}
COMMITTED: list[tuple[Write, str | None]] = [
    (
        Put("FINDING#1", {"outcome": "healthy", "diagnosis": None}, 0),
        'findings_total{class="none",outcome="healthy"}',
    ),
    (
        Put("FINDING#2", {"outcome": "failing", "diagnosis": {"failure_class": "oom_killed"}}, 0),
        'findings_total{class="oom_killed",outcome="failing"}',
    ),
    (Put("INTENT#1", INTENT, 0), 'actions_total{action="raise-memory",result="applied"}'),
    (
        Put("INTENT#2", INTENT | {"state": "UNKNOWN"}, 0),
        'actions_total{action="raise-memory",result="unknown"}',
    ),
    (Put("INTENT#3", INTENT | {"state": "INTENT"}, 0), None),
    (Put("INTENT#4", INTENT | {"state": "CLAIMED"}, 0), None),
    (Put("INCIDENT#1", {"state": "CLOSED"}, 0), None),
    (Audit("i", NOW, "refused", "r", {"rehearsal": "x"}), 'refusals_total{guard="plan"}'),
    (Audit("refused", NOW, "refused", "intake", {"sentence": "no"}), None),
    (
        Audit("i", NOW, "VERIFYING -> CLOSED", "d", TRIED),
        'verifications_total{action="raise-memory",result="helped"}',
    ),
    (
        Audit("i", NOW, "VERIFYING -> WITH_PERSON(handover)", "d", TRIED),
        'verifications_total{action="raise-memory",result="with_person"}',
    ),
    (
        Audit("i", NOW, "VERIFYING -> UNDOING", "d", {}),
        'verifications_total{action="none",result="undoing"}',
    ),
    (Audit("i", NOW, "VERIFYING -> VERIFYING", "d", TRIED), None),
    (Audit("i", NOW, "ACTING -> VERIFYING", "d", TRIED), None),
]


@pytest.mark.parametrize(("write", "line"), COMMITTED)
def test_a_committed_fact_is_counted_once(write: Write, line: str | None) -> None:
    shown = Exposition()
    Metered(MemoryStore(), shown.metrics).transact([write])
    assert lines(shown) == (set() if line is None else {f"quietpager_{line} 1.0"})
    shown.close()


def test_what_is_not_committed_is_not_counted() -> None:
    shown, store = Exposition(), MemoryStore()
    counting = metered(store, shown.metrics)
    with pytest.raises(Conflict):
        counting.transact([Put("INTENT#1", INTENT, 7)])
    assert lines(shown) == set()


def test_off_is_the_store_itself() -> None:
    store = MemoryStore()
    assert metered(store, OFF) is store


def test_events_are_counted_where_they_come_in_only() -> None:
    shown = Exposition()
    event = Message(id="e", type=EVENT_ADD)
    signal = Message(id="s", type=SIGNAL, attributes={"family": "crash", "origin": "event"})
    count_messages(shown.metrics, "ingest-intake", event, [signal])
    count_messages(shown.metrics, "ingest-intake", event, [])
    count_messages(shown.metrics, "ingest-sweep", Message(id="p", type=PING), [])
    swept = signal.but(attributes={"family": "image", "origin": "sweep"})
    count_messages(shown.metrics, "ingest-sweep", Message(id="p", type=PING), [swept, swept])
    count_messages(shown.metrics, "detect-crash", signal, [signal])
    count_messages(shown.metrics, "govern-clock", Message(id="p", type=PING), [signal])
    assert lines(shown) == {
        'quietpager_events_total{family="crash",origin="event"} 1.0',
        'quietpager_events_total{family="none",origin="event"} 1.0',
        'quietpager_events_total{family="image",origin="sweep"} 2.0',
    }


def test_the_queue_is_as_old_as_its_oldest_item() -> None:
    shown = Exposition()
    due = [Due(str(n), NOW - timedelta(seconds=n), timedelta(1), {}) for n in (3, 40, 5)]
    show_queue(shown.metrics, due, NOW)
    assert lines(shown) == {"quietpager_queue_age_seconds 40.0"}
    show_queue(shown.metrics, [], NOW)
    assert lines(shown) == {"quietpager_queue_age_seconds 0.0"}


def test_each_process_counts_under_a_name_of_its_own() -> None:
    who = resource_of({})
    assert who["service.name"] == "quietpager"
    assert who["service.instance.id"].endswith(f".{os.getpid()}")
    assert resource_of({"OTEL_SERVICE_NAME": "x"}).keys() == {"service.instance.id"}
    assert resource_of({"OTEL_RESOURCE_ATTRIBUTES": "service.name=x,service.instance.id=y"}) == {}


def python(code: str, **env: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=50)
    return done.stdout + done.stderr


def test_nothing_of_opentelemetry_is_imported_before_something_is_recorded() -> None:
    code = (
        "import sys, quietpager.functions.govern.decide.handler, quietpager.runtime.connect as c\n"
        "from quietpager.runtime.metrics import ACTIONS, from_environment\n"
        "def there(): return any(m.startswith(('opentelemetry', 'prometheus')) for m in sys.modules)\n"
        "from_environment().active and print('active')\n"
        "assert not there()\n"
        "from_environment().add(ACTIONS, action='a', result='b')\n"
        "print('imported', there())\n"
    )
    assert python(code).strip() == "imported False"
    away = python(code, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert away.startswith("active\nimported True")  # a collector that is away costs a log line, and no more


def test_what_was_recorded_is_pushed_when_the_process_ends() -> None:
    got: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        Thread(target=collector.serve_forever, daemon=True).start()
        python(
            "from quietpager.runtime.metrics import ACTIONS, from_environment\n"
            "from_environment().add(ACTIONS, action='raise-memory', result='applied')\n",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}",
            OTEL_EXPORTER_OTLP_COMPRESSION="none",
        )
        collector.shutdown()
    [(path, body)] = got
    assert path == "/v1/metrics"
    assert all(text in body for text in (ACTIONS.name.encode(), b"raise-memory", b"applied", b"quietpager"))
