"""Metrics by OpenTelemetry: every instrument there is, and the places at the edge that record them.

    edge of ingest/*   ── signals it made ─────────────▶ events
    Metered store      ── what a transaction committed ─▶ findings, actions, refusals of plans, verifications
    govern/decide      ── a guard's no, committed ──────▶ refusals
    govern/clock       ── how late the oldest item is ──▶ queue age; and the age of each heartbeat

Facts are counted when their transaction has been committed, so a lost race or a repeated message counts
nothing twice. The pure core knows nothing of this.

Nothing of OpenTelemetry is imported, and nothing recorded, until an exporter is configured: by the usual
`OTEL_EXPORTER_OTLP_ENDPOINT` (OTLP over HTTP, pushed, so that functions may scale to zero), or by the local
host and `quietpager status --serve`, which answer `/metrics` as Prometheus text. Importing it takes about
0.1 s of CPU, at the first thing recorded and not at the start.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

from quietpager.model.incident import IntentState, State
from quietpager.model.message import EVENT_ADD, EVENT_UPDATE, SIGNAL, Message
from quietpager.model.store import Audit, Due, Put, Store, Write
from quietpager.runtime.pulse import Reading
from quietpager.store.delegate import Wrapped

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.sdk.metrics import MeterProvider

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Environment variables, one of which turns the push on; OpenTelemetry's own."""

_TIMEOUTS: Final = ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")

PATIENCE: Final = 2.0
"""Seconds for one push, retries included, where no timeout is configured."""

PATH: Final = "/metrics"
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The content type of Prometheus text."""

NONE: Final = "none"
"""An attribute's value where there is nothing to say."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One instrument. `unit` is UCUM, as OpenTelemetry has it; `attributes` are all that it is told with."""

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    attributes: tuple[str, ...]
    says: str

    @property
    def prometheus(self) -> str:
        """What Prometheus calls it: the exporter adds the unit and what is counted."""
        suffix = "_total" if self.kind == "counter" else "_seconds"
        return self.name.replace(".", "_") + suffix


EVENTS: Final = Instrument(
    "quietpager.events", "counter", "{event}", ("family", "origin"),
    "Signals that came in, by the detector they go to and by where they come from (event, sweep); "
    "family `none`: an Event that no route wants.",
)  # fmt: skip
FINDINGS: Final = Instrument(
    "quietpager.findings", "counter", "{finding}", ("class", "outcome"),
    "Looks at a live object that were written down: failure class (`none`: no diagnosis) and outcome "
    "(failing, healthy, gone, unreadable).",
)  # fmt: skip
ACTIONS: Final = Instrument(
    "quietpager.actions", "counter", "{action}", ("action", "result"),
    "Intents that ended: applied, refused, unknown, expired, undone.",
)  # fmt: skip
REFUSALS: Final = Instrument(
    "quietpager.refusals", "counter", "{refusal}", ("guard",),
    "Remedies that were refused, by the guard that said no; `plan`: the rehearsal itself could not be made.",
)  # fmt: skip
REFUSED: Final = Instrument(
    "quietpager.messages.refused", "counter", "{message}", ("function", "kind"),
    "Messages that a function refused for good (400, 422), by the kind of error; `undeliverable`: what ended "
    "at the dead letter.",
)  # fmt: skip
PURGED: Final = Instrument(
    "quietpager.purged", "counter", "{record}", ("kind",),
    "Records that nothing needed any more and that were taken away, by kind.",
)  # fmt: skip
CROWDED: Final = Instrument(
    "quietpager.looks.refused", "counter", "{look}", ("origin",),
    "Second looks at a target that were not written down, because that origin has too many under way; the "
    "sweep finds what still fails.",
)  # fmt: skip
VERIFICATIONS: Final = Instrument(
    "quietpager.verifications", "counter", "{verification}", ("action", "result"),
    "Verifications that ended: helped, or where the incident went instead (undoing, planning, "
    "with_person).",
)  # fmt: skip
QUEUE_AGE: Final = Instrument(
    "quietpager.queue.age", "gauge", "s", (),
    "How long the oldest due item had been due at the clock's last tick; 0 with nothing due.",
)  # fmt: skip
HEARTBEAT_AGE: Final = Instrument(
    "quietpager.heartbeat.age", "gauge", "s", ("part",),
    "Age of each part's last heartbeat; a part never heard of has none.",
)  # fmt: skip

INSTRUMENTS: Final = (
    EVENTS, FINDINGS, ACTIONS, REFUSALS, REFUSED, CROWDED, VERIFICATIONS, PURGED, QUEUE_AGE,
    HEARTBEAT_AGE,
)  # fmt: skip
"""All there are; docs/metrics.md is made from them."""

_ENDED: Final = frozenset(IntentState) - {IntentState.INTENT, IntentState.CLAIMED}


class Metrics:
    """Records instruments, once it is told how to make a meter; without, does nothing. Thread-safe."""

    def __init__(self, make: "Callable[[], Meter] | None" = None) -> None:
        """Nothing is imported or made before the first record."""
        self._make = make
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}
        self._meter: Meter | None = None

    @property
    def active(self) -> bool:
        """Whether anything is recorded at all."""
        return self._make is not None

    def add(self, instrument: Instrument, times: int = 1, /, **attributes: str) -> None:
        """Count one, or several.

        Raises:
            ValueError: not exactly the attributes that the instrument has.
        """
        self._record(instrument, times, attributes)

    def set(self, instrument: Instrument, value: float, **attributes: str) -> None:
        """Say what a gauge shows now; raises ValueError as `add` does."""
        self._record(instrument, value, attributes)

    def _record(self, instrument: Instrument, value: float, attributes: Mapping[str, str]) -> None:
        if set(attributes) != set(instrument.attributes):
            raise ValueError(f"{instrument.name} has the attributes {', '.join(instrument.attributes)}.")
        made = self._instrument(instrument)
        if made is None:
            return
        (made.add if instrument.kind == "counter" else made.set)(value, dict(attributes))

    def _instrument(self, instrument: Instrument) -> Any:
        if self._make is None:
            return None
        with self._lock:
            if self._meter is None:
                self._meter = self._make()
            if instrument.name not in self._made:
                counts, meter = instrument.kind == "counter", self._meter
                make = meter.create_counter if counts else meter.create_gauge
                self._made[instrument.name] = make(
                    instrument.name, unit=instrument.unit, description=instrument.says
                )
            return self._made[instrument.name]


OFF: Final = Metrics()
"""Records nothing."""


class Exposition:
    """Metrics that are read as Prometheus text; who makes one: the local host, `status --serve`, tests."""

    def __init__(self) -> None:
        """Make the reader with the first record."""
        self.metrics = Metrics(self._meter)
        self._provider: MeterProvider | None = None
        self._registry: Any = None

    def _meter(self) -> "Meter":
        from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415 (see above)
        from prometheus_client import CollectorRegistry  # noqa: PLC0415 (see above)

        self._registry = CollectorRegistry()
        reader = PrometheusMetricReader(
            disable_target_info=True, scope_info_enabled=False, registry=self._registry
        )
        readers: list[Any] = [reader]
        if _pushes(os.environ):
            readers.append(_pusher())
        self._provider = _provider(readers)
        return self._provider.get_meter("quietpager")

    def text(self) -> bytes:
        """Write what was recorded so far."""
        if self._registry is None:
            return b""
        from prometheus_client import generate_latest  # noqa: PLC0415 (see above)

        return bytes(generate_latest(self._registry))

    def close(self) -> None:
        """Push what is left, and stop."""
        if self._provider is not None:
            self._provider.shutdown()
            self._provider = None


@cache
def from_environment() -> Metrics:
    """Give this process's metrics: pushed by OTLP where an endpoint is configured, else off."""
    return Metrics(_pushing_meter) if _pushes(os.environ) else OFF


def _pushes(env: Mapping[str, str]) -> bool:
    return any(env.get(name) for name in ENDPOINTS)


def _pushing_meter() -> "Meter":
    # The provider pushes what is left when the process ends (its own atexit hook).
    return _provider([_pusher()]).get_meter("quietpager")


def _pusher() -> Any:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415 (see above)
        OTLPMetricExporter,
    )
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415 (see above)

    # A collector that is away must not hold up a process that ends; OpenTelemetry would try for 10 s.
    patience = None if any(name in os.environ for name in _TIMEOUTS) else PATIENCE
    return PeriodicExportingMetricReader(OTLPMetricExporter(timeout=patience))


def _provider(readers: Sequence[Any]) -> "MeterProvider":
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 (see above)
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 (see above)

    return MeterProvider(metric_readers=readers, resource=Resource.create(resource_of(os.environ)))


def resource_of(env: Mapping[str, str]) -> dict[str, str]:
    """Say who is counting, as far as the environment does not.

    Each process is an instance of its own: two that push one series would overwrite each other's counts.
    """
    stated = env.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = "OTEL_SERVICE_NAME" in env or "service.name=" in stated
    who = {} if named else {"service.name": "quietpager"}
    if "service.instance.id=" not in stated:
        who["service.instance.id"] = f"{socket.gethostname()}.{os.getpid()}"
    return who


# What is recorded where


def count_messages(metrics: Metrics, name: str, message: Message, answers: Iterable[Message]) -> None:
    """Count what an ingest function let in. Called by the edge of every function, with its name."""
    if not metrics.active or not name.startswith("ingest-"):
        return
    signals = [one for one in answers if one.type == SIGNAL]
    for one in signals:
        family, origin = one.attributes.get("family", NONE), one.attributes.get("origin", NONE)
        metrics.add(EVENTS, family=family, origin=origin)
    if not signals and message.type in (EVENT_ADD, EVENT_UPDATE):
        metrics.add(EVENTS, family=NONE, origin="event")


def count_writes(metrics: Metrics, writes: Iterable[Write]) -> None:
    """Count the facts of a committed transaction."""
    for one in writes:
        match one:
            case Put(key=key, body=body) if key.startswith("FINDING#"):
                known = (body.get("diagnosis") or {}).get("failure_class", NONE)
                metrics.add(FINDINGS, **{"class": str(known), "outcome": str(body.get("outcome"))})
            case Put(key=key, body=body) if key.startswith("INTENT#") and body.get("state") in _ENDED:
                result = str(body["state"]).lower()
                metrics.add(ACTIONS, action=str(body.get("action")), result=result)
            case Audit(kind="refused", body={"rehearsal": _}):
                metrics.add(REFUSALS, guard="plan")
            case Audit(kind=kind, body=body) if kind.startswith(f"{State.VERIFYING} -> "):
                after = kind.rpartition(" -> ")[2]
                if after != State.VERIFYING:
                    tried = body.get("tried") or [{}]
                    action, result = str(tried[-1].get("action", NONE)), _verified(after)
                    metrics.add(VERIFICATIONS, action=action, result=result)


def _verified(after: str) -> str:
    return "helped" if after == State.CLOSED else after.partition("(")[0].lower()


def show_pulse(metrics: Metrics, reading: Reading) -> None:
    """Say how old each heartbeat is."""
    for one in reading.parts:
        if one.age is not None:
            metrics.set(HEARTBEAT_AGE, one.age, part=one.part)


def show_queue(metrics: Metrics, due: Sequence[Due], now: datetime) -> None:
    """Say how late the oldest of the items is that the clock has just claimed."""
    late = max(((now - item.at).total_seconds() for item in due), default=0.0)
    metrics.set(QUEUE_AGE, late)


class Metered(Wrapped):
    """A store that counts what its transactions committed."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        """Nothing is opened; the store is the caller's."""
        super().__init__(store)
        self._metrics = metrics

    def transact(self, writes: Iterable[Write]) -> None:
        """See the port; then count."""
        every = list(writes)
        self._store.transact(every)
        count_writes(self._metrics, every)


def metered(store: Store, metrics: Metrics) -> Store:
    """Count a store's transactions, where anything is recorded at all."""
    return Metered(store, metrics) if metrics.active else store
