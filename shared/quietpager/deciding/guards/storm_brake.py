"""Guard 6, storm brake: so much at once is the observer's fault, or a case for a person."""

from quietpager.deciding.ground import Ground
from quietpager.deciding.guard import Figures, Guard, Said, fleet_of


def _judge(ground: Ground) -> Said:
    limits, fleet, count = ground.policy.storm, fleet_of(ground), ground.openings
    where = ground.incident.owner.namespace or "(none)"
    figures: Figures = {
        "here": count.own, "here_allowed": limits.namespace,
        "everywhere": count.acting, "everywhere_allowed": limits.incidents, "namespaces": count.namespaces,
        "each_counts_for": limits.each, "window": limits.window,
        "unhealthy": fleet.unhealthy, "nodes": fleet.nodes, "part": limits.nodes,
    }  # fmt: skip
    no = None
    if count.own > limits.namespace:
        no = (
            f"More than {limits.namespace} incidents opened in namespace {where} in {limits.window:.0f} s. "
            "Acting has stopped there, and only there; a person looks first."
        )
    elif count.acting > limits.incidents:
        no = (
            f"More than {limits.incidents} incidents opened in {limits.window:.0f} s in {count.namespaces} "
            f"namespaces, of which each counts for {limits.each} at most: suspect the observer. All acting "
            "has stopped; a person looks first."
        )
    elif fleet.unhealthy > 1 and fleet.unhealthy > limits.nodes * fleet.nodes:
        no = (
            f"{fleet.unhealthy} of {fleet.nodes} nodes are unhealthy, the limit is {limits.nodes:.0%}: "
            "suspect the observer, or the cluster itself. All acting has stopped; a person looks first."
        )
    return Said(no, figures)


GUARD = Guard(
    number=6, name="storm brake",
    refuses="acting while too many incidents open at once, or too many nodes are unhealthy",
    then="hold", on_undo=False, judge=_judge,
)  # fmt: skip
