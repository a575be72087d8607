"""What a guard is: its declaration, its answer, and how it is asked. The guards are in `guards/`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from quietpager.change.kinds import change_of
from quietpager.change.remove_pods import RemovePods
from quietpager.deciding.ground import Ground
from quietpager.errors import Refused
from quietpager.masking.told import Told
from quietpager.model.data import Data
from quietpager.model.incident import Fleet, PlanFacts

AUDITED = "guards"
"""Kind of the audit entry that keeps what the guards said, as `{"guards": [Verdict, …], …}`."""

Figure = str | int | float | bool | None
Figures = dict[str, Figure]
"""What a guard looked at, by name."""

Then = Literal["hold", "next", "propose"]
"""What a refusal means for the plan: it must not be carried out now (`hold`), the plan itself is wrong
(`next`), or it goes to whoever owns the object (`propose`). In each case the next remedy is tried."""


@dataclass(frozen=True, slots=True)
class Said:
    """A guard's answer: its no, if it has one, and the figures. Without `applies` it had nothing to judge."""

    no: str | None = None
    figures: Figures = field(default_factory=dict)
    applies: bool = True


class Verdict(Data):
    """One guard's answer, as the audit keeps it; `sentence` is there where it refused.

    The figures are pairs, for a store may keep a map's names in an order of its own.
    """

    number: int
    guard: str
    said: Literal["pass", "refused", "not applicable"]
    sentence: Told = ""
    figures: tuple[tuple[str, Figure], ...] = ()


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard, as its file declares it.

    `number` is that of the safety design, and the order in which they are asked; `refuses` completes the
    sentence "It refuses …"; `on_undo`: it is also asked before what was written is taken back.
    """

    number: int
    name: str
    refuses: str
    then: Then
    on_undo: bool
    judge: Callable[[Ground], Said]

    def ask(self, ground: Ground) -> Verdict:
        """Ask it. A guard that raises, refuses."""
        try:
            said = self.judge(ground)
        except Exception as broken:  # noqa: BLE001 (fail closed, whatever it is)
            failed = type(broken).__name__
            said = Said(f"The guard itself failed ({failed}: {broken}), so it refuses.", {"failed": failed})
        figures = tuple(said.figures.items())
        if said.no is not None:
            sentence = f"Guard {self.number} ({self.name}): {said.no}"
            return Verdict(
                number=self.number, guard=self.name, said="refused", sentence=sentence, figures=figures
            )
        answer: Literal["pass", "not applicable"] = "pass" if said.applies else "not applicable"
        return Verdict(number=self.number, guard=self.name, said=answer, figures=figures)


def facts_of(ground: Ground) -> PlanFacts:
    """Give the facts that came with the plan.

    Raises:
        Refused: it came without; so the guard that asks refuses.
    """
    if ground.rehearsal.facts is None:
        raise Refused("the plan came without its facts")
    return ground.rehearsal.facts


def removed_by(ground: Ground) -> set[str] | None:
    """Give the uids of the pods that the plan itself takes away; None where it takes none.

    Facts come from a remediator, and it may be wrong: what removes pods is judged as such whatever they say.
    """
    change = change_of(ground.rehearsal)
    return {str(pod.uid) for pod in change.pods} if isinstance(change, RemovePods) else None


def fleet_of(ground: Ground) -> Fleet:
    """Say how the nodes are.

    Raises:
        Refused: the plan does not say; so the guard that asks refuses.
    """
    fleet = facts_of(ground).fleet
    if fleet is None:
        raise Refused("the plan does not say how the nodes are")
    return fleet


def some(names: tuple[str, ...], most: int = 5) -> str:
    """Write a list of names that may be long."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
