"""PatchFields: set fields of one object, by one JSON Patch whose `test`s pin uid, generation and old values.

    intent pins generation 7
    worker A   ─ (stalls past act_by) ............ send: test generation 7 fails, 422
    worker B   re-claim ─ look ─ send: generation 7 -> 8, mark = intent

identity      owner's uid, parameters, and each field with what it had and gets
precondition  `test` on uid, generation and every old value; for an undo also on the mark that it takes back
inverse       the same fields back to what they had, only while our mark is the latest change
right         patch on the kind of object
cage          `change.promise` in Python, `render/cage.py` for the API server: everything else equal, bounds
guards        all but 9, for no pod is removed; 10 holds it to `may_change`
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

from quietpager.change.marks import (
    MARK,
    ROLLED,
    WROTE,
    annotations_of,
    is_rolled_back,
    pointer,
    record_of,
    shape_of,
)
from quietpager.change.promise import applied
from quietpager.change.write import Found, InTime, Needs, Right, Write
from quietpager.model.cluster import Cluster
from quietpager.model.data import Json
from quietpager.model.incident import Edit, Intent, IntentState
from quietpager.objects.table import KINDS

_MARK_POINTER: Final = pointer(MARK)
_ROLLED_POINTER: Final = pointer(ROLLED)
_WROTE_POINTER: Final = pointer(WROTE)


class PatchFields(Write):
    """Set the fields in `edits`. It has no pins of its own: the record it is read from has the generation."""

    kind: Literal["patch_fields"] = "patch_fields"
    edits: tuple[Edit, ...]

    NEEDS: ClassVar = Needs(rollout_of_others=True)
    INVERSE: ClassVar = True

    @classmethod
    def is_sent_by(cls, right: Right) -> bool:
        """Tell whether this right patches a kind of object whose pod template can be changed."""
        rights = (
            Right(group=kind.resource.group, resource=kind.resource.plural, verb="patch")
            for kind in KINDS.values()
            if kind.has_template
        )
        return right in rights

    @property
    def empty(self) -> bool:
        """No field would change."""
        return not self.edits

    def look(self, intent: Intent, cluster: Cluster) -> Json | None:
        """Read the object; None where it is gone or another one by now."""
        target = intent.target
        live = cluster.get(target.kind, target.namespace, target.name)
        if live is None or live["metadata"].get("uid") != target.uid:
            return None
        return live

    def judge(self, intent: Intent, live: Json) -> Found | None:
        """Tell what the object itself says of this intent; None means: as pinned, nothing sent yet.

        The mark alone proves nothing, for whoever may edit the object may write it. It counts with the fields
        as the patch leaves them, on an object that has changed since the plan. The generation after it is
        the one that the patch makes, the next one: what came later is somebody else's, and no undo goes over
        it.
        """
        meta = live["metadata"]
        moved_on = meta.get("generation") != intent.generation
        if annotations_of(live).get(MARK) == intent.id and moved_on:
            if all(_has(live, edit) for edit in intent.edits):
                known = known_of(live) | {"generation_after": intent.generation + 1}
                return IntentState.APPLIED, "applied", known
            what = f"{intent.target} has the mark of this intent, and not what it changes"
            return IntentState.UNKNOWN, f"{what}: somebody else changed it", {}
        if moved_on:
            moved = f"generation {intent.generation} was planned on, it is {meta.get('generation')} now"
            return IntentState.REFUSED, f"somebody else changed {intent.target}: {moved}", {}
        return None

    def send(
        self, intent: Intent, live: Json, cluster: Cluster, in_time: InTime
    ) -> tuple[str, dict[str, object]]:
        """Send the pinned patch."""
        del in_time
        target, patch = intent.target, patch_of(intent, live)
        after = cluster.json_patch(target.kind, target.namespace, target.name, patch)
        return "applied", known_of(after)

    def try_out(self, intent: Intent, live: Json, cluster: Cluster) -> None:
        """Send the same patch as a dry run."""
        target, patch = intent.target, patch_of(intent, live)
        cluster.json_patch(target.kind, target.namespace, target.name, patch, dry_run=True)

    def inverse(self, forward: Intent) -> "PatchFields":
        """Give the same fields back."""
        return PatchFields(edits=reversed_edits(forward.edits))


def patch_of(intent: Intent, live: Json) -> list[Json]:
    """Build the JSON Patch: pinned precondition, then the change, our mark and record in the same write.

    Generation moves on any change of spec or annotations and not on status churn (Kubernetes 1.35,
    measured), so pinning it refuses every foreign edit and no harmless one. What is kept as a digest only
    has no `test` of its own; the generation stands for it.

    Args:
        intent: what was permitted.
        live: the object as it was looked at last; for its annotations, and its containers' names.
    """
    tests: list[Json] = [
        {"op": "test", "path": "/metadata/uid", "value": intent.target.uid},
        {"op": "test", "path": "/metadata/generation", "value": intent.generation},
    ]
    if intent.undoes is not None:
        tests.append({"op": "test", "path": _MARK_POINTER, "value": intent.undoes})
    changes: list[Json] = []
    for edit in intent.edits:
        if edit.had is not None and not edit.hidden:
            tests.append({"op": "test", "path": edit.path, "value": edit.had})
        changes.append(_change(edit))
    return [*tests, *changes, *_marks(intent, live)]


def _marks(intent: Intent, live: Json) -> list[Json]:
    """Name the intent, record what is changed, and how a rollback left it; an undo removes its record."""
    mark: Json = {"op": "add", "path": _MARK_POINTER, "value": intent.id}
    after = applied(live, intent.edits)
    rolled = intent.action == "rollout-undo" or is_rolled_back(live)
    shape = {ROLLED: shape_of(after)} if rolled else {}
    shaped: list[Json] = [{"op": "add", "path": _ROLLED_POINTER, "value": one} for one in shape.values()]
    if intent.undoes is not None:
        return [mark, *shaped, {"op": "remove", "path": _WROTE_POINTER}]
    record = record_of(intent.action, intent.target.uid or "", intent.generation + 1, live, after)
    if live["metadata"].get("annotations") is None:
        notes = {MARK: intent.id, WROTE: record, **shape}
        return [{"op": "add", "path": "/metadata/annotations", "value": notes}]
    return [mark, *shaped, {"op": "add", "path": _WROTE_POINTER, "value": record}]


def _change(edit: Edit) -> Json:
    if edit.gets is None:
        return {"op": "remove", "path": edit.path}
    if edit.hidden:
        raise AssertionError(f"{edit.path} is kept as a digest only; guard 10 lets no such plan through")
    op = "add" if edit.had is None else "replace"
    return {"op": op, "path": edit.path, "value": edit.gets}


def reversed_edits(edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """Give the inverse: the same fields back to what they had, last first."""
    return tuple(e.but(had=e.gets, gets=e.had) for e in reversed(edits))


def _has(live: Json, edit: Edit) -> bool:
    """Tell whether a field is as an edit leaves it; a JSON pointer (RFC 6901) leads to it."""
    at: Any = live
    for part in edit.path.removeprefix("/").split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(at, list):
            at = at[int(key)] if key.isdecimal() and int(key) < len(at) else None
        else:
            at = at.get(key) if isinstance(at, dict) else None
    return bool(at == edit.gets)


def known_of(after: Json) -> dict[str, object]:
    """Give what is known of a write that was taken; when it was, the API server's own clock says.

    The moment is compared with what kubelets write, so ours would count crashes of before the change for
    ones after it wherever it is slow. Each write leaves its time in `managedFields`
    (https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management).
    """
    meta = after["metadata"]
    at = max(_edited(meta), default=None)
    return {"generation_after": meta.get("generation"), **({} if at is None else {"applied_at": at})}


def _edited(meta: Json) -> Iterator[datetime]:
    for one in meta.get("managedFields") or ():
        try:
            if not one.get("subresource"):
                yield datetime.fromisoformat(one["time"])
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
