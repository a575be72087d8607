"""Why can an image not be pulled? The registry's own answer, as the kubelet wrote it into the status.

Status texts are those of containerd through a 1.35 kubelet (recorded); patterns are tried in order.
"""

import re
from datetime import datetime

from quietpager.model.finding import Diagnosis, Evidence, Healthy, NotMine, NotYet, Verdict
from quietpager.model.reference import ObjectRef
from quietpager.model.signal import Signal
from quietpager.model.text import clean
from quietpager.objects.live import Live
from quietpager.objects.revision import revision_facts
from quietpager.objects.types import ContainerStatus, Pod

PULL_WAITS = frozenset(
    {
        "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName",
        "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed",
    }
)  # fmt: skip

_BY_REASON = {
    "ErrImageNeverPull": "image_pull_not_found",
    "InvalidImageName": "image_invalid",
    "SignatureValidationFailed": "image_invalid",
}
_BY_TEXT: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("image_pull_rate_limited", re.compile(r"429 Too Many|toomanyrequests|rate limit", re.IGNORECASE)),
    ("image_pull_auth", re.compile(
        r"40[13] (?:Unauthorized|Forbidden)|unauthorized|authentication required|denied|no basic auth"
        r"|authorization failed|insufficient_scope", re.IGNORECASE)),
    ("image_invalid", re.compile(
        r"invalid reference format|couldn't parse image|no match for platform|no matching manifest"
        r"|unsupported media type|invalid checksum|unexpected media type", re.IGNORECASE)),
    ("image_pull_not_found", re.compile(
        r"code = NotFound|404 Not Found|manifest unknown|name unknown|not found|does not exist",
        re.IGNORECASE)),
    ("image_pull_network", re.compile(
        r"dial tcp|lookup |no such host|i/o timeout|timed? ?out|connection re(?:fused|set)|x509|tls:"
        r"|proxyconnect|EOF|deadline exceeded|50[0-4] [A-Z]", re.IGNORECASE)),
)  # fmt: skip
_NETWORK_FIRST = re.compile(r"no such host|dial tcp|connection refused", re.IGNORECASE)


def diagnose(_signal: Signal, live: Live) -> Verdict:
    """Judge the pod's containers; the first that waits for its image counts."""
    pod = live.pod
    if pod is None or live.owner is None:
        return NotMine(family="unknown", why="only pods pull images")
    if pod.leaving:
        return Healthy(why="the pod is on its way out")
    for one in pod.containers:
        waiting = one.state.waiting
        if waiting is not None and waiting.reason in PULL_WAITS:
            return _found(live, pod, one, waiting.reason, waiting.message)
    pulled = all(c.state.running or c.ended for c in pod.status.container_statuses)
    if pod.ready or (pulled and pod.status.container_statuses):
        return Healthy(why="every image has been pulled")
    return NotYet(why="no container waits for its image yet")


def class_of(reason: str, message: str) -> str | None:
    """Tell the failure class from the waiting reason and the registry's answer; None: not told yet."""
    if reason in _BY_REASON:
        return _BY_REASON[reason]
    if _NETWORK_FIRST.search(message):
        return "image_pull_network"
    return next((name for name, pattern in _BY_TEXT if pattern.search(message)), None)


def registry_of(image: str) -> str:
    """Name the registry host of an image reference, by Docker's rule for the first part."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"


def _found(live: Live, pod: Pod, one: ContainerStatus, reason: str, message: str) -> Verdict:
    owner = live.owner
    assert owner is not None  # noqa: S101 (diagnose has looked)
    image = next(
        (c.image for c in (*pod.spec.init_containers, *pod.spec.containers) if c.name == one.name),
        one.image,
    )
    # The reference itself may hold any word; only what the registry said about it counts.
    failure_class = class_of(reason, message.replace(image, "<image>") if image else message)
    if failure_class is None:
        if reason == "RegistryUnavailable":
            failure_class = "image_pull_network"
        else:
            # The kubelet shows the bare reason first and the registry's answer a moment later.
            return NotYet(why=f"{one.name}: {reason} without the registry's answer")
    facts, more = revision_facts(live, one.name)
    return Diagnosis(
        failure_class=failure_class,
        cause=_cause(failure_class, registry_of(image), owner),
        owner=owner,
        evidence=(
            Evidence(
                text=f"{one.name} in {pod.metadata.name} cannot pull {clean(image, 200)}: {clean(message)}",
                source=f"Pod {pod.metadata.namespace}/{pod.metadata.name} status.containerStatuses",
            ),
            *more,
        ),
        facts=facts,
        restarts=0,
        since=pod.metadata.creation_timestamp or datetime.fromisoformat("1970-01-01T00:00:00+00:00"),
    )


def _cause(failure_class: str, registry: str, owner: ObjectRef) -> str:
    """Name what is wrong: the registry for all, or for one namespace's credentials, or the workload.

    Pull credentials are a namespace's own. A pod that asks anybody's registry for what it may not have must
    not stand for the others, whose failures would then be added to its incident. One registry can fail in
    several ways at once, and each is a cause of its own.
    """
    if failure_class in ("image_pull_network", "image_pull_rate_limited"):
        return f"registry:{registry}#{failure_class.removeprefix('image_pull_')}"
    if failure_class == "image_pull_auth":
        return f"registry:{registry}/{owner.namespace}#auth"
    return f"workload:{owner.identity}"
