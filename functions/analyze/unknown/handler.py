"""analyze/unknown: reads what there is to know about a problem no rule knows, for one page for a person."""

from datetime import datetime

from quietpager.analysis.past import remembered
from quietpager.analysis.unwell import JUDGED, warned_of
from quietpager.cluster.port import LogReader
from quietpager.functions.analyze.unknown.analyse import UNKNOWN, analyse, cause_of
from quietpager.masking.mask import mask
from quietpager.model.finding import Diagnosis, Healthy, NotYet, Outcome, Verdict
from quietpager.model.incident import Incident, State
from quietpager.model.message import Message
from quietpager.model.signal import Signal
from quietpager.rules.health import Health
from quietpager.rules.live import Live
from quietpager.runtime.context import Context
from quietpager.runtime.detecting import Diagnose, detect, look
from quietpager.safety import records


def handle(message: Message, ctx: Context) -> list[Message]:
    """Handle one signal of family `unknown`.

    Raises:
        Retry: the cluster cannot be read just now.
    """
    signal = Signal.from_json(message.data)
    # Before anything is stored: the signal itself is kept, in the finding and until it is looked at again.
    masked = signal.but(message=mask(signal.message))
    now = ctx.clock()

    def diagnose(asked: Signal, live: Live) -> Verdict:
        taken = None if asked.origin == "recheck" else _taken(asked, live, ctx)
        if taken is not None:
            return Healthy(why=taken)
        return analyse(asked, live, ctx.cluster, now, _dwell(ctx), lambda text: remembered(ctx.store, text))

    def looker(
        incident: Incident, live: Live, after: datetime | None, diagnose: Diagnose, asked: Signal
    ) -> tuple[Outcome, Health, Diagnosis | None]:
        return look_again(incident, live, ctx.cluster, after, diagnose, asked, now)

    return detect(message.but(data=masked.to_json()), ctx, UNKNOWN, diagnose, looker)


def _dwell(ctx: Context) -> float:
    known = ctx.rule(UNKNOWN).classes[UNKNOWN]
    return known.dwell.seconds if ctx.policy.dwell_unknown is None else ctx.policy.dwell_unknown


def _taken(signal: Signal, live: Live, ctx: Context) -> str | None:
    """Say which open incident has it already: one of a family that knows it, or our own with this target."""
    owner = live.owner or signal.target
    lock = ctx.store.get(records.cause(cause_of(owner)))
    record = None if lock is None else ctx.store.get(records.incident(str(lock.body["incident"])))
    if record is None:
        return None
    incident = Incident.from_json(record.body)
    if incident.state is State.CLOSED:
        return None
    if incident.family != UNKNOWN:
        return f"{incident.id} of family {incident.family} has it"
    known = any((one.kind, one.name) == (signal.target.kind, signal.target.name) for one in incident.symptoms)
    return f"{incident.id} has it" if known and incident.state is not State.WAITING else None


def look_again(
    incident: Incident,
    live: Live,
    reader: LogReader,
    after: datetime | None,
    diagnose: Diagnose,
    signal: Signal,
    now: datetime,
) -> tuple[Outcome, Health, Diagnosis | None]:
    """Judge the owner again. The page is made anew only while nobody has it yet.

    Raises what the reader raises.
    """
    outcome, health = _outcome(incident, live, reader, after, signal, now)
    if outcome != "failing" or incident.state is not State.WAITING:
        return outcome, health, None
    verdict = diagnose(signal.but(target=incident.owner), live)
    return outcome, health, verdict if isinstance(verdict, Diagnosis) else None


def _outcome(
    incident: Incident, live: Live, reader: LogReader, after: datetime | None, signal: Signal, now: datetime
) -> tuple[Outcome, Health]:
    owner = incident.owner
    if owner.kind == "Node":
        if live.node is None:
            return "gone", Health(healthy=False, why=f"{owner} is gone")
        if live.node.ready:
            return "healthy", Health(healthy=True, why="the node is ready")
        return "failing", Health(healthy=False, why="the node is not ready")
    has_pods = any(one.kind == "Pod" for one in incident.symptoms)
    if owner.kind in JUDGED or has_pods:
        outcome, health, _ = look(incident, live, after, _not_now, signal)
        return outcome, health
    trouble = warned_of(owner, reader, now)
    if trouble is None:
        return "healthy", Health(healthy=True, why=f"nobody has warned of {owner} for a while")
    return "failing", Health(healthy=False, why=trouble.why)


def _not_now(_signal: Signal, _live: Live) -> Verdict:
    return NotYet(why="only its health is asked for")
