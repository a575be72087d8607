"""All manifests of the product, in the order in which they are applied."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from quietpager.actions.schema import load_actions
from quietpager.incident.policy import Policy
from quietpager.model.folders import Roots
from quietpager.model.yaml import load_documents, load_yaml
from quietpager.render.cage import cage
from quietpager.render.fields import Fields, committed_fields
from quietpager.render.folders import PART_OF, deployable
from quietpager.render.rights import roles, service_accounts
from quietpager.render.senders import audience_of, event_policies, identity_environment, identity_volume
from quietpager.render.triggers import DEAD_LETTER, KNATIVE_SERVICE, SERVICE, triggers
from quietpager.render.walls import ANYWHERE, Network, walls
from quietpager.render.workloads import environment, rules, workload
from quietpager.runtime.checking import check

Json = dict[str, Any]

POSTGRES: Final = "postgres.yaml"
EVENTING: Final = Path(__file__).parents[1] / "eventing"


@dataclass(frozen=True, slots=True)
class Settings:
    """What an installation chooses: names, the policy, and where images come from."""

    namespace: str = "quietpager"
    cluster: str = "default"
    policy: str = "autonomy: analyze\n"
    images: Mapping[str, str] = field(default_factory=dict)
    """Function name → image reference; a function that is not in it gets its own name as image."""
    func: bool = False
    """Whether Knative's `func` deploys the functions: then Deployments, Services, disruption budgets and the
    walls round our pods are left out, and Triggers name Knative's services."""
    authentication: bool = False
    """Whether the cluster's Knative authenticates (its flag `authentication-oidc`): then EventPolicies say
    who may say what, and functions take a message only with a token of their own Trigger."""
    network: Network = ANYWHERE
    """What the NetworkPolicies must know of the cluster."""
    overlay: str = ""
    """A folder in `eventing/` whose files replace those of the same name: `kafka`, or none."""

    fields: Fields | None = None
    """Names of a Deployment's fields, from the API server's OpenAPI document; None: the committed ones."""

    @property
    def sink(self) -> str:
        """Where functions post: the Broker's ingress."""
        host = "kafka-broker-ingress" if self.overlay == "kafka" else "broker-ingress"
        return f"http://{host}.knative-eventing.svc.cluster.local/{self.namespace}/default"


DEFAULTS: Final = Settings()


def manifests(functions: Roots, settings: Settings = DEFAULTS) -> list[Json]:
    """Render everything, labelled as ours. Write bindings and the store's Secret are not among it.

    Raises:
        ValueError: a folder, or the policy, is wrong; the text says which.
    """
    if settings.func and settings.authentication:
        raise ValueError(
            "With func there is no authentication: a func.yaml cannot mount the tokens that functions need. "
            "Let the rendered Deployments run (without --func), or leave --authentication out."
        )
    folders, namespace = deployable(functions), settings.namespace
    policy = Policy.model_validate(load_yaml(settings.policy) or {})
    actions = load_actions(functions)
    config = rules(functions, settings.policy, namespace)
    service = KNATIVE_SERVICE if settings.func else SERVICE
    found: list[Json] = [
        _namespace(settings),
        *service_accounts(folders, namespace),
        *roles(folders, actions, namespace),
        *cage(folders, actions, policy, settings.fields or committed_fields(), namespace),
        config,
        *_static(settings, service),
        *_ticks(policy, namespace),
    ]
    check(functions)
    authentication = settings.authentication
    if authentication:
        sources = [one for one in found if one["kind"] in {"ApiServerSource", "PingSource"}]
        found += event_policies(folders, sources, namespace)
    if not settings.func:
        found += walls(folders, settings.network, namespace, settings.overlay, keys=authentication)
        for folder in folders:
            image = settings.images.get(folder.name, folder.name)
            env = environment(folder, settings.cluster, settings.sink)
            identity = None
            if authentication:
                env |= identity_environment(folder, folders, namespace)
                identity = identity_volume(folder, namespace)
            found += workload(folder, image, config, env, namespace, identity)
    found += triggers(folders, namespace, service, authentication=authentication)
    return [_labelled(one) for one in found]


def _namespace(settings: Settings) -> Json:
    """Render the namespace; the API server itself holds its pods to Pod Security's `restricted`.

    Knative's own pods in it (the source's adapter) meet that (knative/eventing v0.49.2). Whether those that
    `func` brings do depends on that installation, so there it only warns.
    """
    mode = "warn" if settings.func else "enforce"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": settings.namespace, "labels": labels},
    }


def _static(settings: Settings, service: str) -> list[Json]:
    """Read `eventing/`: Broker, source, PostgreSQL. Only namespace and cluster name are filled in.

    PostgreSQL is left out where the store is elsewhere (`--store`), be it another PostgreSQL or DynamoDB.
    """
    files = {path.name: path for path in sorted(EVENTING.glob("*.yaml"))}
    if settings.network.store:
        del files[POSTGRES]
    if settings.overlay:
        files |= {path.name: path for path in sorted((EVENTING / settings.overlay).glob("*.yaml"))}
    texts = [path.read_text(encoding="utf-8") for path in files.values()]
    objects = [one for text in texts for one in load_documents(text) if one]
    for one in objects:
        if one["kind"] not in {"ClusterRole", "ClusterRoleBinding"}:
            one["metadata"]["namespace"] = settings.namespace
        for subject in one.get("subjects", ()):
            subject["namespace"] = settings.namespace
        if one["kind"] == "Broker":
            sink = one["spec"]["delivery"]["deadLetterSink"]
            sink["ref"]["apiVersion"] = service
            if settings.authentication:
                sink["audience"] = audience_of(DEAD_LETTER, settings.namespace)
        if one["kind"] == "ApiServerSource":
            one["spec"]["ceOverrides"] = {"extensions": {"cluster": settings.cluster}}
    return objects


def _ticks(policy: Policy, namespace: str) -> list[Json]:
    return [
        _tick("clock", policy.tick, namespace),
        _tick("sweep", policy.sweep, namespace),
        _tick("anchor", policy.anchor, namespace),
    ]


def _tick(job: str, seconds: float, namespace: str) -> Json:
    """Render a PingSource; it never ticks more rarely than the policy says, but for less than a second."""
    schedule = _schedule(seconds)
    return {
        "apiVersion": "sources.knative.dev/v1",
        "kind": "PingSource",
        "metadata": {"name": job, "namespace": namespace},
        "spec": {
            "schedule": schedule,
            "ceOverrides": {"extensions": {"job": job}},
            "sink": {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}},
        },
    }


def _schedule(seconds: float) -> str:
    """Write a schedule that ticks at least each so many seconds.

    It may begin with a field for seconds; `@every` is refused (knative/eventing v0.49.2,
    ping_validation.go), and each tick comes up to half a second late, by chance (mtping/runner.go). A step
    counts from the full minute, or hour, anew: `*/45` ticks at 0 and 45.
    """
    if seconds < 60:
        return f"*/{max(1, int(seconds))} * * * * *"
    return f"0 */{int(seconds // 60)} * * * *" if seconds < 3600 else "0 0 * * * *"


def _labelled(one: Json) -> Json:
    meta = one["metadata"]
    return one | {"metadata": meta | {"labels": meta.get("labels", {}) | {PART_OF: "quietpager"}}}
