"""Guard 11, autonomy: what may be done without asking. It refuses nothing; it says who decides."""

from typing import Final

from quietpager.deciding.ground import Ground
from quietpager.model.incident import Autonomy, lowest

NUMBER: Final = 11
NAME: Final = "autonomy"
REFUSES: Final = (
    "nothing, but acts only at `auto`: at `approve` a person is asked, below it the plan is only shown"
)


def autonomy(ground: Ground) -> Autonomy:
    """Say what may be done without asking; an approval raises it for this one rehearsal.

    The incident's dial is the rule's and the policy's when it opened; the action's limit and the policy of
    now lower it once more.
    """
    if ground.incident.approved is not None:
        return Autonomy.AUTO
    incident = ground.incident
    today = ground.policy.dial(incident.autonomy, incident.owner.namespace, incident.failure_class)
    return lowest(today, ground.at_most)
