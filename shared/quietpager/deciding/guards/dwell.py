"""Guard 12, dwell: the symptom has lasted longer than a transient."""

from quietpager.deciding.ground import Ground
from quietpager.deciding.guard import Figures, Guard, Said


def _judge(ground: Ground) -> Said:
    incident, limit = ground.incident, ground.policy.dwell(ground.incident.dwell)
    lasted = (ground.now - incident.since).total_seconds()
    figures: Figures = {
        "lasted": lasted, "seconds": limit.seconds,
        "restarted": incident.restarts, "restarts": limit.restarts,
    }  # fmt: skip
    if ground.policy.lasted(incident.dwell, lasted, incident.restarts):
        return Said(None, figures)
    return Said(
        f"The symptom has lasted {lasted:.0f} s and {incident.restarts} restart(s); the limit is "
        f"{limit.seconds:.0f} s or {limit.restarts} restart(s).",
        figures,
    )


GUARD = Guard(
    number=12, name="dwell",
    refuses="a symptom that has not lasted longer than a transient",
    then="hold", on_undo=False, judge=_judge,
)  # fmt: skip
