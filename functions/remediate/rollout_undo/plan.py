"""Plan: back to the newest earlier revision whose pods are well, field by field.

Only what a rollback may change is changed. Where the earlier revision differs in anything else
(security, volumes, account, envFrom, containers added or removed), a person has to look.
"""

from copy import deepcopy
from typing import Any

from quietpager.actions.plan import Change
from quietpager.errors import Refused
from quietpager.model.incident import Edit
from quietpager.rules.live import Live
from quietpager.rules.revision import healthy_earlier

FIELDS = (
    "image",
    "command",
    "args",
    "env",
    "resources",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
)
"""What may differ between the revisions, for each container."""

_HASH = "pod-template-hash"


def plan(live: Live, _params: dict[str, str | float]) -> Change:
    """Give the edits from today's template to the earlier one.

    Raises:
        Refused: no earlier revision is well, or it differs in what a rollback may not change.
    """
    raw = live.raw_deployment
    if raw is None:
        raise Refused("The Deployment is gone.")
    back_to = healthy_earlier(live)
    if back_to is None:
        raise Refused(f"{live.owner} has no earlier revision with pods that are well.")
    now = raw["spec"]["template"]
    then = next(
        one["spec"]["template"]
        for one in live.raw_replica_sets
        if one["metadata"].get("uid") == back_to.metadata.uid
    )
    edits = _edits(now["spec"].get("containers") or [], then["spec"].get("containers") or [])
    if _rest(now) != _rest(then):
        raise Refused(
            f"Revision {back_to.revision} of {live.owner} differs in more than {', '.join(FIELDS)}; "
            "a rollback may not change the rest."
        )
    if not edits:
        raise Refused(f"{live.owner} is at revision {back_to.revision}'s template already.")
    said = ", ".join(f"{e.path.rpartition('/')[2]} {e.had} -> {e.gets}" for e in edits)
    return Change(
        edits=tuple(edits),
        summary=f"roll {live.owner} back to revision {back_to.revision}: {said}",
    )


def _edits(now: list[dict[str, Any]], then: list[dict[str, Any]]) -> list[Edit]:
    return [
        Edit(
            path=f"/spec/template/spec/containers/{index}/{field}",
            had=new.get(field),
            gets=old.get(field),
        )
        for index, (new, old) in enumerate(zip(now, then, strict=False))
        for field in FIELDS
        if new.get(field) != old.get(field)
    ]


def _rest(template: dict[str, Any]) -> dict[str, Any]:
    """Everything of a template that a rollback may not touch."""
    rest = deepcopy(template)
    (rest.get("metadata", {}).get("labels") or {}).pop(_HASH, None)
    for container in rest["spec"].get("containers") or []:
        for field in FIELDS:
            container.pop(field, None)
    return rest
