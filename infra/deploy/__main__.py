"""`python -m infra.deploy [FN ...]`: the function set on the test bed, or one function of it.

Knative authenticates senders there, so the whole chain is tried with it; `--no-authentication` turns it off.

Everything is rendered from the folders and applied by the server; what is no longer rendered goes.
It never makes a write binding and never clears the kill switch: that is a person's `quietpager resume`.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from infra.deploy import dynamodb
from infra.deploy.objects import apply
from infra.deploy.proof import prove
from infra.deploy.store import NAMESPACE, ensure_secret, on_dynamodb, owner_url, store_url
from infra.images.build import ensure, ensure_dynoxide, ensure_postgres
from infra.progress import Progress
from infra.testbed import layout
from infra.testbed.addons import kubectl
from quietpager.cluster.client import connect
from quietpager.incident import records
from quietpager.model.cluster import Cluster
from quietpager.model.store import Store
from quietpager.render import FunctionFolder, Settings, function_folders, manifests, write_bindings
from quietpager.render.fields import OPENAPI, fields_of
from quietpager.render.folders import PART_OF
from quietpager.render.walls import KNATIVE, Network
from quietpager.render.workloads import DIGEST
from quietpager.runtime.context import function_roots
from quietpager.store.dynamodb_schema import make_tables
from quietpager.store.opening import open_store
from quietpager.store.roles import FUNCTIONS, migrate_as_owner

Json = dict[str, Any]

POLICY: Final = Path(__file__).with_name("testbed-policy.yaml")
PRUNED: Final = (
    "serviceaccounts,services,configmaps,deployments,poddisruptionbudgets,networkpolicies,clusterroles,"
    "clusterrolebindings,triggers,pingsources,eventpolicies,validatingadmissionpolicies,"
    "validatingadmissionpolicybindings"
)
"""Kinds of which something may disappear from what is rendered."""

FLAG: Final = "authentication-oidc"
"""Key of Knative's ConfigMap `config-features`."""
RIGHTS: Final = ("read", "write", "cage")
"""What the names of a function's ClusterRoles, and of its admission policy and binding, end with."""
HELD: Final = ("ClusterRole", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


def deploy_all(say: Progress, *, authentication: bool = True, with_dynamodb: bool = False) -> None:
    """Put everything there, and wait until an event really comes through."""
    images = ensure(say=say)
    (ensure_dynoxide if with_dynamodb else ensure_postgres)(say)
    _authenticate(wanted=authentication)
    settings = _settings(images, with_dynamodb=with_dynamodb)
    rendered = [*manifests(function_roots(), settings), _machines_way_in()]
    rendered += dynamodb.objects(NAMESPACE) if with_dynamodb else []
    apply([one for one in rendered if one["kind"] == "Namespace"])
    another_store = ensure_secret(with_dynamodb=with_dynamodb)
    apply([one for one in rendered if one["kind"] != "Namespace"])
    say(f"{len(rendered)} objects applied")
    if gone := _prune(rendered):
        say(f"removed, being rendered no more: {', '.join(gone)}")
    _migrate(say, with_dynamodb=with_dynamodb)
    if another_store:  # its address is in the environment, which a container gets when it starts
        kubectl("-n", NAMESPACE, "rollout", "restart", *(f"deployment/{one.name}" for one in _folders()))
    for folder in _folders():
        _rolled_out(folder.name)
    say("functions and their store are ready")
    wanted = ("broker", "trigger", "apiserversource", "pingsource")
    kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "--all", "--timeout=120s", ",".join(wanted))
    say("broker, Triggers and sources are ready")
    store = open_store(store_url())
    cluster = connect(kubeconfig=layout.KUBECONFIG, manager="quietpager-deploy")
    prove(store, cluster, NAMESPACE)
    say("clock and sweep have ticked, and an Event came through")
    say(_standing(store, cluster))
    store.close()


def _migrate(say: Progress, *, with_dynamodb: bool) -> None:
    """Wait for the store, and bring its tables up to date."""
    if with_dynamodb:
        _rolled_out(dynamodb.NAME)
        made = make_tables(store_url())
        say(f"DynamoDB has its tables; made now: {', '.join(made) or 'none'}")
        return
    kubectl("-n", NAMESPACE, "rollout", "status", "statefulset/postgres", "--timeout=120s")
    migrate_as_owner(owner_url(), FUNCTIONS)
    say(f"tables are up to date; {FUNCTIONS} can only add to the audit")


def deploy_some(paths: Sequence[str], say: Progress) -> None:
    """Build these functions again and roll them out, with their Triggers and rights; the others stay."""
    images = ensure(paths, say)
    settings = _settings(images, with_dynamodb=on_dynamodb())
    rendered = manifests(function_roots(), settings)
    apply([one for one in rendered if one["kind"] == "ConfigMap" or _is_of(one, images)])
    for name in images:
        _rolled_out(name)
    say(f"rolled out: {', '.join(images)}")
    if older := [name for name in _outdated(rendered) if name not in images]:
        say(f"still with the rules they started with, until `make deploy`: {', '.join(older)}")


def _machines_way_in() -> Json:
    """Let this machine reach the pods, for tests and `migrate`: it is no node, so a plug-in refuses it."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "testbed", "namespace": NAMESPACE, "labels": {PART_OF: "quietpager"}},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"ipBlock": {"cidr": f"{layout.HOST_ADDRESS}/32"}}]}],
        },
    }


def _authenticate(*, wanted: bool) -> None:
    """Set Knative's flag, which is for the whole cluster; what runs follows by itself.

    But for a Broker that is there: subscribers from before stay in its channel and go on without a token
    (seen with knative/eventing v0.49.2). So Broker and Triggers are made anew.
    """
    if authenticates() == wanted:
        return
    patch = json.dumps({"data": {FLAG: "enabled" if wanted else "disabled"}})
    kubectl("-n", KNATIVE, "patch", "configmap/config-features", "--type=merge", f"--patch={patch}")
    kubectl("-n", NAMESPACE, "delete", "trigger,broker", "--all", "--timeout=60s")
    kubectl("-n", NAMESPACE, "wait", "--for=delete", "inmemorychannel", "--all", "--timeout=60s")


def authenticates() -> bool:
    """Tell whether the test bed's Knative authenticates senders. Who else calls it: the end-to-end tests."""
    jsonpath = f"-o=jsonpath={{.data.{FLAG}}}"
    return kubectl("-n", KNATIVE, "get", "configmap/config-features", jsonpath).stdout == "enabled"


def _settings(images: Mapping[str, str], *, with_dynamodb: bool) -> Settings:
    """Give the test bed's settings; the cage is made of the fields that its own API server knows."""
    api_server = (f"{layout.NODE_ADDRESS}/32",)
    openapi = json.loads(kubectl("get", "--raw", OPENAPI).stdout)
    return Settings(
        cluster="testbed",
        policy=POLICY.read_text(encoding="utf-8"),
        images=images,
        fields=fields_of(openapi),
        authentication=authenticates(),
        network=dynamodb.network(api_server) if with_dynamodb else Network(api_server=api_server),
    )


def _is_of(one: Json, names: Iterable[str]) -> bool:
    """Tell whether an object belongs to one of these functions."""
    accounts = {subject["name"] for subject in one.get("subjects", ())}
    subscriber = one.get("spec", {}).get("subscriber", {}).get("ref", {}).get("name")
    rights = {f"quietpager-{name.removeprefix('remediate-')}-{what}" for name in names for what in RIGHTS}
    return bool({one["metadata"]["name"], subscriber, *accounts} & set(names)) or (
        one["kind"] in HELD and one["metadata"]["name"] in rights
    )


def _outdated(rendered: list[Json]) -> list[str]:
    """Name the functions whose pods were started with other rules or policy than these."""
    wanted = {one["metadata"]["name"]: _digest(one) for one in rendered if one["kind"] == "Deployment"}
    answer = kubectl(
        "-n", NAMESPACE, "get", "deployments", "-l", f"{PART_OF}=quietpager", "-o", "json"
    ).stdout
    return [
        one["metadata"]["name"] for one in json.loads(answer)["items"]
        if _digest(one) != wanted.get(one["metadata"]["name"])
    ]  # fmt: skip


def _digest(deployment: Json) -> str | None:
    found: str | None = deployment["spec"]["template"]["metadata"].get("annotations", {}).get(DIGEST)
    return found


def _standing(store: Store, cluster: Cluster) -> str:
    """Say whether it may write: a deploy changes neither of the two switches."""
    names = [str(one["metadata"]["name"]) for one in write_bindings(_folders(), NAMESPACE)]
    bound = [name for name in names if cluster.get("ClusterRoleBinding", None, name) is not None]
    switch = store.get(records.SWITCH)
    if switch is not None and not switch.body.get("stopped", True) and bound:
        return f"It may write ({len(bound)} of {len(names)} write bindings): `quietpager stop` ends that."
    return "It is stopped: it watches and plans, and writes nothing until `quietpager resume`."


def _folders() -> tuple[FunctionFolder, ...]:
    return function_folders(function_roots())


def _prune(rendered: list[Json]) -> list[str]:
    """Delete what carries our label and is rendered no more (`kubectl apply --prune` cannot).

    And write bindings of actions that are no more: should the action come back, a person must resume it.
    """
    wanted = {(one["kind"], one["metadata"]["name"]) for one in rendered}
    wanted |= {(one["kind"], one["metadata"]["name"]) for one in write_bindings(_folders(), NAMESPACE)}
    answer = kubectl("get", PRUNED, "-n", NAMESPACE, "-l", f"{PART_OF}=quietpager", "-o", "json").stdout
    there = [(one["kind"], one["metadata"]["name"]) for one in json.loads(answer)["items"]]
    gone = [f"{kind.lower()}/{name}" for kind, name in there if (kind, name) not in wanted]
    if gone:
        kubectl("delete", "-n", NAMESPACE, *gone)
    return gone


def _rolled_out(name: str) -> None:
    kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{name}", "--timeout=120s")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m infra.deploy", description=__doc__)
    parser.add_argument(
        "function", nargs="*", help="e.g. detect/crash; all and everything where none is named"
    )
    parser.add_argument(
        "--no-authentication",
        action="store_true",
        help="Knative asks no sender for a token; only where no function is named",
    )
    parser.add_argument(
        "--store",
        choices=["postgres", "dynamodb"],
        default="postgres",
        help="dynamodb: dynoxide in a pod (`make dynamodb` builds it); only where no function is named",
    )
    wanted = parser.parse_args()
    say = Progress()
    if wanted.function:
        deploy_some(wanted.function, say)
        return
    with_dynamodb = wanted.store == "dynamodb"
    deploy_all(say, authentication=not wanted.no_authentication, with_dynamodb=with_dynamodb)
    print(  # noqa: T201 (a command's own output)
        f"export KUBECONFIG={layout.KUBECONFIG}\nexport QUIETPAGER_STORE={store_url()}"
    )


if __name__ == "__main__":
    main()
