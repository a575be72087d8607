"""Which fields the kinds have: the API server forgets every other field of a write, and says nothing.

Used by `registry` before each write. A patch that adds a misspelt field thus changes nothing at all,
not even the generation (fieldValidation "Ignore", what a client gets that does not ask; measured on
kube-apiserver 1.35.4). Names are those of the Kubernetes 1.35 API reference; below what is listed
here everything is kept.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from quietpager.model.quantity import quantity

Json = dict[str, Any]
Table = Mapping[str, "Table | None"]


def _names(text: str, **deeper: "Table") -> Table:
    return {**dict.fromkeys(text.split()), **deeper}


METADATA: Final = _names(
    "annotations creationTimestamp deletionGracePeriodSeconds deletionTimestamp finalizers "
    "generateName generation labels managedFields name namespace ownerReferences resourceVersion "
    "selfLink uid"
)
CONTAINER: Final = _names(
    "args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports "
    "readinessProbe resizePolicy restartPolicy restartPolicyRules securityContext startupProbe stdin "
    "stdinOnce terminationMessagePath terminationMessagePolicy tty volumeDevices volumeMounts "
    "workingDir",
    resources=_names("claims limits requests"),
)
POD_SPEC: Final = _names(
    "activeDeadlineSeconds affinity automountServiceAccountToken dnsConfig dnsPolicy "
    "enableServiceLinks ephemeralContainers hostAliases hostIPC hostNetwork hostPID hostUsers "
    "hostname hostnameOverride imagePullSecrets nodeName nodeSelector os overhead preemptionPolicy "
    "priority priorityClassName readinessGates resourceClaims resources restartPolicy "
    "runtimeClassName schedulerName schedulingGates securityContext serviceAccount "
    "serviceAccountName setHostnameAsFQDN shareProcessNamespace subdomain "
    "terminationGracePeriodSeconds tolerations topologySpreadConstraints volumes workloadRef",
    containers=CONTAINER,
    initContainers=CONTAINER,
)
_TEMPLATE: Final = _names("", metadata=METADATA, spec=POD_SPEC)
SPECS: Final[Mapping[str, Table]] = {
    "Deployment": _names(
        "minReadySeconds paused progressDeadlineSeconds replicas revisionHistoryLimit",
        selector=_names("matchExpressions matchLabels"),
        strategy=_names("type", rollingUpdate=_names("maxSurge maxUnavailable")),
        template=_TEMPLATE,
    ),
    "ReplicaSet": _names(
        "minReadySeconds replicas", selector=_names("matchExpressions matchLabels"), template=_TEMPLATE
    ),
    "Pod": POD_SPEC,
    "ResourceQuota": _names("hard scopeSelector scopes"),
    "Namespace": _names("finalizers"),
}
EVENT: Final = _names(
    "action apiVersion count eventTime firstTimestamp kind lastTimestamp message reason related "
    "reportingComponent reportingInstance series type",
    metadata=METADATA,
    source=_names("component host"),
    involvedObject=_names("apiVersion fieldPath kind name namespace resourceVersion uid"),
)
TOP: Final[Mapping[str, Table]] = {
    "ConfigMap": _names("apiVersion binaryData data immutable kind", metadata=METADATA),
    "Secret": _names("apiVersion data immutable kind stringData type", metadata=METADATA),
}
_QUANTITIES: Final = {"limits", "requests", "hard"}
_BINARY: Final = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL: Final = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")


def prune(obj: Json) -> None:
    """Drop what the kind does not have, and nulls; write quantities in their canonical form."""
    kind = obj["kind"]
    if kind == "Event":
        _prune(obj, EVENT)
        return
    own = "data binaryData immutable" if kind == "ConfigMap" else "status"
    usual = _names(f"apiVersion kind {own}", metadata=METADATA, spec=SPECS.get(kind) or {})
    _prune(obj, TOP.get(kind) or usual)
    if kind == "Node" and obj.setdefault("spec", {}).get("unschedulable") is False:
        del obj["spec"]["unschedulable"]  # omitempty as well; the spec itself is always there
    for key in ("annotations", "labels"):
        if obj["metadata"].get(key) == {}:
            del obj["metadata"][key]  # Go's omitempty


def _prune(value: Json, table: Table) -> None:
    for key in [*value]:
        if value[key] is None or (table and key not in table):
            del value[key]
            continue
        deeper, inside = table.get(key), value[key]
        if key in _QUANTITIES and isinstance(inside, dict):
            value[key] = {what: canonical(amount) for what, amount in inside.items()}
        for one in inside if isinstance(inside, list) else [inside]:
            if deeper is not None and isinstance(one, dict):
                _prune(one, deeper)


def canonical(amount: str | float) -> str:
    """Write a quantity as the API server gives it back: `65536Ki` is `64Mi`, 5000000000 is `5G`.

    Rule: k8s.io/apimachinery `pkg/api/resource.Quantity.CanonicalizeBytes`; no exponents here.
    """
    value = quantity(amount)
    if str(amount).endswith(_BINARY) and value == int(value) and abs(value) >= 1024:
        return _shortest(int(value), 1024, ("", *_BINARY))
    return _shortest(int(value * Decimal(10**9)), 1000, _DECIMAL)


def _shortest(number: int, step: int, suffixes: tuple[str, ...]) -> str:
    if number == 0:
        return "0"
    place = 0
    while number % step == 0 and place < len(suffixes) - 1:
        number, place = number // step, place + 1
    return f"{number}{suffixes[place]}"
