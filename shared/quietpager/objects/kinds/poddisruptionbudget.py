"""PodDisruptionBudget: well when as many pods are healthy as it demands.

Status: https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/pod-disruption-budget-v1/. That
no disruption is allowed just now is what a budget is for, and no fault. `SyncFailed` on condition
DisruptionAllowed: the controller could not count, and the budget then allows none.
"""

from quietpager.model.cluster import Reader
from quietpager.objects.kind import ObjectKind, Resource, unseen
from quietpager.objects.types import Object, Status


class BudgetStatus(Status):
    """Status of a budget."""

    current_healthy: int = 0
    desired_healthy: int = 0
    disruptions_allowed: int = 0
    expected_pods: int = 0


class PodDisruptionBudget(Object):
    """A PodDisruptionBudget."""

    status: BudgetStatus = BudgetStatus()


class PodDisruptionBudgetKind(ObjectKind):
    """What the product knows of disruption budgets."""

    resource = Resource("PodDisruptionBudget", "poddisruptionbudgets", "policy", has_generation=True)
    view = PodDisruptionBudget
    tells_all = False

    def unsettled(self, one: PodDisruptionBudget, reader: Reader) -> str | None:
        """Too few pods are healthy, or nobody could count them."""
        del reader
        if why := unseen(one):
            return why
        if any(c.reason == "SyncFailed" for c in one.status.conditions):
            return "its controller cannot count the pods (SyncFailed)"
        status = one.status
        if status.current_healthy < status.desired_healthy:
            return f"{status.current_healthy} pods are healthy, {status.desired_healthy} are demanded"
        return None

    def well(self, one: PodDisruptionBudget) -> str:
        """Say how many may go."""
        return f"{one.status.disruptions_allowed} disruptions are allowed"


KIND = PodDisruptionBudgetKind()
