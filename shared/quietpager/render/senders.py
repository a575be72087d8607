"""Who may say what, where Knative's Broker authenticates: `quietpager render --authentication`.

    source ─────────── EventPolicy: Events ───────┐
    PingSource ─────── EventPolicy: its tick ─────┤              token of the function's Trigger,
    function's reply ─ EventPolicy: what it says ─┼▶ Broker ───── for this function ──────▶ function
    function's post ── the same EventPolicy ──────┘              checked by `runtime.sender`

A reply goes to the Broker as the function's Trigger, a post as the function's ServiceAccount, with a token
that the kubelet projects for the Broker's audience. The Broker takes the first policy that names a sender and
asks no other (knative/eventing v0.49.2, pkg/auth/event_policy.go), so each sender is named by exactly one.

A policy names a Trigger by its account and not by reference: a reference is resolved once the Trigger has its
account, which it gets once the Broker is Ready, which it is once its policies are resolved, that is, never.

Knative's flag `authentication-oidc` is for the whole cluster; `render` does not set it.
"""

from collections.abc import Iterable
from typing import Any, Final

from quietpager.model.message import EVENT_ADD, EVENT_UPDATE, PING
from quietpager.render.folders import FunctionFolder
from quietpager.runtime.connect import BROKER_TOKEN
from quietpager.runtime.sender import AUDIENCE, IDENTITY, SENDERS

Json = dict[str, Any]

BROKER: Final = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}
IDENTITY_VOLUME: Final = "identity"
IDENTITY_FOLDER: Final = "/var/run/secrets/quietpager"
SECONDS: Final = 3600
"""How long a projected token is good; the kubelet renews it after four fifths of that."""

_TRIGGERS_ACCOUNT: Final = "-oidc-eventing.knative.dev-trigger"
"""What Knative appends to a Trigger's name for its ServiceAccount (pkg/auth/serviceaccount.go)."""
_LONGEST: Final = 63


def broker_audience(namespace: str) -> str:
    """Name the Broker's audience as Knative does (pkg/auth/audience.go)."""
    return f"eventing.knative.dev/broker/{namespace}/{BROKER['name']}"


def audience_of(name: str, namespace: str) -> str:
    """Name a function's audience; Triggers ask for a token for it, and the function takes no other."""
    return f"quietpager/{namespace}/{name}"


def trigger_account(name: str, namespace: str) -> str:
    """Name the account as which a Trigger delivers, as a token's `sub` does.

    Raises:
        ValueError: the name is so long that Knative would shorten it.
    """
    account = f"{name}{_TRIGGERS_ACCOUNT}"
    if len(account) > _LONGEST:
        raise ValueError(
            f"With authentication the name {name} is too long, for Knative makes an account's name of it. "
            f"Give the folder one that makes at most {_LONGEST - len(_TRIGGERS_ACCOUNT)} characters."
        )
    return f"system:serviceaccount:{namespace}:{account}"


def senders_of(folder: FunctionFolder, folders: Iterable[FunctionFolder], namespace: str) -> list[str]:
    """Name who may send to a function: its own Trigger; to the dead letter, which has none, every Trigger."""
    if folder.filters:
        return [trigger_account(folder.name, namespace)]
    return [trigger_account(one.name, namespace) for one in folders if one.filters]


def event_policies(folders: Iterable[FunctionFolder], sources: Iterable[Json], namespace: str) -> list[Json]:
    """Render who may say which type to the Broker: one policy for each function and each source.

    Args:
        folders: all functions.
        sources: the rendered ApiServerSource and PingSources.
        namespace: ours.
    """
    found = [_policy_of_source(one, namespace) for one in sources]
    for folder in folders:
        if not folder.says:
            continue
        sent_by: list[Json] = []
        if folder.filters:
            sent_by.append({"sub": trigger_account(folder.name, namespace)})
        if folder.posts:
            sent_by.append({"sub": f"system:serviceaccount:{namespace}:{folder.name}"})
        found.append(_policy(folder.name, namespace, sent_by, [{"type": one} for one in folder.says]))
    return found


def _policy_of_source(source: Json, namespace: str) -> Json:
    name, kind = source["metadata"]["name"], source["kind"]
    if kind == "PingSource":
        said = [{"type": PING, **source["spec"]["ceOverrides"]["extensions"]}]
    else:
        said = [{"type": one, "kind": "Event"} for one in (EVENT_ADD, EVENT_UPDATE)]
    ref = {"apiVersion": source["apiVersion"], "kind": kind, "name": name, "namespace": namespace}
    return _policy(f"{kind.lower()}-{name}", namespace, [{"ref": ref}], said)


def _policy(name: str, namespace: str, sent_by: list[Json], said: list[dict[str, str]]) -> Json:
    each = [{"exact": one} for one in said]
    return {
        "apiVersion": "eventing.knative.dev/v1alpha1",
        "kind": "EventPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "to": [{"ref": BROKER}],
            "from": sent_by,
            "filters": each if len(each) == 1 else [{"any": each}],
        },
    }


def identity_environment(
    folder: FunctionFolder, folders: Iterable[FunctionFolder], namespace: str
) -> dict[str, str]:
    """Tell a function who may send to it, and where its own tokens are."""
    found = {}
    if not folder.web:
        found = {
            AUDIENCE: audience_of(folder.name, namespace),
            SENDERS: " ".join(senders_of(folder, folders, namespace)),
            IDENTITY: IDENTITY_FOLDER,
        }
    if folder.posts:
        found[BROKER_TOKEN] = f"{IDENTITY_FOLDER}/broker"
    return found


def identity_volume(folder: FunctionFolder, namespace: str) -> Json | None:
    """Render the folder with a function's tokens: one that reads the cluster's keys, and one for the Broker.

    The first is an ordinary token of an account without a role: it opens what every account may read, and
    nothing of the cluster.
    """
    if folder.web:
        return None
    sources: list[Json] = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": SECONDS}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
    if folder.posts:
        broker = {"path": "broker", "expirationSeconds": SECONDS, "audience": broker_audience(namespace)}
        sources.append({"serviceAccountToken": broker})
    return {"name": IDENTITY_VOLUME, "projected": {"defaultMode": 0o444, "sources": sources}}
