"""MarkNode: cordon a node, or uncordon it.

identity      the node's uid, and whether it is to be closed or open
precondition  JSON Patch `test`s on uid, on `spec.unschedulable`, and on our mark as it was planned on. A
              Node has no generation, and its resourceVersion moves with every heartbeat. Each of our writes
              sets a new mark, so a stalled worker is refused even after somebody set the node back by hand
inverse       the other way round, only under the mark of what it takes back, and only while the node is as
              that left it
right         patch on nodes
cage          `cage_rules`: nothing but `spec.unschedulable` and the mark; a new intent; the node's opt-in
              label; open again only to undo. Every other field of spec and metadata equal, by published names
guards        two people approve; the budget of nodes (8). A node has no namespace, so guard 2 refuses it
              until the policy can name nodes
"""

import re
from typing import ClassVar, Final, Literal

from pydantic import Field

from quietpager.change.marks import MARK, NAME, UNDO_OF, annotations_of, pointer
from quietpager.change.rule import Rule, text
from quietpager.change.write import Found, InTime, Needs, Right, Write
from quietpager.errors import Refused
from quietpager.model.cluster import Cluster
from quietpager.model.data import Data, Json
from quietpager.model.incident import Intent, IntentState
from quietpager.model.reference import ObjectRef

_MARK_POINTER: Final = pointer(MARK)


class Pins(Data):
    """Our mark on the node as it was planned on; None: there was none."""

    mark: str | None = Field(default=None, pattern=f"^{NAME}$")


class MarkNode(Write):
    """Close a node for new pods (`unschedulable`), or open it."""

    kind: Literal["mark_node"] = "mark_node"
    node: ObjectRef
    unschedulable: bool
    pins: Pins

    RIGHTS: ClassVar = (Right(group="", resource="nodes", verb="patch"),)
    NEEDS: ClassVar = Needs(approvals=2)
    INVERSE: ClassVar = True

    @property
    def empty(self) -> bool:
        """It always changes the node: that it is the other way round now is part of the precondition."""
        return not self.node.uid

    def look(self, intent: Intent, cluster: Cluster) -> Json | None:
        """Read the node; None where it is gone, another one by now, or not the intent's."""
        live = cluster.get("Node", None, self.node.name)
        known = self.node.uid == intent.target.uid and self.node.name == intent.target.name
        if live is None or not known or live["metadata"].get("uid") != self.node.uid:
            return None
        return live

    def judge(self, intent: Intent, live: Json) -> Found | None:
        """Compare mark and field; the mark counts only together with the field as we leave it."""
        mark, closed = annotations_of(live).get(MARK), _closed(live)
        if mark == intent.id:
            if closed is self.unschedulable:
                return IntentState.APPLIED, "applied", {}
            return (
                IntentState.UNKNOWN,
                f"{self.node} has the mark of this intent; somebody else changed it",
                {},
            )
        if closed is self.unschedulable:
            said = "closed" if closed else "open"
            return IntentState.REFUSED, f"{self.node} is {said} already: somebody else changed it", {}
        if mark != self.pins.mark:
            return (
                IntentState.REFUSED,
                f"{self.node} has another mark than planned: somebody else wrote it",
                {},
            )
        return None

    def send(
        self, intent: Intent, live: Json, cluster: Cluster, in_time: InTime
    ) -> tuple[str, dict[str, object]]:
        """Send the pinned patch."""
        del in_time
        cluster.json_patch("Node", None, self.node.name, self._patch(intent, live))
        return "applied", {}

    def try_out(self, intent: Intent, live: Json, cluster: Cluster) -> None:
        """Send the same patch as a dry run."""
        cluster.json_patch("Node", None, self.node.name, self._patch(intent, live), dry_run=True)

    def _patch(self, intent: Intent, live: Json) -> list[Json]:
        """Build it. The API server keeps no `false`: an open node has no such field, so null is tested."""
        was = None if self.unschedulable else True
        change: Json = {"op": "add", "path": "/spec/unschedulable", "value": True}
        if not self.unschedulable:
            change = {"op": "remove", "path": "/spec/unschedulable"}
        noted = bool(annotations_of(live))
        mark: list[Json] = [
            {"op": "test", "path": _MARK_POINTER, "value": self.pins.mark},
            {"op": "add", "path": _MARK_POINTER, "value": intent.id},
        ]
        whole: list[Json] = [
            {"op": "test", "path": "/metadata/annotations", "value": None},
            {"op": "add", "path": "/metadata/annotations", "value": {MARK: intent.id}},
        ]
        return [
            {"op": "test", "path": "/metadata/uid", "value": self.node.uid},
            {"op": "test", "path": "/spec/unschedulable", "value": was},
            *(mark if noted else whole),
            change,
        ]

    def inverse(self, forward: Intent) -> "MarkNode":
        """Set it back, under the forward mark."""
        return MarkNode(node=self.node, unschedulable=not self.unschedulable, pins=Pins(mark=forward.id))


def mark_of(raw: Json, *, unschedulable: bool) -> MarkNode:
    """Make the change of a node as it is. Who calls it: an action's plan.

    Raises:
        Refused: it is so already, or its mark is no id of ours: such a text is not kept, so not pinned.
    """
    meta, mark = raw["metadata"], annotations_of(raw).get(MARK)
    if _closed(raw) is unschedulable:
        raise Refused(f"Node {meta['name']} is {'closed' if unschedulable else 'open'} already.")
    if mark is not None and not re.fullmatch(NAME, str(mark)):
        raise Refused(f"Node {meta['name']} has an annotation {MARK} that is not ours; remove it first.")
    node = ObjectRef(api_version="v1", kind="Node", namespace=None, name=meta["name"], uid=meta.get("uid"))
    return MarkNode(node=node, unschedulable=unschedulable, pins=Pins(mark=mark))


def _closed(raw: Json) -> bool:
    return (raw.get("spec") or {}).get("unschedulable") is True


def cage_rules(spec: tuple[str, ...], meta: tuple[str, ...]) -> list[Rule]:
    """Give what the API server holds of a change of a node, after the rules about the place.

    Args:
        spec: the published names of NodeSpec's fields.
        meta: those of ObjectMeta that may not change.
    """
    mark, old = (f"{of}.metadata.?annotations[?{text(MARK)}].orValue('')" for of in ("object", "oldObject"))
    undo = f"({old} != '' && !{old}.endsWith({text(UNDO_OF)}) && {mark} == {old} + {text(UNDO_OF)})"
    notes, before = (f"{of}.metadata.?annotations.orValue({{}})" for of in ("object", "oldObject"))
    same = " && ".join(
        f"object.{level}.?{name} == oldObject.{level}.?{name}"
        for level, names in (("metadata", meta), ("spec", [one for one in spec if one != "unschedulable"]))
        for name in names
    )
    closed, was = (f"{of}.spec.?unschedulable.orValue(false)" for of in ("object", "oldObject"))
    return [
        Rule(
            "intent",
            f"{mark}.matches({text(f'^{NAME}$')}) && {mark} != {old} && "
            f"({undo} || !{mark}.endsWith({text(UNDO_OF)}))",
            f"the annotation {MARK} must name a new intent, and an undo's the intent that it undoes",
        ),
        Rule("equal", same, "it may change nothing of a node but spec.unschedulable"),
        Rule(
            "annotations",
            f"{notes}.all(k, k == {text(MARK)} || (k in {before} && {before}[k] == {notes}[k])) && "
            f"{before}.all(k, k == {text(MARK)} || k in {notes})",
            f"it may change no annotation but {MARK}",
        ),
        Rule("changes", f"{closed} != {was}", "it must close the node, or open it"),
        Rule("back", f"{closed} || {undo}", "it may open a node only to undo its latest intent"),
    ]


CAGED = ("UPDATE", "", "v1", "nodes", "")
"""Verb, group, version, resource and subresource, as admission names the request."""
