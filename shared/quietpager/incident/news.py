"""What an incident hears and what follows: the words in and out of a step of the state machine.

    Input ──▶ machine.step ──▶ Step (the next incident, its effects)

Who uses it: `incident.machine`, which decides, and `govern/decide`, which makes messages into news and
effects into one transaction.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from quietpager.model.finding import Finding, Remedy
from quietpager.model.incident import Incident, Intent, Rehearsal


class News(StrEnum):
    """Every kind of news an incident can get."""

    SYMPTOM = "finding failing (a symptom)"
    FAILING = "recheck failing"
    HEALTHY = "recheck healthy"
    GONE = "recheck gone"
    UNREADABLE = "recheck unreadable"
    ALLOWED = "rehearsed, guards pass, may act"
    ASK = "rehearsed, guards pass, approval needed"
    SHOW = "rehearsed at alert or analyze"
    PROPOSED = "rehearsed propose-change"
    REFUSED = "refused by plan, dry run or guard"
    BEYOND = "refused: the API server would refuse it"
    APPLIED = "outcome applied"
    UNKNOWN = "outcome unknown"
    NOT_DONE = "outcome refused or expired"
    HEALED = "outcome refused: healed meanwhile"
    APPROVE = "decision approve"
    MODIFY = "decision modify"
    REJECT = "decision reject or take over"
    DEADLINE = "deadline"
    SUPERSEDED = "a more root-like incident opened"


@dataclass(frozen=True, slots=True)
class Input:
    """News with what it carries. `sentence` is the guard's or the plan's reason, for people.

    `propose`: the owner's mode says that the plan which was refused goes to the owner instead.
    `untouched`: how many others had the same failure, were left alone and are well by now, too
    (`incident.control_group`); it is asked for when a fix is about to be called one.
    """

    kind: News
    finding: Finding | None = None
    rehearsal: Rehearsal | None = None
    intent: Intent | None = None
    remedy: Remedy | None = None
    approval: str | None = None
    by: str = ""
    sentence: str = ""
    propose: bool = False
    untouched: int = 0


@dataclass(frozen=True, slots=True)
class Rehearse:
    """Ask the remediator for a plan of this remedy."""

    rehearsal: Rehearsal


@dataclass(frozen=True, slots=True)
class Commit:
    """Write the intent ahead, with its budget slots, and send it."""

    rehearsal: Rehearsal


@dataclass(frozen=True, slots=True)
class Undo:
    """Write the undo's intent ahead and send it."""


@dataclass(frozen=True, slots=True)
class AskPerson:
    """Keep an approval, bound to this rehearsal's diff."""

    rehearsal: Rehearsal


@dataclass(frozen=True, slots=True)
class OpenBreaker:
    """What was written did not help: no automatic act for this class and target for a while."""


@dataclass(frozen=True, slots=True)
class MarkActed:
    """Start the target's cool-down."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Send a message to people."""

    what: Literal["opened", "updated", "needsperson", "closed"]
    text: str


Effect = Rehearse | Commit | Undo | AskPerson | OpenBreaker | MarkActed | Tell


@dataclass(frozen=True, slots=True)
class Step:
    """What a message leads to. `incident` is None only where nothing is open and nothing opens."""

    incident: Incident | None
    effects: tuple[Effect, ...] = ()
    note: str = ""
