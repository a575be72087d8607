"""RemovePods: take pods away by eviction (policy/v1), never by a plain delete, which ignores every budget.

identity      the uid of each pod that goes, and the owner's
precondition  each eviction has the pod's uid and resourceVersion as preconditions. The uid is read before,
              for a wrong one is answered 409 and uses up the PodDisruptionBudget all the same (1.35.4)
inverse       none: a pod that is gone is gone; whoever owns it makes another one
right         create on pods/eviction
cage          `cage_rules`: an opted-in namespace, a new intent's name, both preconditions, no other grace
              period. Which pod it is, whose, and how many go, a policy cannot see: it gets the Eviction, not
              the pod. Fraction, floor and budgets are held by guards 3 and 9, and by the server's own check
guards        3 with fraction, floor and failure domain; 9; two people approve

    201 evicted   429 a budget allows none   409 another version   404 gone   500 two budgets, or a fault

A pod that was evicted keeps no mark. So whoever comes after an interrupted attempt sends again only if every
pod is exactly as pinned; else the outcome is UNKNOWN, and only verified.
"""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from quietpager.change.marks import MARK, NAME
from quietpager.change.rule import Rule, text
from quietpager.change.write import Found, InTime, Needs, Right, Write
from quietpager.model.cluster import Cluster, ClusterUnavailable, Rejected
from quietpager.model.data import Data, Json
from quietpager.model.incident import Intent, IntentState
from quietpager.model.reference import ObjectRef
from quietpager.objects.types import Pod

MOST: int = 20
"""Pods of one change; an eviction each, all before the claim ends."""


class Pins(Data):
    """The resourceVersion of each pod as it was planned on, in the order of `pods`."""

    versions: tuple[str, ...] = ()


class RemovePods(Write):
    """Evict these pods."""

    kind: Literal["remove_pods"] = "remove_pods"
    pods: tuple[ObjectRef, ...] = Field(min_length=1, max_length=MOST)
    pins: Pins

    RIGHTS: ClassVar = (Right(group="", resource="pods/eviction", verb="create"),)
    NEEDS: ClassVar = Needs(fraction=True, pdb=True, approvals=2)
    INVERSE: ClassVar = False

    @model_validator(mode="after")
    def _each_is_pinned(self) -> "RemovePods":
        if len(self.pins.versions) != len(self.pods) or not all(self.pins.versions):
            raise ValueError("pins: each pod needs the resourceVersion that it was planned on.")
        if not all(pod.uid and pod.namespace for pod in self.pods):
            raise ValueError(
                "pods: each needs its uid and namespace; a name alone may be another pod by now."
            )
        return self

    @property
    def empty(self) -> bool:
        """There is always a pod."""
        return not self.pods

    def look(self, intent: Intent, cluster: Cluster) -> Json | None:
        """Read each pod, by name; what is gone is null."""
        del intent
        return {one.name: cluster.get("Pod", one.namespace, one.name) for one in self.pods}

    def judge(self, intent: Intent, live: Json) -> Found | None:
        """Tell whether each pod is as pinned; who changed or evicted one that is not, nobody knows."""
        del intent
        for pod, version in zip(self.pods, self.pins.versions, strict=True):
            why = _differs(pod, version, live.get(pod.name))
            if why:
                return IntentState.REFUSED, why, {}
        return None

    def send(
        self, intent: Intent, live: Json, cluster: Cluster, in_time: InTime
    ) -> tuple[str, dict[str, object]]:
        """Evict one after the other; the first no, or the end of the claim, ends it.

        What was evicted before that stays evicted, so it is applied, and the sentence says how far.
        """
        del live
        for number, body in enumerate(self._evictions(intent)):
            pod = self.pods[number]
            if number and not in_time():
                return self._partly(number, "the time to act was over"), {}
            try:
                cluster.evict(str(pod.namespace), pod.name, body)
            except Rejected as no:
                self._sure(pod, number, no, cluster)
                if not number:
                    raise
                return self._partly(number, str(no)), {}
        return f"evicted {len(self.pods)} of {len(self.pods)} pod(s)", {}

    def _sure(self, pod: ObjectRef, number: int, no: Rejected, cluster: Cluster) -> None:
        """Tell a 500 that refused from one that may have come after the deed: the pod is read again."""
        if no.code < 500:
            return
        why = _differs(pod, self.pins.versions[number], cluster.get("Pod", pod.namespace, pod.name))
        if why:
            raise ClusterUnavailable(f"{no}; and {why}") from no

    def _partly(self, number: int, why: str) -> str:
        return f"evicted {number} of {len(self.pods)} pods, then: {why}"

    def try_out(self, intent: Intent, live: Json, cluster: Cluster) -> None:
        """Ask for each eviction as a dry run, which uses no budget up."""
        del live
        for pod, body in zip(self.pods, self._evictions(intent), strict=True):
            cluster.evict(str(pod.namespace), pod.name, body, dry_run=True)

    def _evictions(self, intent: Intent) -> list[Json]:
        """Give the body of each; the annotation names the intent to the policy and to the server's audit."""
        return [
            {
                "apiVersion": "policy/v1",
                "kind": "Eviction",
                "metadata": {"name": pod.name, "namespace": pod.namespace, "annotations": {MARK: intent.id}},
                "deleteOptions": {"preconditions": {"uid": pod.uid, "resourceVersion": version}},
            }
            for pod, version in zip(self.pods, self.pins.versions, strict=True)
        ]


def removal_of(pods: tuple[Pod, ...]) -> RemovePods:
    """Make the change that removes these pods, pinned to them as they are. Who calls it: an action's plan."""
    return RemovePods(
        pods=tuple(pod.ref.but(kind="Pod", api_version="v1") for pod in pods),
        pins=Pins(versions=tuple(pod.metadata.resource_version for pod in pods)),
    )


def _differs(pod: ObjectRef, version: str, raw: Json | None) -> str:
    """Say why a pod is not the one that was planned on; empty: it is."""
    if raw is None:
        return f"{pod} is gone"
    meta = raw.get("metadata") or {}
    if meta.get("uid") != pod.uid:
        return f"{pod} is another pod by now: uid {meta.get('uid')}, planned was {pod.uid}"
    if meta.get("resourceVersion") != version:
        return f"{pod} has changed since it was planned on"
    return ""


def cage_rules() -> list[Rule]:
    """Give what the API server holds of an eviction, after the rules about the place."""
    where = "object.?deleteOptions.?preconditions"
    mark = f"object.metadata.?annotations[?{text(MARK)}].orValue('')"
    return [
        Rule("intent", f"{mark}.matches({text(f'^{NAME}$')})", f"the annotation {MARK} must name an intent"),
        Rule(
            "pinned",
            f"{where}.?uid.orValue('') != '' && {where}.?resourceVersion.orValue('') != ''",
            "an eviction must name the pod's uid and resourceVersion as its preconditions",
        ),
        Rule(
            "gently",
            "!object.?deleteOptions.?gracePeriodSeconds.hasValue() && "
            "!object.?deleteOptions.?propagationPolicy.hasValue() && "
            "!object.?deleteOptions.?orphanDependents.hasValue()",
            "an eviction may not change how the pod is stopped",
        ),
    ]


CAGED = ("CREATE", "", "v1", "pods", "eviction")
"""Verb, group, version, resource and subresource, as admission names the request."""
