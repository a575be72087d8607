"""HorizontalPodAutoscaler: well when it can scale and has its metrics.

Conditions AbleToScale, ScalingActive and ScalingLimited
(https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale-walkthrough/, appendix).
ScalingActive is False with reason `ScalingDisabled` where somebody scaled the target to zero: that is no
fault (pkg/controller/podautoscaler/horizontal.go). ScalingLimited says that a bound is reached, which is
what bounds are for.
"""

from quietpager.model.cluster import Reader
from quietpager.objects.kind import ObjectKind, Resource
from quietpager.objects.types import Condition, Object, Status

OFF = "ScalingDisabled"


class HorizontalPodAutoscaler(Object):
    """A HorizontalPodAutoscaler."""

    status: Status = Status()


class HorizontalPodAutoscalerKind(ObjectKind):
    """What the product knows of HorizontalPodAutoscalers."""

    resource = Resource("HorizontalPodAutoscaler", "horizontalpodautoscalers", "autoscaling", "v2")
    view = HorizontalPodAutoscaler
    well_when = {"AbleToScale": "True", "ScalingActive": "True"}
    dated_by = ("AbleToScale", "ScalingActive")

    def bad_news(self, one: Object) -> tuple[Condition, ...]:
        """A target that was scaled to zero is left alone on purpose."""
        return tuple(c for c in super().bad_news(one) if c.reason != OFF)

    def unsettled(self, one: HorizontalPodAutoscaler, reader: Reader) -> str | None:
        """It cannot scale, or has no metrics."""
        del reader
        for bad in self.bad_news(one):
            return f"{bad.type} is {bad.status}: {bad.reason}"
        return None

    def well(self, one: HorizontalPodAutoscaler) -> str:
        """Say so."""
        del one
        return "it can scale"


KIND = HorizontalPodAutoscalerKind()
