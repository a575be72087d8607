"""The closed set of changes: what a write can be, and nothing else. A new kind is one file and one name here.

    PatchFields   fields of one object          JSON Patch, pinned to its generation
    RemovePods    pods, by eviction             pinned to each pod's uid and resourceVersion
    MarkNode      cordon, uncordon              JSON Patch, pinned to the node's mark
    CreateObject  a Job that runs again         a fixed name, pinned to the content's digest

Who calls it: the sender, the rehearsal, guard 10, decide for an undo, the schema of `action.yaml`, rendering.
"""

from collections.abc import Iterable
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from quietpager.change.create_object import CreateObject
from quietpager.change.mark_node import MarkNode
from quietpager.change.patch_fields import PatchFields
from quietpager.change.remove_pods import RemovePods
from quietpager.change.write import Right, Write
from quietpager.model.incident import Intent, Rehearsal

Change = Annotated[PatchFields | RemovePods | MarkNode | CreateObject, Field(discriminator="kind")]
"""One write: exactly one of the closed set."""

KINDS: Final[dict[str, type[Write]]] = {
    "patch_fields": PatchFields,
    "remove_pods": RemovePods,
    "mark_node": MarkNode,
    "create_object": CreateObject,
}

_READER: Final[TypeAdapter[PatchFields | RemovePods | MarkNode | CreateObject]] = TypeAdapter(Change)


def change_of(record: Rehearsal | Intent) -> PatchFields | RemovePods | MarkNode | CreateObject:
    """Read what a rehearsal or an intent would write.

    Raises:
        ValueError: the record has a change of no kind that is known here, or one that says something odd.
    """
    if record.change is None:
        return PatchFields(edits=record.edits)
    try:
        found = record.change.to_json()
        return _READER.validate_python({k: v for k, v in found.items() if k != "pins" or v})
    except ValidationError as odd:
        raise ValueError(f"{record.id} would write what is in no kind of change: {odd}") from odd


def inverse_of(forward: Intent) -> Intent:
    """Give the forward intent with its inverse in place of what it wrote; the rest the caller sets."""
    back = change_of(forward).inverse(forward)
    if isinstance(back, PatchFields):
        return forward.but(edits=back.edits, change=None)
    return forward.but(edits=(), change=back.stored())


def kinds_of(rights: Iterable[Right]) -> tuple[str, ...]:
    """Name the kinds of change that these rights are for.

    Raises:
        ValueError: a right that no kind of change needs.
    """
    some = [*rights]
    for one in some:
        if not any(kind.is_sent_by(one) for kind in KINDS.values()):
            what = f"{one.verb} {one.resource} of group {one.group or 'core'}"
            raise ValueError(f"write: no kind of change sends `{what}`; the kinds are in quietpager/change.")
    return tuple(name for name, kind in KINDS.items() if any(kind.is_sent_by(one) for one in some))
