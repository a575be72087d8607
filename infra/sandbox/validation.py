"""Defaults and checks of objects, as far as the product can run into them.

Called by `registry` before each write. Defaults follow k8s.io/kubernetes `pkg/apis/*/v1/defaults`,
messages `pkg/apis/*/validation`.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from infra.sandbox.answers import Problem, invalid
from infra.sandbox.kinds import KINDS, Resource
from infra.sandbox.patching import same
from quietpager.model.quantity import quantity

Json = dict[str, Any]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SUBDOMAIN: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_QUANTITY: Final = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)


class Undecodable(Exception):  # noqa: N818 (not an error of ours)
    """The JSON does not fit the kind's Go type; 400 for a create, 422 for a patch."""


def decode(obj: Json) -> None:
    """Check what the API server's decoder checks; raises Undecodable."""
    for key in ("metadata", "spec", "status"):
        if not isinstance(obj.get(key, {}), dict):
            raise Undecodable(f"json: cannot unmarshal into Go struct field {obj['kind']}.{key}")
    for key in ("labels", "annotations"):
        values = obj["metadata"].get(key) or {}
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            raise Undecodable(f"json: cannot unmarshal into Go struct field ObjectMeta.{key}")
    try:
        for amount in _amounts(obj):
            quantity(amount)
    except ValueError as error:
        raise Undecodable(_QUANTITY) from error
    except (TypeError, AttributeError) as error:
        raise Undecodable(f"json: cannot unmarshal into Go struct field: {error}") from error


def _amounts(obj: Json) -> Iterator[Any]:
    for _, container in containers(obj):
        resources = container.get("resources") or {}
        for amounts in (resources.get("requests"), resources.get("limits")):
            yield from (amounts or {}).values()
    if obj["kind"] == "ResourceQuota":
        yield from (obj.get("spec", {}).get("hard") or {}).values()


def pod_spec(obj: Json) -> tuple[str, Json] | None:
    """Find the pod spec in an object, with its path."""
    if obj["kind"] == "Pod":
        return "spec", obj.get("spec") or {}
    if obj["kind"] in {"Deployment", "ReplicaSet"}:
        template = obj.get("spec", {}).get("template") or {}
        return "spec.template.spec", template.get("spec") or {}
    return None


def containers(obj: Json) -> Iterator[tuple[str, Json]]:
    """Walk an object's containers, with their paths."""
    if found := pod_spec(obj):
        path, spec = found
        for field in ("initContainers", "containers"):
            for index, container in enumerate(spec.get(field) or ()):
                yield f"{path}.{field}[{index}]", container


def set_defaults(obj: Json) -> None:
    """Fill in what the API server fills in."""
    spec = obj.get("spec") or {}
    if obj["kind"] == "Deployment":
        spec.setdefault("replicas", 1)
        spec.setdefault("revisionHistoryLimit", 10)
        spec.setdefault("progressDeadlineSeconds", 600)
        strategy = spec.setdefault("strategy", {})
        if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxSurge", "25%")
            rolling.setdefault("maxUnavailable", "25%")
    elif obj["kind"] == "ReplicaSet":
        spec.setdefault("replicas", 1)
    elif obj["kind"] == "Namespace":
        labels = obj["metadata"].setdefault("labels", {})
        labels.setdefault("kubernetes.io/metadata.name", obj["metadata"]["name"])
        obj.setdefault("spec", {"finalizers": ["kubernetes"]})
        obj.setdefault("status", {"phase": "Active"})
    found = pod_spec(obj)
    if found and found[1].get("containers"):
        _pod_defaults(found[1])
    for _, container in containers(obj):
        _container_defaults(container, of_a_pod=obj["kind"] == "Pod")


def _pod_defaults(spec: Json) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")


def _container_defaults(container: Json, *, of_a_pod: bool) -> None:
    image = container.get("image", "")
    latest = image.endswith(":latest") or ":" not in image.rpartition("/")[2]
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    resources = container.setdefault("resources", {})
    if of_a_pod and resources.get("limits"):
        # A template keeps its requests open; only a pod gets them from its limits.
        resources["requests"] = resources["limits"] | (resources.get("requests") or {})


def check(resource: Resource, obj: Json, before: Json | None) -> None:
    """Check an object that is about to be written; raises Problem 422."""
    name = obj["metadata"]["name"]
    if not _NAME.fullmatch(name) or len(name) > 253:
        text = f'Invalid value: "{name}": {_SUBDOMAIN}'
        raise invalid(resource, name, "metadata.name", text)
    for path, container in containers(obj):
        _check_resources(resource, name, path, container)
    if resource.kind in {"Deployment", "ReplicaSet"}:
        _check_workload(resource, name, obj, before)
    elif resource.kind == "Pod" and not obj.get("spec", {}).get("containers"):
        raise invalid(resource, name, "spec.containers", "Required value")
    elif resource.kind == "Event":
        _check_event(resource, name, obj)


def _check_workload(resource: Resource, name: str, obj: Json, before: Json | None) -> None:
    spec = obj.get("spec") or {}
    selector, template = spec.get("selector"), spec.get("template") or {}
    if before and not same(selector, before["spec"].get("selector")):
        raise invalid(resource, name, "spec.selector", "Invalid value: field is immutable")
    if not selector or not selector.get("matchLabels"):
        raise invalid(resource, name, "spec.selector", "Required value")
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not selector["matchLabels"].items() <= labels.items():
        text = "Invalid value: `selector` does not match template `labels`"
        raise invalid(resource, name, "spec.template.metadata.labels", text)
    if not (template.get("spec") or {}).get("containers"):
        raise invalid(resource, name, "spec.template.spec.containers", "Required value")
    replicas = spec.get("replicas")
    if not isinstance(replicas, int) or replicas < 0:
        text = f"Invalid value: {replicas}: must be greater than or equal to 0"
        raise invalid(resource, name, "spec.replicas", text)


def _check_resources(resource: Resource, name: str, path: str, container: Json) -> None:
    for field in ("name", "image"):
        if not container.get(field):
            raise invalid(resource, name, f"{path}.{field}", "Required value")
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    for what, amount in (resources.get("requests") or {}).items():
        if what in limits and quantity(amount) > quantity(limits[what]):
            text = f'Invalid value: "{amount}": must be less than or equal to {what} limit of {limits[what]}'
            raise invalid(resource, name, f"{path}.resources.requests", text)
    for what, amount in limits.items():
        if quantity(amount) < 0:
            text = f'Invalid value: "{amount}": must be greater than or equal to 0'
            raise invalid(resource, name, f"{path}.resources.limits[{what}]", text)


def _check_event(resource: Resource, name: str, obj: Json) -> None:
    own = obj["metadata"].get("namespace")
    involved = (obj.get("involvedObject") or {}).get("namespace") or ""
    # An Event about an object without a namespace may only live in these two.
    allowed = {own} if involved else {"default", "kube-system"}
    if (involved or own) not in allowed:
        text = f'Invalid value: "{involved}": does not match event.namespace'
        raise invalid(resource, name, "involvedObject.namespace", text)


def immutable_uid(obj: Json, uid: str) -> Problem:
    """Say that a write named another uid."""
    text = f'Invalid value: "{uid}": field is immutable'
    return invalid(KINDS[obj["kind"]], obj["metadata"]["name"], "metadata.uid", text)
