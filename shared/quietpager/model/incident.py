"""The records of an incident: the incident itself, its rehearsals, its intents."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from quietpager.model.data import Data, digest
from quietpager.model.finding import Dwell, Evidence, Remedy
from quietpager.model.objects import ObjectRef
from quietpager.model.page import Page


class Autonomy(StrEnum):
    """The dial of maturity, lowest first."""

    ALERT = "alert"
    ANALYZE = "analyze"
    APPROVE = "approve"
    AUTO = "auto"

    @property
    def rank(self) -> int:
        """Its place on the dial, from 0."""
        return list(Autonomy).index(self)


def lowest(*dials: Autonomy) -> Autonomy:
    """Take the most careful of several dials."""
    return min(dials, key=lambda dial: dial.rank)


class State(StrEnum):
    """Where an incident stands. WITH_PERSON says in brackets what the person is asked."""

    NONE = "none open"
    WAITING = "WAITING"
    PLANNING = "PLANNING"
    APPROVAL = "WITH_PERSON(approval)"
    PROPOSED = "WITH_PERSON(proposed)"
    BLOCKED = "WITH_PERSON(blocked)"
    HANDOVER = "WITH_PERSON(handover)"
    ACTING = "ACTING"
    VERIFYING = "VERIFYING"
    UNDOING = "UNDOING"
    CLOSED = "CLOSED"


WITH_PERSON = frozenset({State.APPROVAL, State.PROPOSED, State.BLOCKED, State.HANDOVER})
OPEN = frozenset(State) - {State.NONE, State.CLOSED}

ClosedReason = Literal["fixed", "healed_by_itself", "fixed_by_person", "gone", "merged"]


UndoWhen = Literal["worse", "unchanged", "never"]


class Tried(Data):
    """One thing that was tried, for the person who takes over."""

    action: str
    params: dict[str, str | float]
    result: str


class Incident(Data):
    """One open problem of one cause key. Its record's version in the store is its version."""

    id: str
    cause: str
    episode: int
    cluster: str
    family: str
    failure_class: str
    owner: ObjectRef
    state: State
    opened_at: datetime
    state_since: datetime
    reason: ClosedReason | None = None
    announced: bool = False
    autonomy: Autonomy = Autonomy.ALERT
    dwell: Dwell = Dwell()
    evidence: tuple[Evidence, ...] = ()
    page: Page | None = None
    symptoms: tuple[ObjectRef, ...] = ()
    symptom_count: int = 0
    restarts: int = 0
    since: datetime
    time_to_failure: float = 0.0
    remedies: tuple[Remedy, ...] = ()
    candidate: int = 0
    attempt: int = 1
    rehearsal: str | None = None
    rehearsals: int = 0
    intent: str | None = None
    undo: str | None = None
    acted: bool = False
    acted_at: datetime | None = None
    by_person: bool = False
    taken_over: bool = False
    approved: str | None = None
    approved_diff: str | None = None
    approval: str | None = None
    available_before: int = 0
    undo_when: UndoWhen = "never"
    worse_streak: int = 0
    serial: int = 0
    healthy_streak: int = 0
    healthy_since: datetime | None = None
    failing_at: datetime | None = None
    extended: bool = False
    window: float = 60.0
    nudges: int = 0
    deadline_at: datetime
    recheck_every: float
    refusals: tuple[str, ...] = ()
    tried: tuple[Tried, ...] = ()
    decided_by: str = ""

    @property
    def remedy(self) -> Remedy | None:
        """The candidate under consideration."""
        return self.remedies[self.candidate] if self.candidate < len(self.remedies) else None


class Edit(Data):
    """One change of one field. `path` is a JSON pointer; `had`/`gets` are None for "not there"."""

    path: str
    had: Any = None
    gets: Any = None


class PlanFacts(Data):
    """What a remediator saw while planning; guards are decided on it. None means "nothing against it"."""

    namespace: str
    opted_in: bool
    ignored: bool
    outside_may_change: tuple[str, ...] = ()
    does_not_fit: str | None = None
    dry_run: str = "skipped"
    dry_run_refused: str | None = None


class Rehearsal(Data):
    """The plan of one remedy. Exists before any intent does."""

    id: str
    incident: str
    remedy: Remedy
    owner: ObjectRef
    state: Literal["asked", "rehearsed", "refused"] = "asked"
    asked_at: datetime
    generation: int = 0
    edits: tuple[Edit, ...] = ()
    summary: str = ""
    refusal: str | None = None
    facts: PlanFacts | None = None
    available: int = 0
    undo_when: UndoWhen = "never"

    @property
    def diff_key(self) -> str:
        """Identity of what would change, without the generation that an autoscaler moves."""
        return digest(self.owner.uid, self.remedy.to_json(), [e.to_json() for e in self.edits])


class IntentState(StrEnum):
    """Where the permission to carry out one rehearsal stands."""

    INTENT = "INTENT"
    CLAIMED = "CLAIMED"
    APPLIED = "APPLIED"
    REFUSED = "REFUSED"
    UNKNOWN = "UNKNOWN"
    EXPIRED = "EXPIRED"
    UNDONE = "UNDONE"


class Intent(Data):
    """The durable permission to write once. The precondition is pinned here and never read again.

    `undoes` is the forward intent that an undo reverses; its mark must still be on the object.
    """

    id: str
    incident: str
    rehearsal: str
    action: str
    target: ObjectRef
    generation: int
    edits: tuple[Edit, ...]
    state: IntentState = IntentState.INTENT
    created_at: datetime
    expires_at: datetime
    act_by: datetime | None = None
    undoes: str | None = None
    result: str = ""
    healed: bool = False
    generation_after: int | None = None
    applied_at: datetime | None = None
