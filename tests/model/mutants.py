"""The product with one mechanism taken out, each by a switch in test code: every one must be found.

A mutant is a context manager that patches a shipped module for a while; it names where the search
begins, and what may go wrong, so that its counter-example is short and found soon.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from unittest.mock import patch

from quietpager.change import patch_fields, send
from quietpager.change.patch_fields import PatchFields
from quietpager.deciding import decisions, guards
from quietpager.deciding.ground import Ground
from quietpager.functions.govern.decide import handler, writes
from quietpager.incident import acting, machine, planning, records
from quietpager.incident.news import Input, News
from quietpager.incident.policy import Policy
from quietpager.model.incident import Autonomy, Incident, Intent, IntentState, State
from quietpager.model.message import Message
from quietpager.model.store import Check, Put, Record, Write
from quietpager.runtime import remediating
from quietpager.runtime.context import Context, Lazy
from tests.model.moves import ACTIVE, ASKING, Bounds
from tests.model.scenarios import HELPS, HOPELESS, Scenario
from tests.model.world import Blind, Workload

Json = dict[str, Any]


@dataclass(frozen=True)
class Mutant:
    """One mechanism, how it is taken out, and where to look."""

    mechanism: str
    without: Callable[[], Any]
    scenario: Scenario


class _Store:
    """A store that lies to one function."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Unswitched(_Store):
    """Says that writing is allowed, and forgets to make that a condition."""

    def get_many(self, keys: Sequence[str]) -> dict[str, Record]:
        found: dict[str, Record] = self._real.get_many(keys)
        if (switch := found.get(records.SWITCH)) is not None:
            return found | {switch.key: Record(switch.key, switch.version, {"stopped": False})}
        return found

    def transact(self, some: Iterable[Write]) -> None:
        self._real.transact([w for w in some if not (isinstance(w, Check) and w.key == records.SWITCH)])


class _Unconditional(_Store):
    """Reads the switch, and forgets to make it a condition of the claim."""

    def transact(self, some: Iterable[Write]) -> None:
        self._real.transact([w for w in some if not isinstance(w, Check)])


class _Unexpiring(_Store):
    """Shows every intent as if it did not expire."""

    def get(self, key: str) -> Record | None:
        found: Record | None = self._real.get(key)
        if found is None or not key.startswith("INTENT#"):
            return found
        intent = Intent.from_json(found.body)
        later = intent.but(expires_at=intent.expires_at + timedelta(days=1))
        return Record(key, found.version, later.to_json())


class _Unused(_Store):
    """Shows every answer as if nobody had used it."""

    def get(self, key: str) -> Record | None:
        found: Record | None = self._real.get(key)
        if found is None or not key.startswith("APPROVAL#"):
            return found
        return Record(key, found.version, {k: v for k, v in found.body.items() if k != "used"})


def _lying(store: type[_Store]) -> Callable[[], Any]:
    real = send.carry_out

    def carry_out(name: str, **known: Any) -> Any:
        return real(name, **known | {"store": store(known["store"])})

    return lambda: patch.object(remediating, "carry_out", carry_out)


@contextmanager
def no_pins() -> Iterator[None]:
    """Send the change without any `test`."""
    real = patch_fields.patch_of

    def patch_of(intent: Intent, live: Json) -> list[Json]:
        return [one for one in real(intent, live) if one["op"] != "test"]

    with patch.object(patch_fields, "patch_of", patch_of):
        yield


@contextmanager
def no_undo_pins() -> Iterator[None]:
    """Undo wherever the object stands by now."""
    real, judge = patch_fields.patch_of, PatchFields.judge

    def patch_of(intent: Intent, live: Json) -> list[Json]:
        return [one for one in real(intent, live) if one["op"] != "test" or intent.undoes is None]

    def judged(change: PatchFields, intent: Intent, live: Json) -> Any:
        return judge(change, intent, live) if intent.undoes is None else None

    with patch.object(patch_fields, "patch_of", patch_of), patch.object(PatchFields, "judge", judged):
        yield


@contextmanager
def pins_read_again() -> Iterator[None]:
    """Take the generation from the last look instead of from the intent."""
    acting = send._act

    def act(intent: Intent, **known: Any) -> Any:
        live = PatchFields(edits=intent.edits).look(intent, known["cluster"])
        here = intent.but(generation=live["metadata"]["generation"]) if live else intent
        return acting(here.but(edits=tuple(e.but(had=None) for e in here.edits)), **known)

    with patch.object(send, "_act", act):
        yield


@contextmanager
def outcome_without_compare() -> Iterator[None]:
    """Record the outcome over whatever is there."""
    real = send._record

    def record(*known: Any) -> Any:
        with patch.object(send, "Put", Blind):
            return real(*known)

    with patch.object(send, "_record", record):
        yield


@contextmanager
def write_before_claim() -> Iterator[None]:
    """Send first, claim afterwards."""
    real = send.carry_out

    def carry_out(name: str, **known: Any) -> Any:
        record = known["store"].get(records.intent(name))
        intent = Intent.from_json(record.body)
        if intent.state is IntentState.INTENT:
            live = known["cluster"].get("Deployment", intent.target.namespace, intent.target.name)
            change = patch_fields.patch_of(intent, live)
            known["cluster"].json_patch("Deployment", intent.target.namespace, intent.target.name, change)
        return real(name, **known)

    with patch.object(remediating, "carry_out", carry_out):
        yield


@contextmanager
def no_act_deadline() -> Iterator[None]:
    """Never look at the clock between claim and write."""
    real = send._act

    def act(intent: Intent, **known: Any) -> Any:
        then = known["clock"]() if intent.act_by is None else intent.act_by - timedelta(seconds=1)
        return real(intent, **known | {"clock": lambda: then})

    with patch.object(send, "_act", act):
        yield


@contextmanager
def interrupted_is_forgotten() -> Iterator[None]:
    """Judge a second try as if nobody had tried before."""
    real = send._act

    def act(intent: Intent, **known: Any) -> Any:
        return real(intent, **known | {"resumed": False})

    with patch.object(send, "_act", act):
        yield


@contextmanager
def silence_is_no() -> Iterator[None]:
    """Take a call that was not answered for one that was refused."""
    real = send._act

    def act(intent: Intent, **known: Any) -> Any:
        outcome, result, changes = real(intent, **known)
        return (IntentState.REFUSED, "no answer", {}) if outcome is None else (outcome, result, changes)

    with patch.object(send, "_act", act):
        yield


@contextmanager
def incident_without_compare() -> Iterator[None]:
    """Write the incident over whatever is there."""

    def put(key: str, body: Json, expect: int) -> Put:
        return (Blind if key.startswith("INCIDENT#") else Put)(key, body, expect)

    with patch.object(writes, "Put", put):
        yield


@contextmanager
def no_due_items() -> Iterator[None]:
    """Leave time without an owner: no recheck, no deadline."""

    def dues(*_known: Any) -> Sequence[Write]:
        return []

    with patch.object(writes, "_dues", dues):
        yield


@contextmanager
def undo_without_proof() -> Iterator[None]:
    """Take a fix back because nobody could look at it."""

    def deadline(incident: Incident, _news: Input, policy: Any, now: Any) -> Any:
        return acting._not_helped(incident, policy, now, "unchanged")

    table = dict(machine.TABLE) | {(State.VERIFYING, News.DEADLINE): deadline}
    with patch.object(machine, "TABLE", table):
        yield


@contextmanager
def nobody_is_asked() -> Iterator[None]:
    """Act at autonomy `approve` as at `auto`."""

    def autonomy(_ground: Ground) -> Autonomy:
        return Autonomy.AUTO

    with patch.object(guards, "autonomy", autonomy):
        yield


@contextmanager
def answer_without_compare() -> Iterator[None]:
    """Keep an answer over whatever is there."""
    with patch.object(decisions, "Put", Blind):
        yield


@contextmanager
def nobody_counts() -> Iterator[None]:
    """Let one person be two: neither who clicks is compared with who has, nor are people counted again."""

    def fine(*_known: Any) -> str:
        return ""

    with patch.object(decisions, "_not_entitled", fine), patch.object(decisions, "_too_few", fine):
        yield


@contextmanager
def answer_from_any_page() -> Iterator[None]:
    """Take a click for the question of now, whichever the page showed."""
    real = decisions._unanswerable

    def unanswerable(question: Any, incident: Incident, decision: Any, by: str, now: Any, _seen: Any) -> str:
        return real(question, incident, decision, by, now, None)

    with patch.object(decisions, "_unanswerable", unanswerable):
        yield


@contextmanager
def answers_never_expire() -> Iterator[None]:
    """Take an answer up however late it comes round. Who answers late is refused before, and still is."""
    real = decisions.refusal

    def refusal(record: Record, *known: Any, name: str) -> str:
        endless = {key: value for key, value in record.body.items() if key != "expires"}
        return real(Record(record.key, record.version, endless), *known, name=name)

    with patch.object(decisions, "refusal", refusal):
        yield


@contextmanager
def any_diff_is_approved() -> Iterator[None]:
    """Carry out what the silent rehearsal planned, whatever was approved."""

    def commit(incident: Incident, news: Input, policy: Policy, now: Any) -> Any:
        same = incident if news.rehearsal is None else incident.but(approved_diff=news.rehearsal.diff_key)
        return planning.commit(same, news, policy, now)

    with patch.object(machine, "TABLE", dict(machine.TABLE) | {(State.PLANNING, News.ALLOWED): commit}):
        yield


@contextmanager
def answers_used_again() -> Iterator[None]:
    """Take an answer for whatever is asked now: neither its mark `used` nor the question's id and diff count.

    The mark or the id alone would do, and the diff where it changed: only without all three it breaks.
    """
    real, check = handler._decision, decisions.refusal

    def decision(message: Message, ctx: Context) -> list[Message]:
        lazy = Lazy(lambda: _Unused(ctx.lazy.store), lambda: ctx.lazy.cluster)
        return real(message, replace(ctx, lazy=lazy))

    def refusal(record: Record, incident: Incident, *known: Any, name: str) -> str:
        fits = Record(record.key, record.version, record.body | {"diff": incident.approved_diff})
        return check(fits, incident, *known, name=decisions.question_id(incident) or name)

    with patch.object(handler, "_decision", decision), patch.object(decisions, "refusal", refusal):
        yield


@contextmanager
def approved_for_good() -> Iterator[None]:
    """Let an approval outlive the healing that made its act needless."""

    real: Any = acting.healed

    def healed(incident: Incident, *known: Any) -> Any:
        step = real(incident, *known)
        return replace(step, incident=step.incident.but(approved=incident.approved))

    with patch.object(machine, "TABLE", dict(machine.TABLE) | {(State.ACTING, News.HEALED): healed}):
        yield


WRITER, DECIDER = ("remediate-raise-memory",), ("govern-decide",)


def _from(
    begins: State | None, *faults: str, who: tuple[str, ...] = ACTIVE, sleeps: int = 3, load: Workload = HELPS
) -> Scenario:
    return Scenario("", load, begins, Bounds(sleeps=sleeps, faults=len(faults), allowed=faults, who=who))


def _asked(begins: State, *faults: str, sleeps: int = 3, workers: int = 1, **how: Any) -> Scenario:
    bounds = Bounds(workers, sleeps, len(faults), faults, people=how.pop("people", ()))
    return Scenario("", HELPS, begins, bounds, ASKING, **how)


ACTING, VERIFYING, APPROVAL = State.ACTING, State.VERIFYING, State.APPROVAL
MUTANTS: Final = (
    Mutant("the pinned precondition", no_pins, _from(ACTING, "edit", who=WRITER)),
    Mutant("a precondition never read again", pins_read_again, _from(ACTING, "edit", who=WRITER)),
    Mutant("claim before the write", write_before_claim, _from(ACTING, who=WRITER)),
    Mutant("compare-and-set on the outcome", outcome_without_compare, _from(ACTING, "stop", who=WRITER)),
    Mutant(
        "compare-and-set on the incident", incident_without_compare, _from(State.VERIFYING, load=HOPELESS)
    ),
    Mutant("the act deadline", no_act_deadline, _from(ACTING, who=WRITER)),
    Mutant("the kill switch at the claim", _lying(_Unswitched), _from(ACTING, "stop", who=WRITER)),
    Mutant(
        "the kill switch in the claim's transaction",
        _lying(_Unconditional),
        _from(ACTING, "stop", who=WRITER),
    ),
    Mutant("an interrupted attempt is UNKNOWN", interrupted_is_forgotten, _from(ACTING, "heal", who=WRITER)),
    Mutant("no answer is no refusal", silence_is_no, _from(ACTING, "cluster", who=WRITER)),
    Mutant("the intent's expiry", _lying(_Unexpiring), _from(ACTING, who=WRITER)),
    Mutant("undo only under our mark", no_undo_pins, _from(State.UNDOING, "edit", who=WRITER, load=HOPELESS)),
    Mutant("no undo on missing evidence", undo_without_proof, _from(VERIFYING)),
    Mutant("two due items for every open state", no_due_items, _from(None)),
    Mutant("guard 11 asks", nobody_is_asked, _asked(State.PLANNING)),
    Mutant(
        "compare-and-set on the answer",
        answer_without_compare,
        _asked(APPROVAL, open=(("ann", "approve"), ("bob", "reject")), workers=2),
    ),
    Mutant(
        "two people are two",
        nobody_counts,
        _asked(APPROVAL, sleeps=0, open=(("ann", "approve"), ("Ann ", "approve")), approvals=2),
    ),
    Mutant(
        "an answer is to the page that was seen",
        answer_from_any_page,
        _asked(APPROVAL, "edit", people=(("bob", "approve"),), approved=True),
    ),
    Mutant("the approval's expiry", answers_never_expire, _asked(APPROVAL, approved=True, sleeps=5)),
    Mutant("the same diff, or asked anew", any_diff_is_approved, _asked(APPROVAL, "edit", approved=True)),
    Mutant(
        "an answer counts once, for its question",
        answers_used_again,
        _asked(APPROVAL, "edit", "duplicate", approved=True),
    ),
    Mutant(
        "an approval ends when it heals",
        approved_for_good,
        _asked(ACTING, "heal", "relapse", approved=True, sleeps=1),
    ),
)
