"""What a detector found on the live object."""

from datetime import datetime
from typing import Literal

from quietpager.masking.told import Told
from quietpager.model.data import Data
from quietpager.model.page import Fact, Page
from quietpager.model.reference import ObjectRef

Outcome = Literal["failing", "healthy", "gone", "unreadable"]


class Evidence(Fact):
    """A fact that a finding rests on."""


class Remedy(Data):
    """An action with parameters, proposed by a rule, the analyst or a person."""

    action: str
    params: dict[str, str | float] = {}


class Diagnosis(Data):
    """A detector's verdict that something is wrong. `facts` are the names a rule's `when:` may use.

    `restarts` and `since` are what the dwell is judged by; `last_failure` is the newest proof that it
    fails (None: it fails as we look); `time_to_failure` (seconds) is how long
    the thing ran before it last failed, which sets how long a fix must hold. `page` is the analyst's.
    """

    failure_class: str
    cause: str
    owner: ObjectRef
    evidence: tuple[Evidence, ...]
    facts: frozenset[str] = frozenset()
    restarts: int = 0
    since: datetime
    last_failure: datetime | None = None
    time_to_failure: float = 0.0
    page: Page | None = None


class Healthy(Data):
    """Nothing is wrong with the live object, or it heals by itself."""

    why: Told


class NotYet(Data):
    """The signal says more than the status does; it is worth another look in a moment.

    `again_in` are the seconds until then; None: the clock's next tick.
    """

    why: Told
    again_in: float | None = None


class NotMine(Data):
    """Another family's; the signal goes on with that family."""

    family: str
    why: Told


Verdict = Diagnosis | Healthy | NotYet | NotMine


class Dwell(Data):
    """How long a symptom must have lasted: `seconds`, or `restarts` at once."""

    seconds: float = 60.0
    restarts: int = 2


class Finding(Data):
    """The record of what a detector found, written over in place; `serial` counts how often.

    Of an incident it is the newest look, and `spoken` the moment of the due item that it answers. Of a target
    it says what is wrong for one cause; `rests_on` stands for what was read, and `closing` for the closed
    incident, if there was one, that it was told after.
    """

    id: str
    cluster: str = ""
    incident: str | None = None
    serial: int = 0
    outcome: Outcome
    at: datetime
    family: str
    target: ObjectRef
    why: Told
    diagnosis: Diagnosis | None = None
    remedies: tuple[Remedy, ...] = ()
    autonomy: str = "alert"
    dwell: Dwell = Dwell()
    available: int = 0
    rests_on: str = ""
    closing: str = ""
    spoken: datetime | None = None
