"""Where the walks begin, and within which bounds: the story's dangerous moments, each with all faults."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from quietpager.model.incident import State
from tests.model.invariants import incidents
from tests.model.moves import Bounds, Moves
from tests.model.world import Workload, World


@dataclass(frozen=True)
class Scenario:
    """One walk: the workload, how far the story has come undisturbed, and the bounds from there."""

    name: str
    workload: Workload
    begins: State | None = None
    bounds: Bounds = field(default_factory=Bounds)

    def start(self, moves: Moves) -> World:
        """Give the first state."""
        first = moves.first(self.workload)
        if self.begins is None:
            return first
        there = moves.fair(first, until=_in(self.begins))
        if not _in(self.begins)(there):
            raise AssertionError(f"{self.name}: the story never comes to {self.begins}")
        return there


def _in(state: State) -> Callable[[World], bool]:
    return lambda world: any(incident.state is state for incident in incidents(world))


HELPS: Final = Workload()
HOPELESS: Final = Workload(enough=None)

SCENARIOS: Final = (
    Scenario("from the first signal", HELPS),
    Scenario("from the committed intent", HELPS, State.ACTING),
    Scenario("from the committed intent, hopeless", HOPELESS, State.ACTING),
    Scenario("while it is verified", HELPS, State.VERIFYING),
    Scenario("while it is verified, hopeless", HOPELESS, State.VERIFYING),
    Scenario("while it is undone", HOPELESS, State.UNDOING),
)
