"""analyze/unknown: reads what there is to know about a problem no rule knows, for one page for a person."""

from datetime import datetime

from quietpager.analysis.analyse import UNKNOWN, analyse, cause_of
from quietpager.analysis.past import remembered
from quietpager.analysis.unwell import events_about, warned_of
from quietpager.errors import Retry
from quietpager.incident import records
from quietpager.model.cluster import ClusterUnavailable, LogReader, Rejected
from quietpager.model.finding import Diagnosis, Healthy, NotYet, Outcome, Verdict
from quietpager.model.incident import Incident, State
from quietpager.model.message import Message
from quietpager.model.signal import Recheck, Signal, read_signal
from quietpager.objects.health import Health
from quietpager.objects.kinds.pod import KIND as POD
from quietpager.objects.live import Live
from quietpager.objects.table import known
from quietpager.rules.judging import Diagnose
from quietpager.runtime.context import Context
from quietpager.runtime.detecting import detect
from quietpager.runtime.rechecking import look


def handle(message: Message, ctx: Context) -> list[Message]:
    """Handle one signal of family `unknown`.

    Raises:
        Retry: the cluster cannot be read just now.
    """
    now = ctx.clock()
    message = _as_events_name_it(message, ctx, now)

    def diagnose(asked: Signal, live: Live) -> Verdict:
        taken = None if asked.origin == "recheck" else _taken(asked, live, ctx)
        if taken is not None:
            return Healthy(why=taken)
        return analyse(asked, live, ctx.cluster, now, _dwell(ctx), lambda text: remembered(ctx.store, text))

    def looker(
        incident: Incident, live: Live, after: datetime | None, diagnose: Diagnose
    ) -> tuple[Outcome, Health, Diagnosis | None]:
        return look_again(incident, live, ctx.cluster, after, diagnose, now)

    return detect(message, ctx, UNKNOWN, diagnose, looker)


def _as_events_name_it(message: Message, ctx: Context, now: datetime) -> Message:
    """Name a target that cannot be read as the newest Event about it does, not as the sender wrote it."""
    hint = read_signal(message.data)
    if isinstance(hint, Recheck) or known(hint.target) is not None:
        return message
    try:
        told = events_about(ctx.cluster, [hint.target], now)
    except (ClusterUnavailable, Rejected) as away:
        raise Retry(f"the Events about {hint.target} cannot be read: {away}") from away
    return message if not told else message.but(data=hint.but(target=told[0].target).to_json())


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
    now: datetime,
) -> tuple[Outcome, Health, Diagnosis | None]:
    """Judge the owner again. The page is made anew only while nobody has it yet.

    Raises what the reader raises.
    """
    outcome, health = _outcome(incident, live, reader, after, now)
    if outcome != "failing" or incident.state is not State.WAITING:
        return outcome, health, None
    verdict = diagnose(Signal(target=incident.owner, family=UNKNOWN, origin="recheck"), live)
    return outcome, health, verdict if isinstance(verdict, Diagnosis) else None


def _outcome(
    incident: Incident, live: Live, reader: LogReader, after: datetime | None, now: datetime
) -> tuple[Outcome, Health]:
    owner = incident.owner
    kind = known(owner)
    has_pods = any(known(one) is POD for one in incident.symptoms)
    if kind is not None or has_pods:
        outcome, health, _ = look(incident, live, after, _not_now)
        if outcome != "healthy" or kind is None or kind.tells_all:
            return outcome, health
    trouble = warned_of(owner, reader, now)
    if trouble is None:
        return "healthy", Health(healthy=True, why=f"nobody has warned of {owner} for a while")
    return "failing", Health(healthy=False, why=trouble.why)


def _not_now(_signal: Signal, _live: Live) -> Verdict:
    return NotYet(why="only its health is asked for")
