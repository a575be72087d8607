"""What is rendered is valid: by the schemas of Kubernetes, by Knative's rules, and by Pod Security.

Kubernetes' own kinds are held against the schemas in the package `kubernetes-validate`, which knows no
Knative. Of Knative's kinds the parts that we render are described here, from the CustomResourceDefinitions
and validation code of knative/eventing v0.49.2; the API server of the test bed judges them with the real
ones (tests/e2e/test_render.py).
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import kubernetes_validate
import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from quietpager.render import DEFAULTS, Settings, function_folders, manifests
from quietpager.runtime.context import functions_folder

Json = dict[str, Any]

FUNCTIONS = functions_folder()
FOLDERS = function_folders(FUNCTIONS)
RENDERED = manifests(FUNCTIONS)
FUNC = manifests(FUNCTIONS, Settings(func=True))
KAFKA = manifests(FUNCTIONS, Settings(overlay="kafka"))
VERSIONS = ("1.35", kubernetes_validate.latest_version())
"""The test bed's, and the newest that the package has."""


def called(one: Json) -> str:
    return f"{one['kind']}/{one['metadata']['name']}"


def is_knative(one: Json) -> bool:
    group: str = one["apiVersion"].partition("/")[0]
    return group.endswith("knative.dev")


# Kubernetes


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("one", [o for o in RENDERED if not is_knative(o)], ids=called)
def test_kubernetes_own_kinds_are_valid_and_have_no_field_too_many(one: Json, version: str) -> None:
    kubernetes_validate.validate(one, version, strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    one = next(o for o in RENDERED if o["kind"] == "Deployment")
    odd = one | {"spec": one["spec"] | {"replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(odd, VERSIONS[0], strict=True)


# Knative


class Part(BaseModel):
    """Nothing may be there that is not described."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Attribute = Annotated[str, Field(pattern=r"^[a-z0-9]{1,20}$")]
"""CloudEvents 1.0 allows lower-case letters and digits only, and asks for 20 at most."""
Duration = Annotated[str, Field(pattern=r"^PT(\d+H)?(\d+M)?(\d+(\.\d+)?S)?$")]


class Ref(Part):
    api_version: str
    kind: str
    name: Name
    namespace: Name | None = None


class Destination(Part):
    ref: Ref


class Delivery(Part):
    retry: Annotated[int, Field(ge=0)]
    backoff_policy: Literal["linear", "exponential"]
    backoff_delay: Duration
    timeout: Duration
    dead_letter_sink: Destination


class Exact(Part):
    exact: Annotated[dict[Attribute, Annotated[str, Field(min_length=1)]], Field(min_length=1)]


class AnyOf(Part):
    any: Annotated[list[Exact], Field(min_length=2)]


class TriggerSpec(Part):
    broker: Name
    filters: Annotated[list[Exact | AnyOf], Field(min_length=1, max_length=1)]
    """One dialect for each item of the list; the webhook refuses more."""
    subscriber: Destination
    delivery: Delivery


class Config(Ref):
    namespace: Name


class BrokerSpec(Part):
    config: Config | None = None
    delivery: Delivery


class Overrides(Part):
    extensions: dict[Attribute, str]


class PingSpec(Part):
    schedule: str
    ce_overrides: Overrides
    sink: Destination


class Resource(Part):
    api_version: str
    kind: str


class ApiServerSpec(Part):
    service_account_name: Name
    mode: Literal["Reference", "Resource"]
    resources: Annotated[list[Resource], Field(min_length=1)]
    namespace_selector: dict[str, Any]
    ce_overrides: Overrides
    sink: Destination


KNATIVE: dict[tuple[str, str], type[Part]] = {
    ("eventing.knative.dev/v1", "Trigger"): TriggerSpec,
    ("eventing.knative.dev/v1", "Broker"): BrokerSpec,
    ("sources.knative.dev/v1", "PingSource"): PingSpec,
    ("sources.knative.dev/v1", "ApiServerSource"): ApiServerSpec,
}
RESERVED = {"specversion", "data", "datacontenttype", "dataschema", "id", "time", "source"}
"""Attributes that no override may set, and on which none of our Triggers filters."""


@pytest.mark.parametrize("one", [*RENDERED, *FUNC, *KAFKA], ids=called)
def test_knatives_kinds_have_the_parts_they_must_and_no_others(one: Json) -> None:
    if not is_knative(one):
        return
    assert set(one) == {"apiVersion", "kind", "metadata", "spec"}
    KNATIVE[one["apiVersion"], one["kind"]].model_validate(one["spec"])
    for attributes in found(one, {"exact", "extensions"}):
        assert not RESERVED & attributes.keys()


def found(part: Any, keys: set[str]) -> Iterator[Json]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key in keys:
                yield value
            yield from found(value, keys)
    elif isinstance(part, list):
        for value in part:
            yield from found(value, keys)


@pytest.mark.parametrize(
    "change",
    [{"filter": {}}, {"filters": [{"exact": {"Type": "x"}}]}, {"filters": [{"exact": {}, "prefix": {}}]}],
)
def test_a_trigger_that_the_webhook_refuses_would_be_found(change: Json) -> None:
    one = next(o for o in RENDERED if o["kind"] == "Trigger")
    with pytest.raises(ValidationError):
        TriggerSpec.model_validate(one["spec"] | change)


@pytest.mark.parametrize("rendered", [RENDERED, FUNC], ids=["deployments", "func"])
def test_one_source_of_functions_leads_to_one_kind_of_service(rendered: list[Json]) -> None:
    refs = [ref for one in rendered if is_knative(one) for ref in found(one, {"ref"})]
    to_functions = {ref["apiVersion"] for ref in refs if ref["kind"] == "Service"}
    assert to_functions == ({"v1"} if rendered is RENDERED else {"serving.knative.dev/v1"})


def test_for_func_everything_is_rendered_but_the_functions() -> None:
    left_out = {called(o) for o in RENDERED} - {called(o) for o in FUNC}
    kinds = {name.partition("/")[0] for name in left_out}
    assert kinds == {"Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget"}
    assert {o["metadata"]["name"] for o in FUNC if o["kind"] == "ServiceAccount"} >= {f.name for f in FOLDERS}
    assert not {called(o) for o in FUNC} - {called(o) for o in RENDERED}


def test_on_kafka_only_the_broker_and_where_functions_post_are_others() -> None:
    assert [called(o) for o in KAFKA] == [called(o) for o in RENDERED]
    other = {one["kind"] for one, usual in zip(KAFKA, RENDERED, strict=True) if one != usual}
    assert other == {"Broker", "Deployment", "NetworkPolicy"}  # its pods, and the way to them
    [broker] = (o for o in KAFKA if o["kind"] == "Broker")
    # The in-memory channel's annotation would say nothing here.
    assert broker["metadata"]["annotations"] == {"eventing.knative.dev/broker.class": "Kafka"}
    [usual] = (o for o in RENDERED if o["kind"] == "Broker")
    assert broker["spec"]["delivery"] == usual["spec"]["delivery"]
    for one in (o for o in KAFKA if o["kind"] == "Deployment"):
        [container] = one["spec"]["template"]["spec"]["containers"]
        [sink] = (env["value"] for env in container["env"] if env["name"] == "K_SINK")
        assert sink == "http://kafka-broker-ingress.knative-eventing.svc.cluster.local/quietpager/default"


# Pods

WORKLOADS = [o for o in RENDERED if o["kind"] in {"Deployment", "StatefulSet"}]
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
"""What `restricted` allows (Kubernetes, Pod Security Standards)."""


def not_restricted(pod: Json) -> Iterator[str]:
    """Say what the Pod Security Standard `restricted` forbids about a pod."""
    outer: Json = pod.get("securityContext", {})
    yield from (f"shares {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key))
    for volume in pod.get("volumes", ()):
        yield from (f"volume {kind}" for kind in set(volume) - VOLUMES - {"name"})
    if outer.get("sysctls"):
        yield "sysctls"
    for one in [*pod["containers"], *pod.get("initContainers", ())]:
        inner: Json = one.get("securityContext", {})
        both = outer | inner
        yield from (f"host port {p['hostPort']}" for p in one.get("ports", ()) if p.get("hostPort"))
        if inner.get("privileged"):
            yield "privileged"
        if inner.get("allowPrivilegeEscalation") is not False:
            yield "may escalate"
        if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
            yield "root"
        if both.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
            yield "no seccomp profile"
        capabilities = inner.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
            yield "capabilities"
        if inner.get("procMount", "Default") != "Default":
            yield "procMount"


@pytest.mark.parametrize("one", WORKLOADS, ids=called)
def test_pods_are_restricted_bounded_and_probed(one: Json) -> None:
    pod: Json = one["spec"]["template"]["spec"]
    assert list(not_restricted(pod)) == []
    for container in pod["containers"]:
        resources = container["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys()
        assert "memory" in resources["limits"]
        # A limit of CPU slows a cold start down, and a request is enough to be fair.
        assert "cpu" not in resources["limits"]
        assert "readinessProbe" in container
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize(
    ("where", "change", "word"),
    [
        ("pod", {"hostNetwork": True}, "hostNetwork"),
        ("pod", {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, "hostPath"),
        ("pod", {"securityContext": {"runAsNonRoot": True}}, "seccomp"),
        ("container", {"securityContext": {}}, "escalate"),
        ("container", {"ports": [{"hostPort": 80}]}, "host port"),
    ],
)
def test_a_pod_that_is_not_restricted_would_be_found(where: str, change: Json, word: str) -> None:
    pod: Json = next(o for o in WORKLOADS if o["kind"] == "Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    odd = pod | change if where == "pod" else pod | {"containers": [container | change]}
    assert any(word in said for said in not_restricted(odd))


def test_the_api_server_holds_our_pods_to_that() -> None:
    [namespace] = (o for o in RENDERED if o["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    [namespace] = (o for o in FUNC if o["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/warn"] == "restricted"


def test_what_has_more_pods_keeps_one_while_nodes_are_drained() -> None:
    budgets = {o["metadata"]["name"]: o["spec"] for o in RENDERED if o["kind"] == "PodDisruptionBudget"}
    several = {
        o["metadata"]["name"]: o["spec"]
        for o in RENDERED
        if o["kind"] == "Deployment" and o["spec"]["replicas"] > 1
    }
    assert budgets.keys() == several.keys()
    assert "ingest-intake" in budgets
    for name, budget in budgets.items():
        assert budget["selector"] == several[name]["selector"]
        # With one pod, or a budget of all, no node could ever be drained.
        assert budget["maxUnavailable"] < several[name]["replicas"]


def test_names_are_such_that_func_takes_them() -> None:
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", folder.name) for folder in FOLDERS)
    assert DEFAULTS.func is False
