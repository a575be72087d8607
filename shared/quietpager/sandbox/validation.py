"""Defaults and checks of objects, as far as the product can run into them.

Called by `registry` before each write. Defaults follow k8s.io/kubernetes `pkg/apis/*/v1/defaults`,
messages `pkg/apis/*/validation`.
"""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from quietpager.model.quantity import quantity
from quietpager.objects.kind import Resource
from quietpager.sandbox.answers import Problem, invalid, invalid_fields
from quietpager.sandbox.kinds import KINDS
from quietpager.sandbox.patching import same

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


_KEY = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_CHARACTERS: Final = (
    "consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'My{0}',  or 'my{1}',  or '{2}', regex used for validation is "
)
_BAD_KEY: Final = f"name part must {_CHARACTERS.format('Name', '.name', '123-abc')}'{_KEY.pattern}')"
_BAD_VALUE: Final = (
    "a valid label must be an empty string or "
    f"{_CHARACTERS.format('Value', '_value', '12345')}'{_VALUE.pattern}')"
)
_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_WHOLE_NUMBERS: Final = {
    "Deployment": ("replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"),
    "ReplicaSet": ("replicas", "minReadySeconds"),
}

Wrong = Iterator[tuple[str, str]]
"""Fields that are refused, each with its sentence, in the API server's order."""


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
    _decode_numbers(obj)
    if obj["kind"] == "Event":
        _decode_times(obj)


def _decode_numbers(obj: Json) -> None:
    for key in _WHOLE_NUMBERS.get(obj["kind"], ()):
        value = obj.get("spec", {}).get(key)
        if value is not None and type(value) is not int:
            what = "string" if isinstance(value, str) else f"number {value}"
            where = f"{obj['kind']}Spec.spec.{key} of type int32"
            raise Undecodable(f"json: cannot unmarshal {what} into Go struct field {where}")


def _decode_times(event: Json) -> None:
    for key in ("eventTime", "firstTimestamp", "lastTimestamp"):
        if (text := event.get(key)) is not None:
            try:
                datetime.fromisoformat(text)
            except (TypeError, ValueError) as error:
                raise Undecodable(f'parsing time "{text}": cannot parse "{text}" as "2006"') from error


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
    elif obj["kind"] == "Event":
        for key in ("eventTime", "firstTimestamp", "lastTimestamp"):
            obj.setdefault(key, None)
        for key in ("reportingComponent", "reportingInstance"):
            obj.setdefault(key, "")
        obj.setdefault("source", {})
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
    """Check an object that is about to be written; raises Problem 422 with all that is wrong."""
    wrong = [*_wrong(obj, before)]
    if wrong:
        raise invalid_fields(resource, obj["metadata"]["name"], wrong)


def _wrong(obj: Json, before: Json | None) -> Wrong:
    name, kind = obj["metadata"]["name"], obj["kind"]
    if not _NAME.fullmatch(name) or len(name) > 253:
        yield "metadata.name", f'Invalid value: "{name}": {_SUBDOMAIN}'
    yield from _wrong_metadata(obj["metadata"])
    yield from _wrong_of_kind(obj, before)
    seen: set[str] = set()
    for path, container in containers(obj):
        yield from _wrong_container(path, container)
        if container.get("name") in seen:
            yield f"{path}.name", f'Duplicate value: "{container["name"]}"'
        seen.add(container.get("name") or "")
    if kind == "Deployment":
        yield from _wrong_restarts((obj["spec"].get("template") or {}).get("spec") or {})
    if kind == "Pod" and before is not None:
        yield from _moved(obj, before)


def _wrong_of_kind(obj: Json, before: Json | None) -> Wrong:
    kind = obj["kind"]
    if kind in {"Deployment", "ReplicaSet"}:
        yield from _wrong_workload(obj, before)
    elif kind == "Pod" and not obj.get("spec", {}).get("containers"):
        yield "spec.containers", "Required value"
    elif kind == "ResourceQuota":
        for what, amount in (obj.get("spec", {}).get("hard") or {}).items():
            yield from _negative(f"spec.hard[{what}]", amount)
    elif kind == "Event":
        yield from _wrong_event(obj)


def _wrong_metadata(metadata: Json) -> Wrong:
    for field in ("labels", "annotations"):
        for key, value in (metadata.get(field) or {}).items():
            if not _KEY.fullmatch(key.rpartition("/")[2]):
                yield f"metadata.{field}", f'Invalid value: "{key}": {_BAD_KEY}'
            if field == "labels" and not _VALUE.fullmatch(value):
                yield "metadata.labels", f'Invalid value: "{value}": {_BAD_VALUE}'


def _wrong_workload(obj: Json, before: Json | None) -> Wrong:
    spec = obj.get("spec") or {}
    selector, template = spec.get("selector"), spec.get("template") or {}
    if spec["replicas"] < 0:
        yield "spec.replicas", f"Invalid value: {spec['replicas']}: must be greater than or equal to 0"
    if not selector:
        yield "spec.selector", "Required value"
    wanted = (selector or {}).get("matchLabels") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not wanted or not wanted.items() <= labels.items():
        shown = json.dumps(labels, separators=(",", ":"), sort_keys=True)
        text = f"Invalid value: {shown}: `selector` does not match template `labels`"
        yield "spec.template.metadata.labels", text
    if not (template.get("spec") or {}).get("containers"):
        yield "spec.template.spec.containers", "Required value"
    if before and not same(selector, before["spec"].get("selector")):
        shown = json.dumps(selector, separators=(",", ":"), sort_keys=True)
        yield "spec.selector", f"Invalid value: {shown}: field is immutable"


def _wrong_restarts(spec: Json) -> Wrong:
    """A Deployment's pods are for ever."""
    policy = spec.get("restartPolicy")
    if policy not in {None, "Always"}:
        text = f'Unsupported value: "{policy}": supported values: "Always"'
        yield "spec.template.spec.restartPolicy", text


def _wrong_container(path: str, container: Json) -> Wrong:
    for field in ("name", "image"):
        if not container.get(field):
            yield f"{path}.{field}", "Required value"
    if (policy := container.get("imagePullPolicy")) not in _PULL_POLICIES:
        known = ", ".join(f'"{one}"' for one in _PULL_POLICIES)
        yield f"{path}.imagePullPolicy", f'Unsupported value: "{policy}": supported values: {known}'
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    for what, amount in limits.items():
        yield from _negative(f"{path}.resources.limits[{what}]", amount)
    for what, amount in (resources.get("requests") or {}).items():
        yield from _negative(f"{path}.resources.requests[{what}]", amount)
        if what in limits and quantity(amount) > quantity(limits[what]):
            text = f'Invalid value: "{amount}": must be less than or equal to {what} limit of {limits[what]}'
            yield f"{path}.resources.requests", text


def _negative(field: str, amount: Any) -> Wrong:
    if quantity(amount) < 0:
        yield field, f'Invalid value: "{amount}": must be greater than or equal to 0'


def _moved(pod: Json, before: Json) -> Wrong:
    """Of a pod's spec hardly anything may change (pkg/apis/core/validation, ValidatePodUpdate)."""
    if not same(_fixed(pod["spec"]), _fixed(before["spec"])):
        yield (
            "spec",
            (
                "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
                "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
                "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be "
                "set to 1 if it was previously negative)"
            ),
        )


def _fixed(spec: Json) -> Json:
    free = {"activeDeadlineSeconds", "tolerations"}
    fixed = {key: value for key, value in spec.items() if key not in free}
    for key in ("containers", "initContainers"):
        fixed[key] = [one | {"image": ""} for one in spec.get(key) or ()]
    return fixed


def _wrong_event(obj: Json) -> Wrong:
    own = obj["metadata"].get("namespace")
    involved = (obj.get("involvedObject") or {}).get("namespace") or ""
    # An Event about an object without a namespace may only live in these two.
    allowed = {own} if involved else {"default", "kube-system"}
    if (involved or own) not in allowed:
        text = f'Invalid value: "{involved}": does not match event.namespace'
        yield "involvedObject.namespace", text
    if obj.get("eventTime"):  # of the newer kind: it has to say who did what
        for field in ("reportingComponent", "reportingInstance", "action"):
            if not obj.get(field):
                yield field, "Required value"


def immutable_uid(obj: Json, uid: str) -> Problem:
    """Say that a write named another uid."""
    text = f'Invalid value: "{uid}": field is immutable'
    return invalid(KINDS[obj["kind"]], obj["metadata"]["name"], "metadata.uid", text)
