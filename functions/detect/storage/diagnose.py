"""Which claim keeps a pod waiting, and is it there at all?

A claim that is Pending is no fault in itself: one whose class binds at the first use waits for a pod
(https://kubernetes.io/docs/concepts/storage/storage-classes/#volume-binding-mode). So a pod must wait
for it, by its own condition, and the claim must not be bound. That provisioning was tried and failed
stands in the claim's Events only (recorded, Kubernetes 1.35); such an Event makes the class more exact,
never the difference between fault and none.
"""

from datetime import datetime
from typing import Final

from quietpager.model.event import Event
from quietpager.model.finding import Diagnosis, Evidence, Healthy, NotMine, NotYet, Verdict
from quietpager.model.signal import Signal
from quietpager.model.text import clean
from quietpager.objects.kinds.persistentvolumeclaim import KIND, Claim
from quietpager.objects.live import Live
from quietpager.objects.types import Pod

CLAIM: Final = KIND.name
_PROVISIONING: Final = "ProvisioningFailed"


def diagnose(_signal: Signal, live: Live) -> Verdict:
    """Judge a pod by its claims, or a claim by the pods that wait for it."""
    if live.target.kind == CLAIM:
        return _claim(live)
    pod = live.pod
    if pod is None:
        return NotMine(family="unknown", why="only pods wait for claims")
    if pod.leaving or not _waits(pod):
        return Healthy(why="the pod waits for no node, so for no claim either")
    if not _claims(pod):
        return NotMine(family="unknown", why="the pod has no claim to wait for")
    for name in _claims(pod):
        verdict = _unbound(live, pod, name)
        if verdict is not None:
            return verdict
    return NotYet(why="all of its claims are bound")


def _claim(live: Live) -> Verdict:
    name, namespace = live.target.name, live.target.namespace
    every = (
        Pod.read(raw | {"kind": "Pod", "apiVersion": "v1"}) for raw in live.reader.each("Pod", namespace)
    )
    waiting = [pod for pod in every if name in _claims(pod) and _waits(pod) and not pod.leaving]
    for pod in waiting:
        verdict = _unbound(Live(live.reader, pod.ref), pod, name, live.event)
        if verdict is not None:
            return verdict
    return Healthy(why="it is bound" if waiting else "no pod waits for it")


def _waits(pod: Pod) -> bool:
    scheduled = pod.condition("PodScheduled")
    return scheduled is not None and scheduled.reason == "Unschedulable"


def _claims(pod: Pod) -> list[str]:
    sources = (volume.persistent_volume_claim for volume in pod.spec.volumes)
    return [source.claim_name for source in sources if source is not None]


def _unbound(live: Live, pod: Pod, name: str, told: Event | None = None) -> Diagnosis | None:
    namespace, owner = pod.metadata.namespace, live.owner
    raw = live.reader.get(CLAIM, namespace, name)
    claim = None if raw is None else Claim.read(raw)
    if owner is None or (claim is not None and claim.status.phase == "Bound"):
        return None
    state = "does not exist" if claim is None else f"is {claim.status.phase or 'Pending'}"
    text = f"{pod.metadata.name} waits for claim {name}, which {state}"
    if claim is not None:
        text += f" (storage class {claim.spec.storage_class_name or 'none given'})"
    evidence = [Evidence(text=text, source=f"{CLAIM} {namespace}/{name} status.phase")]
    failed = claim is not None and told is not None and told.reason == _PROVISIONING
    if failed and told is not None:
        evidence.append(Evidence(text=clean(told.message, 300), source=f"Event about {told.target}"))
    return Diagnosis(
        failure_class="pvc_provisioning_failed" if failed else "pvc_unbound",
        cause=f"pvc:{namespace}/{name}",
        owner=owner,
        evidence=tuple(evidence),
        since=pod.metadata.creation_timestamp or datetime.fromisoformat("1970-01-01T00:00:00+00:00"),
    )
