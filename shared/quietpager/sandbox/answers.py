"""The API server's refusals: Kubernetes `Status` objects, in kube-apiserver's own words.

Raised by `registry` and `api`, turned into an HTTP answer by `api`. Wording and reasons are those
of k8s.io/apimachinery `pkg/api/errors`.
"""

import json
from collections.abc import Iterable
from typing import Any

from quietpager.objects.kind import Resource

Json = dict[str, Any]


class Problem(Exception):  # noqa: N818 (a Status of failure, as the API calls it)
    """An answer other than success."""

    token = ""
    """From where an expired list may go on."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        """Keep what the Status object says."""
        self.code, self.reason, self.details = code, reason, details or {}
        super().__init__(message)

    def body(self) -> Json:
        """Write the Status object."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.token} if self.token else {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def _details(resource: Resource, name: str) -> Json:
    group = {"group": resource.group} if resource.group else {}
    return {"name": name, **group, "kind": resource.plural}


def not_found(resource: Resource, name: str) -> Problem:
    """404 for an object."""
    text = f'{resource.qualified} "{name}" not found'
    return Problem(404, "NotFound", text, _details(resource, name))


def no_such_path() -> Problem:
    """404 for a path that no API has."""
    return Problem(404, "NotFound", "the server could not find the requested resource")


def already_exists(resource: Resource, name: str) -> Problem:
    """409 for a create."""
    text = f'{resource.qualified} "{name}" already exists'
    return Problem(409, "AlreadyExists", text, _details(resource, name))


def conflict(resource: Resource, name: str) -> Problem:
    """409 for a write on top of an older version."""
    text = (
        f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has been '
        "modified; please apply your changes to the latest version and try again"
    )
    return Problem(409, "Conflict", text, _details(resource, name))


def invalid(resource: Resource, name: str, field: str, message: str) -> Problem:
    """422 for an object that a validation refuses."""
    return invalid_fields(resource, name, [(field, message)])


def invalid_fields(resource: Resource, name: str, wrong: Iterable[tuple[str, str]]) -> Problem:
    """422 for an object with one or more fields that validations refuse."""
    wrong = [*wrong]
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details = {
        "name": name,
        **({"group": resource.group} if resource.group else {}),
        "kind": resource.kind,
        "causes": [{"reason": "FieldValueInvalid", "message": text, "field": field} for field, text in wrong],
    }
    sentences = ", ".join(f"{field}: {text}" for field, text in wrong)
    sentences = f"[{sentences}]" if len(wrong) > 1 else sentences
    return Problem(422, "Invalid", f'{kind} "{name}" is invalid: {sentences}', details)


def undecodable_patch(obj: Json, why: str) -> Problem:
    """422 for a patch whose result does not fit the kind's Go type; it names no kind (measured)."""
    shown = json.dumps(json.dumps(obj, separators=(",", ":")))
    return Problem(422, "Invalid", f' "" is invalid: patch: Invalid value: {shown}: {why}')


def patch_failed() -> Problem:
    """422 for a JSON patch whose `test` fails or whose path leads nowhere (measured on 1.35.4)."""
    text = "the server rejected our request due to an error in our request"
    return Problem(422, "Invalid", text)


def forbidden(resource: Resource, name: str, why: str) -> Problem:
    """403 by admission."""
    text = f'{resource.qualified} "{name}" is forbidden: {why}'
    return Problem(403, "Forbidden", text, _details(resource, name))


def not_allowed(verb: str, resource: Resource, namespace: str) -> Problem:
    """403 by RBAC; where nobody is said to be, it is the sandbox's one user."""
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    text = (
        f'{resource.qualified} is forbidden: User "sandbox" cannot {verb} resource "{resource.plural}" in '
        f'API group "{resource.group}" {where}'
    )
    return Problem(403, "Forbidden", text, {"group": resource.group, "kind": resource.plural})


def may_not_impersonate(user: str) -> Problem:
    """403 for a request that says to be somebody else (a ServiceAccount has a resource of its own)."""
    *_, namespace, account = user.split(":")
    text = (
        f'serviceaccounts "{account}" is forbidden: User "sandbox" cannot impersonate resource '
        f'"serviceaccounts" in API group "" in the namespace "{namespace}"'
    )
    return Problem(403, "Forbidden", text, {"name": account, "kind": "serviceaccounts"})


def bad_version(text: str) -> Problem:
    """500, not 400, for a watch from what is no version (measured on 1.35.4)."""
    why = f'strconv.ParseUint: parsing "{text}": invalid syntax'
    return Problem(500, "", f'resourceVersion: Invalid value: "{text}": {why}')


def bad_request(why: str) -> Problem:
    """400 for what cannot be understood."""
    return Problem(400, "BadRequest", why)


def bad_token(why: str) -> Problem:
    """400 for a `continue` that is none."""
    return bad_request(f"continue key is not valid: {why}")


def list_expired(token: str) -> Problem:
    """410 for a `continue` from a state that is gone; with the token that goes on in the state of now."""
    text = (
        "The provided continue parameter is too old to display a consistent list result. You can start a new "
        "list without the continue parameter, or use the continue token in this response to retrieve the "
        "remainder of the results. Continuing with the provided token results in an inconsistent list - "
        "objects that were created, modified, or deleted between the time the first chunk was returned and "
        "now may show up in the list."
    )
    problem = Problem(410, "Expired", text)
    problem.token = token
    return problem


def too_old(version: int, oldest: int) -> Problem:
    """410 for a watch from before the kept history."""
    return Problem(410, "Expired", f"too old resource version: {version} ({oldest})")
