"""What does a pod refer to that is not there? A ConfigMap, a Secret, or a key in one.

Judged from what the kubelet wrote and what the pod's spec refers to; no ConfigMap or Secret is ever
read. A missing one that is an environment variable stands in the container's status
(CreateContainerConfigError). One that is a volume stands in an Event only: the status shows a pod that
does not get its containers started (recorded, Kubernetes 1.35). So there the Event, or the incident
that asks again, names the object, and spec and status must bear it out.

Texts: k8s.io/kubernetes pkg/kubelet/kubelet_pods.go, kuberuntime/security_context.go,
pkg/volume/{configmap,secret,projected}, 1.35.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

from quietpager.model.finding import Diagnosis, Evidence, Healthy, NotMine, NotYet, Verdict
from quietpager.model.signal import Signal
from quietpager.model.text import clean
from quietpager.objects.health import waits_to_start
from quietpager.objects.live import Live
from quietpager.objects.types import ContainerStatus, Pod, Volume, VolumeSource

WAIT: Final = "CreateContainerConfigError"
CLASSES: Final = {"configmap": "config_missing_configmap", "secret": "config_missing_secret"}

_NAME: Final = r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?"
_ABSENT: Final = re.compile(rf'(?P<kind>configmap|secret) "(?P<name>{_NAME})" not found')
_NO_KEY: Final = re.compile(
    rf"couldn't find key \S+ in (?P<kind>ConfigMap|Secret) (?P<namespace>{_NAME})/(?P<name>{_NAME})"
)
_VOLUME: Final = re.compile(r'for volume "(?P<volume>[^"]+)"')
_NO_VOLUME_KEY: Final = re.compile(r"references non-existent (?P<kind>config|secret) key")
_REFUSED: Final = re.compile(r"runAsNonRoot|runAsUser")


class Missing(NamedTuple):
    """What is not there: `configmap` or `secret`, its name, and whether only a key in it is missing."""

    kind: str
    name: str


def diagnose(_signal: Signal, live: Live) -> Verdict:
    """Judge the pod's containers, then its volumes; the first that lacks something counts."""
    pod = live.pod
    if pod is None or live.owner is None:
        return NotMine(family="unknown", why="only pods refer to ConfigMaps and Secrets")
    if pod.leaving:
        return Healthy(why="the pod is on its way out")
    for one in pod.containers:
        waiting = one.state.waiting
        if waiting is not None and waiting.reason == WAIT:
            return _container(live, pod, one, waiting.message)
    if pod.ready or not waits_to_start(pod):
        return Healthy(why="no container waits for its configuration")
    return _volume(live, pod)


def _container(live: Live, pod: Pod, one: ContainerStatus, message: str) -> Verdict:
    where = f"Pod {pod.metadata.namespace}/{pod.metadata.name} status.containerStatuses"
    said = Evidence(
        text=f"{one.name} in {pod.metadata.name} cannot start: {clean(message, 300)}", source=where
    )
    match = _ABSENT.search(message) or _NO_KEY.search(message)
    if match is not None:
        return _found(live, pod, Missing(match["kind"].lower(), match["name"]), said)
    if _REFUSED.search(message):
        return _diagnosis(live, pod, "security_context_rejected", None, said)
    return NotMine(family="unknown", why=f"{one.name}: {clean(message, 200)}")


def _volume(live: Live, pod: Pod) -> Verdict:
    ready = pod.condition("PodReadyToStartContainers")
    if ready is not None and ready.status == "True":
        return NotYet(why="its volumes are there, and no container has started yet")
    referred = set(_referred(pod.spec.volumes))
    told = "" if live.event is None else live.event.message
    missing = next((one for one in _named(live.cause or "", told, pod) if one in referred), None)
    if missing is None:
        return NotYet(why="it waits for its volumes, and nothing says yet for which")
    text = f"{pod.metadata.name} waits for a volume of {missing.kind} {missing.name}"
    if told:
        text += f": {clean(told, 200)}"
    where = f"Pod {pod.metadata.namespace}/{pod.metadata.name} spec.volumes, status.conditions"
    return _found(live, pod, missing, Evidence(text=text, source=where))


def _named(cause: str, told: str, pod: Pod) -> Iterator[Missing]:
    """Give what the incident that asks again, or the Event on the API server, says is missing."""
    kind, _, place = cause.partition(":")
    namespace, _, name = place.partition("/")
    if kind in CLASSES and namespace == pod.metadata.namespace:
        yield Missing(kind, name)
    for match in _ABSENT.finditer(told):
        yield Missing(match["kind"], match["name"])
    key, volume = _NO_VOLUME_KEY.search(told), _VOLUME.search(told)
    if key is not None and volume is not None:
        wanted = "secret" if key["kind"] == "secret" else "configmap"
        mine = [one for one in pod.spec.volumes if one.name == volume["volume"]]
        yield from (one for one in _referred(mine) if one.kind == wanted)


def _referred(volumes: tuple[Volume, ...] | list[Volume]) -> Iterator[Missing]:
    """List the ConfigMaps and Secrets without which a pod's volumes cannot be set up."""
    for volume in volumes:
        sources = () if volume.projected is None else volume.projected.sources
        for config_map in (volume.config_map, *(one.config_map for one in sources)):
            yield from _needed("configmap", config_map)
        for secret in (volume.secret, *(one.secret for one in sources)):
            yield from _needed("secret", secret)


def _needed(kind: str, source: VolumeSource | None) -> Iterator[Missing]:
    if source is not None and not source.optional:
        yield Missing(kind, source.secret_name or source.name)


def _found(live: Live, pod: Pod, missing: Missing, said: Evidence) -> Diagnosis:
    return _diagnosis(live, pod, CLASSES[missing.kind], missing, said)


def _diagnosis(
    live: Live, pod: Pod, failure_class: str, missing: Missing | None, said: Evidence
) -> Diagnosis:
    owner = live.owner
    assert owner is not None  # noqa: S101 (diagnose has looked)
    own = f"workload:{owner.identity}"
    return Diagnosis(
        failure_class=failure_class,
        cause=own if missing is None else f"{missing.kind}:{pod.metadata.namespace}/{missing.name}",
        owner=owner,
        evidence=(said,),
        since=pod.metadata.creation_timestamp or datetime.fromisoformat("1970-01-01T00:00:00+00:00"),
    )
