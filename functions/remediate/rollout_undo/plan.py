"""Plan: back to the newest earlier revision whose pods are well, field by field.

The plan names everything in which the revisions differ. Whether a rollback may change all of it, the action's
promise says (`quietpager.change.promise`): where not, nothing is written, and a person reads the plan.
"""

from collections.abc import Iterator
from typing import Any

from quietpager.actions.plan import Planned
from quietpager.change.digests import sentence_of
from quietpager.change.marks import escaped
from quietpager.change.patch_fields import PatchFields
from quietpager.errors import Refused
from quietpager.model.incident import Edit
from quietpager.objects.live import Live
from quietpager.objects.revision import healthy_earlier

Json = dict[str, Any]

_HASH = "pod-template-hash"
_TEMPLATE = "/spec/template"
_LOOKED_INTO = frozenset({"resources", "livenessProbe", "readinessProbe", "startupProbe"})
"""Fields of a container that are compared value by value; the others only as a whole."""


def plan(live: Live, _params: dict[str, str | float]) -> Planned:
    """Give the edits from today's template to the earlier one.

    Raises:
        Refused: no earlier revision is well, or today's is the same.
    """
    template = live.template
    if template is None:
        raise Refused(f"{live.owner} is gone, or has no pod template.")
    back_to = healthy_earlier(live)
    if back_to is None:
        raise Refused(f"{live.owner} has no earlier revision with pods that are well.")
    edits = tuple(_template(template, back_to.template))
    if not edits:
        raise Refused(f"{live.owner} is at revision {back_to.number}'s template already.")
    return Planned(
        change=PatchFields(edits=edits),
        summary=f"roll {live.owner} back to revision {back_to.number}: {sentence_of(edits)}",
    )


def _template(now: Json, then: Json) -> Iterator[Edit]:
    yield from _fields(_metadata(now), _metadata(then), f"{_TEMPLATE}/metadata")
    yield from _fields(
        {k: v for k, v in now["spec"].items() if k != "containers"},
        {k: v for k, v in then["spec"].items() if k != "containers"},
        f"{_TEMPLATE}/spec",
    )
    ours, theirs = now["spec"].get("containers") or [], then["spec"].get("containers") or []
    path = f"{_TEMPLATE}/spec/containers"
    if [one.get("name") for one in ours] != [one.get("name") for one in theirs]:
        yield Edit(path=path, had=ours, gets=theirs)
        return
    for index, (new, old) in enumerate(zip(ours, theirs, strict=True)):
        for name in dict.fromkeys((*new, *old)):
            place = f"{path}/{index}/{name}"
            if name in _LOOKED_INTO:
                yield from _leaves(new.get(name), old.get(name), place)
            elif new.get(name) != old.get(name):
                yield Edit(path=place, had=new.get(name), gets=old.get(name))


def _metadata(template: Json) -> Json:
    """Give a template's metadata without what the ReplicaSet's own label adds, and without what is empty."""
    found = dict(template.get("metadata") or {})
    found["labels"] = {k: v for k, v in (found.get("labels") or {}).items() if k != _HASH}
    return {name: value for name, value in found.items() if value}


def _fields(now: Json, then: Json, path: str) -> Iterator[Edit]:
    for name in dict.fromkeys((*now, *then)):
        if now.get(name) != then.get(name):
            yield Edit(path=f"{path}/{escaped(name)}", had=now.get(name), gets=then.get(name))


def _leaves(now: Any, then: Any, path: str) -> Iterator[Edit]:
    """Compare value by value as far as both have the same parts."""
    if now == then or (not now and not then):
        return
    if not isinstance(now, dict) or not isinstance(then, dict):
        yield Edit(path=path, had=now, gets=then)
        return
    for name in dict.fromkeys((*now, *then)):
        if name in now and name in then:
            yield from _leaves(now[name], then[name], f"{path}/{escaped(name)}")
        else:
            yield Edit(path=f"{path}/{escaped(name)}", had=now.get(name), gets=then.get(name))
