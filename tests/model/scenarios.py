"""Where the walks begin, and within which bounds: the story's dangerous moments, each with all faults."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from quietpager.incident.policy import Policy
from quietpager.model.incident import State
from tests.model.invariants import incidents
from tests.model.moves import ASKING, PERSON, POLICY, Bounds, Moves, People
from tests.model.world import Workload, World


@dataclass(frozen=True)
class Scenario:
    """One walk: the workload, how far the story has come undisturbed, and the bounds from there.

    `approved`: on the way there ann has answered the question with yes. `open`: whose pages of the question
    are open when the walk begins, and what they will click. `approvals`: how many must approve; no action of
    the catalogue needs two yet, so here this one does. `healed`: from the question on it was well.
    """

    name: str
    workload: Workload
    begins: State | None = None
    bounds: Bounds = field(default_factory=Bounds)
    policy: Policy = POLICY
    approved: bool = False
    open: People = ()
    approvals: Literal[1, 2] = 1
    healed: bool = False

    def moves(self) -> Moves:
        """Give its moves."""
        return Moves.of(self.bounds, self.policy, self.approvals)

    def start(self, moves: Moves) -> World:
        """Give the first state."""
        first = moves.first(self.workload)
        if self.begins is None:
            return first
        if self.approved or self.open:
            first = moves.fair(first, until=_in(State.APPROVAL))
        if self.approved:
            first = moves.answered(first, "ann", "approve")
        pages = first
        for by, decision in self.open:
            pages = moves.opened(pages, by, decision)
        clicks = [message for key, message in pages.flight.items() if key not in first.flight]
        if self.healed:
            first = replace(first, workload=replace(first.workload, healed=True))
        there = moves.fair(first, until=_in(self.begins)).send(*clicks)
        if not _in(self.begins)(there):
            raise AssertionError(f"{self.name}: the story never comes to {self.begins}")
        return there


def _in(state: State) -> Callable[[World], bool]:
    return lambda world: any(incident.state is state for incident in incidents(world))


HELPS: Final = Workload()
HOPELESS: Final = Workload(enough=None)

RACE: Final = (("ann", "approve"), ("bob", "reject"))
PAIR: Final = (("ann", "approve"), ("Ann ", "approve"), ("bob", "approve"))
LATE: Final = (("bob", "approve"), ("cat", "reject"))

CALM: Final = Bounds(sleeps=1, faults=0)
TWICE: Final = Bounds(sleeps=0, faults=1, allowed=("duplicate", "crash", "store", "edit"))
EXPIRES: Final = Bounds(sleeps=5, faults=0, who=("govern-decide", PERSON))
RELAPSES: Final = Bounds(workers=1, sleeps=2, allowed=("heal", "relapse", "edit"), people=LATE)
AGAIN: Final = Bounds(sleeps=1, allowed=("relapse", "duplicate", "crash", "store", "stop"))

APPROVAL: Final = State.APPROVAL
SCENARIOS: Final = (
    Scenario("from the first signal", HELPS),
    Scenario("from the committed intent", HELPS, State.ACTING),
    Scenario("from the committed intent, hopeless", HOPELESS, State.ACTING),
    Scenario("while it is verified", HELPS, State.VERIFYING),
    Scenario("while it is verified, hopeless", HOPELESS, State.VERIFYING),
    Scenario("while it is undone", HOPELESS, State.UNDOING),
    Scenario("while a person is asked", HELPS, APPROVAL, Bounds(sleeps=1, faults=1), ASKING, open=RACE),
    Scenario("while three people answer", HELPS, APPROVAL, CALM, ASKING, open=(("dan", "approve"), *RACE)),
    Scenario("while two are needed", HELPS, APPROVAL, TWICE, ASKING, open=PAIR, approvals=2),
    Scenario("as a question expires", HELPS, APPROVAL, EXPIRES, ASKING, open=RACE),
    Scenario("from an answer given", HELPS, APPROVAL, Bounds(sleeps=0), ASKING, approved=True, open=LATE),
    Scenario("from an answer taken up", HELPS, State.PLANNING, Bounds(sleeps=1), ASKING, approved=True),
    Scenario("from the approved intent", HELPS, State.ACTING, RELAPSES, ASKING, approved=True),
    Scenario("once it healed unanswered", HELPS, State.CLOSED, AGAIN, ASKING, open=RACE, healed=True),
    Scenario("once it healed, approved", HELPS, State.CLOSED, AGAIN, ASKING, approved=True, healed=True),
)
