"""The candidates: what a rule proposes for a diagnosis, in its order, with how far each may go.

Who calls it: the pipeline, for replay and scan; the incident keeps the same remedies in the same order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from quietpager.actions.schema import Action
from quietpager.model.data import Json
from quietpager.model.finding import Remedy
from quietpager.model.incident import Autonomy, lowest


@dataclass(frozen=True, slots=True)
class Candidate:
    """One remedy of a rule; `autonomy` is the lower one of what was given and the action's own limit.

    Whether its action is for the owner's kind, the plan says: a person is told which one was not.
    """

    remedy: Remedy
    autonomy: Autonomy

    def to_json(self) -> Json:
        """Write it as replay and scan print it."""
        return {
            "action": self.remedy.action,
            "params": self.remedy.params,
            "autonomy": self.autonomy.value,
        }


def candidates_of(
    remedies: Iterable[Remedy], dial: Autonomy, actions: Mapping[str, Action]
) -> tuple[Candidate, ...]:
    """List the candidates. `dial` is the autonomy of the rule, or of rule and policy."""
    known = ((one, actions.get(one.action)) for one in remedies)
    return tuple(
        Candidate(one, dial if action is None else lowest(dial, action.autonomy_at_most))
        for one, action in known
    )
