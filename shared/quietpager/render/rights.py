"""The rights: one ServiceAccount for each function, and for each exactly what it declares.

An action gets two ClusterRoles: `<action>-read`, always bound, so that planning works while writing is
stopped, and `<action>-write`, bound by `quietpager resume` only and unbound by `quietpager stop`. A new
install has no write binding: it is stopped, and the API server itself holds that. An action that changes
nothing in the cluster has no write role at all. Write bindings are
never among the manifests, so that nothing that applies those again brings them back.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from quietpager.actions.schema import Access, Action
from quietpager.objects.table import SETS, reading
from quietpager.render.folders import PART_OF, FunctionFolder

Json = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"

LOOKING: Final = frozenset({"get", "list", "watch"})
"""Verbs that change nothing."""
SUBRESOURCES: Final = frozenset({"pods/log"})
"""What a func.yaml may name that has a slash and no group."""
NEVER: Final = frozenset({"*", "secrets"})
"""What no role of ours may name: everything, and what nobody needs to heal a workload."""


def service_accounts(folders: Iterable[FunctionFolder], namespace: str) -> list[Json]:
    """Render one account for each function; a token is mounted by the pods that need one, not here."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": folder.name, "namespace": namespace},
            "automountServiceAccountToken": False,
        }
        for folder in folders
    ]


def user_of(folder: FunctionFolder, namespace: str) -> str:
    """Name a function's ServiceAccount as RBAC does, for who acts as it without its token."""
    return f"system:serviceaccount:{namespace}:{folder.name}"


def needs_token(folder: FunctionFolder) -> bool:
    """Tell whether a function talks to the API server at all."""
    return bool(folder.reads) or folder.action is not None


def roles(folders: Iterable[FunctionFolder], actions: Mapping[str, Action], namespace: str) -> list[Json]:
    """Render ClusterRoles and the bindings of those that read.

    Raises:
        ValueError: a remediator's action is in no action.yaml, or a folder asks for what nobody gets.
    """
    rendered: list[Json] = []
    for folder in folders:
        name = folder.action
        if name is not None:
            if name not in actions:
                raise ValueError(f"{folder.name} carries out {name!r}, which no action.yaml describes.")
            action = actions[name]
            read, write = _role(f"{name}-read", action.read), _role(f"{name}-write", action.write)
            _only_looks(read)
            rendered += [read, *([write] if action.write else [])]
            rendered.append(_binding(read["metadata"]["name"], folder.name, namespace))
        elif folder.reads:
            role = _reader(folder)
            rendered += [role, _binding(role["metadata"]["name"], folder.name, namespace)]
    return rendered


def write_binding_name(action: str) -> str:
    """Name the binding that `resume` makes and `stop` deletes."""
    return f"quietpager-{action}-write"


def write_bindings(folders: Iterable[FunctionFolder], namespace: str) -> list[Json]:
    """Render the write bindings: who calls it is `quietpager resume`, with a person's own rights."""
    rendered = [
        _binding(write_binding_name(folder.action), folder.name, namespace)
        for folder in folders
        if folder.action is not None and folder.writes
    ]
    for one in rendered:
        one["metadata"]["labels"] = {PART_OF: "quietpager"}
    return rendered


def run_as(folders: Iterable[FunctionFolder], namespace: str, user: str) -> list[Json]:
    """Render what a person needs for `quietpager run` to patch: impersonate the writing accounts alone.

    A Role, for a ServiceAccount that is impersonated is a resource of its namespace
    (https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/), with `resourceNames`: the
    verb alone would let them act as any account there, whatever that may do one day.

    Args:
        folders: the functions; those that write are named.
        namespace: where their accounts are.
        user: as RBAC names the person; `system:serviceaccount:<namespace>:<name>` for an account.

    Raises:
        ValueError: the user's name cannot be one.
    """
    if not user.strip() or user != user.strip() or any(ord(one) < 32 for one in user):
        raise ValueError(f"{user!r} is no user's name.")
    accounts = sorted(one.name for one in folders if one.action is not None and one.writes)
    about = {"name": "quietpager-run", "namespace": namespace, "labels": {PART_OF: "quietpager"}}
    rule = {
        "apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": accounts,
        "verbs": ["impersonate"],
    }  # fmt: skip
    service = user.removeprefix("system:serviceaccount:").split(":")
    subject = (
        {"kind": "ServiceAccount", "namespace": service[0], "name": service[1]}
        if user.startswith("system:serviceaccount:") and len(service) == 2
        else {"kind": "User", "name": user, "apiGroup": RBAC}
    )
    return [
        {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": about, "rules": [rule]},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": about,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "quietpager-run"},
            "subjects": [subject],
        },
    ]


def _role(name: str, access: Iterable[Access]) -> Json:
    rules = [
        {"apiGroups": [one.group], "resources": list(one.resources), "verbs": list(one.verbs)}
        for one in access
    ]
    return _cluster_role(f"quietpager-{name}", rules)


def _reader(folder: FunctionFolder) -> Json:
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for one in _spelt_out(folder.reads):
        named, _, verb = one.partition(":")
        if verb not in ("", "get", "list"):
            raise ValueError(f"{folder.name} reads {one!r}; behind the colon stands `get` or `list`.")
        group, _, resource = ("", "", named) if named in SUBRESOURCES else named.rpartition("/")
        alike.setdefault((group, (verb,) if verb else ("get", "list")), []).append(resource)
    rules = [
        {"apiGroups": [group], "resources": resources, "verbs": [*verbs]}
        for (group, verbs), resources in alike.items()
    ]
    return _cluster_role(f"quietpager-{folder.name}-read", rules)


def _spelt_out(reads: Iterable[str]) -> Iterator[str]:
    """Spell out words that stand for several kinds, such as `owners`, by the table of kinds."""
    plain = [one for one in reads if one not in SETS]
    yield from plain
    sets = (reading(SETS[one]()) for one in reads if one in SETS)
    for what, verb in dict.fromkeys(pair for some in sets for pair in some):
        if not {what.right, f"{what.right}:{verb}"} & {*plain}:
            yield f"{what.right}:{verb}"


def _only_looks(role: Json) -> None:
    """Hold a role that is always bound to verbs that change nothing."""
    verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}
    if writing := sorted(verbs - LOOKING):
        name = role["metadata"]["name"]
        raise ValueError(f"{name} asks for {', '.join(writing)}; that belongs under `write` in action.yaml.")


def _cluster_role(name: str, rules: list[Json]) -> Json:
    for rule in rules:
        named = {*rule["apiGroups"], *rule["verbs"], *(one.partition("/")[0] for one in rule["resources"])}
        if asked := sorted(named & NEVER):
            raise ValueError(
                f"{name} asks for {', '.join(asked)}; no function gets that. Name what it needs."
            )
    return {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}


def _binding(role: str, account: str, namespace: str) -> Json:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": role},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }
