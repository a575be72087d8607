"""The cage, as the sandbox's API server holds it: writes of an action's account, by the action's promise.

The same statement that plans are held to (`quietpager.change.promise`); on a real API server it is a
rendered ValidatingAdmissionPolicy, whose words these are. Here nobody proves who they are: an account is
whoever impersonates one, or names the function in its User-Agent, as the functions do. Called by `api`.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from quietpager.actions.schema import Action, load_actions
from quietpager.change.promise import breaches
from quietpager.incident.policy import Policy
from quietpager.objects.kind import Resource
from quietpager.runtime.context import function_roots
from quietpager.sandbox import answers

Json = dict[str, Any]
Admit = Callable[[Json, Json], None]
"""Gets the object before and after; raises Problem 403."""

_ACCOUNT: Final = re.compile(r"system:serviceaccount:[^:]+:remediate-([a-z-]+)")
_AGENT: Final = re.compile(r"quietpager-remediate-([a-z-]+)(?:/.*)?")


def account_of(headers: Mapping[str, str]) -> str | None:
    """Name the action as whose account a request comes; None for everybody else."""
    user = headers.get("impersonate-user")
    found = _AGENT.fullmatch(headers.get("user-agent", "")) if user is None else _ACCOUNT.fullmatch(user)
    return None if found is None else found[1]


def hold(action: str, verb: str, resource: Resource, part: str, name: str, namespace: Json | None) -> Admit:
    """Hold a write to its kind, and give what holds its place and the change itself.

    Args:
        action: whose account writes.
        verb: UPDATE, CREATE or DELETE, as admission has it.
        resource: what is written.
        part: its subresource, or nothing.
        name: the object's.
        namespace: the Namespace it is in.

    Raises:
        Problem: 403, another verb or kind than the update of what the action is for.
    """

    def refuse(rule: str, said: str) -> answers.Problem:
        policy = f"'quietpager-{action}-cage'"
        return answers.forbidden(
            resource, name, f"ValidatingAdmissionPolicy {policy} with binding {policy} denied request: "
            f"{action}, rule {rule}: {said}",
        )  # fmt: skip

    known = _actions().get(action)
    kinds = () if known is None else known.applies_to
    if (verb, part) != ("UPDATE", "") or (known is not None and resource.kind not in kinds):
        what = f"{verb} {resource.plural}{part and f'/{part}'}"
        only = f"it may only update a {' or a '.join(kinds)} itself" if kinds else "it is no action of ours"
        raise refuse("kind", f"{only}: {what}")
    policy, meta = Policy(), (namespace or {}).get("metadata") or {}
    place = str(meta.get("name", ""))

    def admit(before: Json, after: Json) -> None:
        if policy.is_protected(place):
            raise refuse("platform", f"the namespace belongs to the platform: {place}")
        if (meta.get("labels") or {}).get(policy.opt_in_label) != "true":
            raise refuse("opt-in", f"the namespace has no label {policy.opt_in_label}=true: {place}")
        if policy.ignore_annotation in (before["metadata"].get("annotations") or {}):
            raise refuse("ignored", f"the {resource.kind} is annotated {policy.ignore_annotation}")
        for broken in () if known is None else breaches(known.cage, before, after):
            where = f": {', '.join(broken.where)}" if broken.where else ""
            raise refuse(broken.rule, f"{broken.says}{where}")
        if known is None:
            raise refuse("known", f"no promise of {action} is known")

    return admit


@cache
def _actions() -> Mapping[str, Action]:
    return load_actions(function_roots())
