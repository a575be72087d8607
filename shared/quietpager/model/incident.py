"""The records of an incident: the incident itself, its rehearsals, its intents."""

import re
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from quietpager.masking.told import Told
from quietpager.model.data import Data, Json, digest
from quietpager.model.finding import Dwell, Evidence, Remedy
from quietpager.model.page import Page
from quietpager.model.reference import ObjectRef


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

Goal = Literal["owner_healthy", "owner_healthy_and_no_new_oom", "nothing_written"]
"""What must be seen after a write: a healthy owner, or besides that nothing killed for memory since."""

OwnerMode = Literal["propose", "patch", "patch+propose"]
"""What is done about a field that somebody else owns: see guard 5."""


class How(StrEnum):
    """How it went with one thing that was tried; the ledger counts by it. Its value begins the sentence.

    OTHER is for what was refused, or ended, before a write; then the detail says it all.
    """

    SENT = "sent"
    APPLIED = "applied"
    UNKNOWN = "outcome unknown"
    NOT_NEEDED = "not needed: healed before the write"
    HELPED = "verified: it helped"
    NOT_PROVEN = "not proven:"
    NOT_HELPED = "did not help"
    UNVERIFIED = "could not be verified"
    UNDONE = "It did not help and was undone."
    NOT_UNDONE = "It did not help and was not undone:"
    UNDO_LOST = "the undo was never carried out"
    OTHER = ""


class Tried(Data):
    """One thing that was tried, for the person who takes over.

    `detail` is the rest of its sentence; `seen` says in figures how it was before and after, where it
    did not help.
    """

    action: str
    params: dict[str, str | float]
    how: How = How.SENT
    detail: Told = ""
    seen: Told = ""

    @model_validator(mode="before")
    @classmethod
    def _older(cls, body: Any) -> Any:
        """Read what version 1 kept: the sentence, as `result`, and nothing else."""
        if not isinstance(body, dict) or "how" in body or not isinstance(body.get("result"), str):
            return body
        rest = {name: value for name, value in body.items() if name != "result"}
        how = next(one for one in How if body["result"].startswith(one.value))
        return rest | {"how": how, "detail": body["result"].removeprefix(how.value).strip()}

    @property
    def result(self) -> str:
        """The sentence, for a person."""
        return f"{self.how.value} {self.detail}".strip()


class Incident(Data):
    """One open problem of one cause key. Its record's version in the store is its version.

    `owner` is the workload of the first symptom, `owners` are those of all of them: a cause that is no
    workload (a ConfigMap, a registry) may break several.

    `proposed_by` is who put the remedy in by hand, if a person did.

    `to_propose` is the rehearsal that was written although somebody else owns the object, and is proposed to
    the owner once it is `verified` that it helped.

    `available_before` (available pods) and `restarts_before` are as of the write; those `…_after` as of the
    last failing look since, None where there was none.
    """

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
    owners: tuple[ObjectRef, ...] = ()
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
    proposed_by: Told = ""
    taken_over: bool = False
    verified: bool = False
    to_propose: str | None = None
    approved: str | None = None
    approved_diff: str | None = None
    approval: str | None = None
    available_before: int = 0
    restarts_before: int = 0
    available_after: int | None = None
    restarts_after: int | None = None
    undo_when: UndoWhen = "never"
    goal: Goal = "owner_healthy"
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
    refusals: tuple[Told, ...] = ()
    tried: tuple[Tried, ...] = ()
    decided_by: Told = ""

    @property
    def remedy(self) -> Remedy | None:
        """The candidate under consideration."""
        return self.remedies[self.candidate] if self.candidate < len(self.remedies) else None

    @property
    def shared(self) -> bool:
        """Whether the cause is something that several workloads may depend on."""
        return not self.cause.startswith("workload:")

    @property
    def about(self) -> str:
        """Say in words what it is about: the workload, or the shared cause and how many it breaks."""
        if not self.shared:
            return str(self.owner)
        more = len(self.owners) - 1
        return f"{self.cause} ({self.owner}{f' and {more} more' if more > 0 else ''})"


class Edit(Data):
    """One change of one field. `path` is a JSON pointer; `had`/`gets` are None for "not there".

    `hidden`: the values are kept nowhere, for they may be secrets (variables, arguments, commands, and
    whatever else no action writes); `had` and `gets` are their digests, and the path may end in a name where
    a pointer has an index.
    """

    path: str
    had: Any = None
    gets: Any = None
    hidden: bool = False


class AnyChange(Data):  # noqa: PLW1641 (pydantic makes the hash of what is frozen, from the same fields)
    """What one write is, as a record keeps it: its kind, and whatever that kind says of it.

    The kinds are a closed set, one file each in `quietpager.change`, which reads and checks the rest. `pins`
    is what the write is pinned to (a version, a mark): it is read anew by each rehearsal, and pinned by the
    intent. All the rest is what is approved.
    """

    model_config = ConfigDict(extra="allow")

    kind: str
    pins: dict[str, Any] = {}

    @property
    def identity(self) -> Json:
        """What an approval binds to: everything but the pins."""
        return {name: value for name, value in self.to_json().items() if name != "pins"}

    def __eq__(self, other: object) -> bool:
        """Compare all of it: what this class does not name is what the write does."""
        return isinstance(other, AnyChange) and self.to_json() == other.to_json()


class Applies(Data):
    """Which of guards 3, 4 and 9 look at an action: an `action.yaml`'s block `guards:`, all three said.

    `fraction` and `pdb` are for what removes pods. `rollout_of_others: refuse` is for whatever changes a
    workload; a rollback too, for it ends only the rollout that carries the symptom.
    """

    fraction: bool
    rollout_of_others: Literal["refuse", "ignore"]
    pdb: bool


class Verify(Data):
    """How it is known that an action helped: an `action.yaml`'s block `verify:`.

    The `goal` must hold for a whole window: `window` times the last time to failure, and `at_least` so many
    seconds. An action may ask for more than the policy's `window_factor` and `window`, never for less; 0 is
    the policy's own.
    """

    goal: Goal = "nothing_written"
    window: float = Field(default=0.0, ge=0, le=100)
    at_least: float = Field(default=0.0, ge=0, le=86400)

    @field_validator("window", mode="before")
    @classmethod
    def _times(cls, said: object) -> object:
        """Read `2 x time to failure`, or `policy`."""
        if not isinstance(said, str):
            return said
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?x time to failure", said)
        if found is None and said != "policy":
            raise ValueError(f"{said!r} is neither `policy` nor like `2 x time to failure`")
        return 0.0 if found is None else float(found[1])

    @field_validator("at_least", mode="before")
    @classmethod
    def _length(cls, said: object) -> object:
        """Read `60s`, `2m` or `1h`, or `policy`."""
        if not isinstance(said, str):
            return said
        found = re.fullmatch(r"([0-9]+)([smh])", said)
        if found is None and said != "policy":
            raise ValueError(f"{said!r} is neither `policy` nor like `60s`, `2m` or `1h`")
        return 0.0 if found is None else int(found[1]) * {"s": 1.0, "m": 60.0, "h": 3600.0}[found[2]]

    def seconds(self, policys: float, time_to_failure: float) -> float:
        """Give the length of the window, where the policy asks for `policys` seconds."""
        return max(policys, self.at_least, self.window * time_to_failure)


ALL_APPLY = Applies(fraction=True, rollout_of_others="refuse", pdb=True)
"""What holds where a plan does not say."""


class Disruption(Data):
    """One PodDisruptionBudget that selects targets: how many it allows now, how many would go."""

    name: str
    allowed: int
    targets: tuple[str, ...]


class Fleet(Data):
    """How the nodes are: all, those that are not ready, cordoned ones, and the kubelets' versions."""

    nodes: int
    unhealthy: int = 0
    cordoned: tuple[Told, ...] = ()
    kubelets: tuple[Told, ...] = ()


class PlanFacts(Data):
    """What a remediator saw while planning; guards are decided on it.

    Of what speaks against a plan, None means that nothing does. Of what must be known, None means that
    it was not read, and the guard that needs it refuses.

    `targets` are what would be written to, or removed. Of pods that would be removed, `siblings` are all
    pods of their workload, `healthy` those that are well and would stay, `domains` where the targets run.
    `disruptions` are the PodDisruptionBudgets that select a target. `other_rollout` says why a rollout
    that is under way is somebody else's.
    """

    namespace: str
    opted_in: bool
    ignored: bool
    guards: Applies = ALL_APPLY
    targets: tuple[ObjectRef, ...] = ()
    siblings: int | None = None
    healthy: int | None = None
    domains: tuple[str, ...] = ()
    fleet: Fleet | None = None
    other_rollout: Told | None = None
    disruptions: tuple[Disruption, ...] | None = None
    outside_may_change: tuple[Told, ...] = ()
    does_not_fit: Told | None = None
    dry_run: Told = "skipped"
    dry_run_refused: Told | None = None
    owned_by: Told | None = None
    owner_mode: OwnerMode = "propose"


class Proposal(Data):
    """A change that a person may take over: `where` is an address or a branch, `text` the patch or advice."""

    kind: Literal["pull_request", "branch", "patch"]
    where: Told = ""
    text: Told = ""


class Rehearsal(Data):
    """The plan of one remedy. Exists before any intent does.

    `beyond` are the fields for whose sake the API server would refuse it: then it is refused here, and keeps
    its edits, to be proposed to a person.

    `change` is what would be written; None stands for a patch of `edits`, pinned to `generation`, as every
    record was before there were other kinds. `quietpager.change.kinds.change_of` reads either.
    """

    id: str
    incident: str
    remedy: Remedy
    owner: ObjectRef
    state: Literal["asked", "rehearsed", "refused"] = "asked"
    asked_at: datetime
    generation: int = 0
    edits: tuple[Edit, ...] = ()
    change: AnyChange | None = None
    summary: Told = ""
    refusal: Told | None = None
    beyond: tuple[str, ...] = ()
    facts: PlanFacts | None = None
    available: int = 0
    undo_when: UndoWhen = "never"
    verify: Verify | None = None
    proposal: Proposal | None = None

    @property
    def diff_key(self) -> str:
        """Identity of what would change, without the generation that an autoscaler moves."""
        what = [self.owner.uid, self.remedy.to_json(), [e.to_json() for e in self.edits]]
        return digest(*what, *([] if self.change is None else [self.change.identity]))


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

    `undoes` is the forward intent that an undo reverses; its mark must still be on the object. `slots` are
    the budget's records that it holds; each claim stamps them anew, for it is from then on that it may act.
    `change` is as in the rehearsal.
    """

    id: str
    incident: str
    rehearsal: str
    action: str
    target: ObjectRef
    generation: int
    edits: tuple[Edit, ...]
    change: AnyChange | None = None
    state: IntentState = IntentState.INTENT
    created_at: datetime
    expires_at: datetime
    act_by: datetime | None = None
    undoes: str | None = None
    slots: tuple[str, ...] = ()
    result: Told = ""
    healed: bool = False
    generation_after: int | None = None
    applied_at: datetime | None = None
