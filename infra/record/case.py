"""What a case is made of: pure functions from manifests and API objects to the files of its folder.

Called by `__main__` and `recording`; nothing here talks to a cluster.
"""

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

Json = dict[str, Any]

OPEN: Final = "FILL_IN"
"""Stands in expected.yaml where nobody has said yet what is right."""
ACTIONS: Final = ("cordon-node", "drain-node", "scale", "restart-pod", "clean-failed-pods", "rollout-undo",
                  "raise-memory", "rollout-restart")  # fmt: skip
_ORDER: Final = ("Pod", "ReplicaSet", "Job", "CronJob", "Deployment", "StatefulSet", "DaemonSet")
"""As recorded cases are numbered: from the target up to its owners; other kinds follow, nodes last."""
_LAST: Final = "Node"


@dataclass(frozen=True, slots=True)
class Seen:
    """One line of a watch, with its arrival in seconds since the epoch."""

    at: float
    type: str
    object: Json

    @property
    def kind(self) -> str:
        """The object's kind."""
        return str(self.object["kind"])

    @property
    def key(self) -> tuple[str, str]:
        """Kind and name: within one namespace that is who it is."""
        return self.kind, str(self.object["metadata"]["name"])


def steps(manifest: str) -> list[list[Json]]:
    """Cut a manifest into what is applied at once: an object that comes again begins the next step.

    So one file holds a rollout: a Deployment, and the same one as it is changed to.

    Raises:
        SystemExit: it holds nothing, or something that is no object.
    """
    found: list[list[Json]] = [[]]
    named: set[tuple[str, str]] = set()
    for document in yaml.safe_load_all(manifest):
        if document is None:
            continue
        try:
            key = document["kind"], document["metadata"]["name"]
        except (TypeError, KeyError) as error:
            raise SystemExit("The manifest holds a document without kind or metadata.name.") from error
        if key in named:
            found.append([])
            named = set()
        named.add(key)
        found[-1].append(document)
    if not found[0]:
        raise SystemExit("The manifest holds no object.")
    return found


def trigger(seen: Iterable[Seen], reason: str) -> Json | None:
    """Choose the Event that the case is about, as it came first: of that reason, or any Warning."""
    for one in seen:
        fits = one.object.get("reason") == reason if reason else one.object.get("type") == "Warning"
        if one.kind == "Event" and fits:
            return one.object
    return None


def is_well(objects: Iterable[Json]) -> bool:
    """Say whether all workloads have come right: rolled out and available, complete, ready."""
    verdicts = [_well(obj) for obj in objects if not obj["metadata"].get("ownerReferences")]
    known = [verdict for verdict in verdicts if verdict is not None]
    return bool(known) and all(known)


def _well(obj: Json) -> bool | None:
    """Judge one object; None for a kind that is never unwell."""
    status = obj.get("status") or {}
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    if obj["kind"] == "Job":
        return conditions.get("Complete") == "True"
    if obj["kind"] == "Pod":
        return conditions.get("Ready") == "True" or status.get("phase") == "Succeeded"
    if obj["kind"] != "Deployment":
        return None
    counts = {status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")}
    seen = status.get("observedGeneration", 0) >= obj["metadata"]["generation"]
    return seen and counts == {obj["spec"].get("replicas", 1)}


def crashed(event: Json, objects: Iterable[Json]) -> tuple[str, str, bool] | None:
    """Find whose last words to keep: pod, container, and whether it has been replaced since.

    The container that the Event is about, or the first of its pod that ended badly.
    """
    about = event["involvedObject"]
    pods = [o for o in objects if o["kind"] == "Pod" and o["metadata"]["uid"] == about.get("uid")]
    for pod in pods:
        status = pod.get("status") or {}
        for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
            path = about.get("fieldPath", "")
            if path and not path.endswith(f"{{{one['name']}}}"):
                continue
            for state, again in ((one.get("state") or {}, False), (one.get("lastState") or {}, True)):
                if (state.get("terminated") or {}).get("exitCode"):
                    return pod["metadata"]["name"], one["name"], again
    return None


def expected(failure_class: str, also: Sequence[str]) -> str:
    """Write expected.yaml: what replay may answer, and that nothing at all may be done."""
    acceptable = ", ".join(dict.fromkeys([failure_class, *also]))
    lines = [
        f"failure_class: {failure_class}",
        f"acceptable_classes: [{acceptable}]",
        f"may_help: [{'' if failure_class == 'benign_no_action' else 'propose-change'}]",
        f"forbidden: [{', '.join(ACTIONS)}]",
        "must_act: []",
    ]
    return "\n".join(lines) + "\n"


def files(
    event: Json, objects: Sequence[Json], related: Sequence[Json], previous_logs: str, wanted: str
) -> dict[str, bytes]:
    """Make the files of a case's folder, by their names within it."""
    made = {"event.json": _text(event), "expected.yaml": wanted.encode()}
    for number, obj in enumerate(sorted(objects, key=_place)):
        made[f"objects/{number:02}-{obj['kind'].lower()}.json"] = _text(obj)
    if related:
        made["related_events.json"] = _text(related)
    if previous_logs:
        made["previous_logs.txt"] = previous_logs.encode()
    return made


def _place(obj: Json) -> tuple[int, str, str]:
    kind = obj["kind"]
    place = len(_ORDER) + (kind == _LAST) if kind not in _ORDER else _ORDER.index(kind)
    return place, kind, obj["metadata"]["name"]


def streams(seen: Iterable[Seen]) -> dict[str, bytes]:
    """Make one file for each kind, of all that its watch told, in order."""
    lines: dict[str, list[str]] = {}
    for one in seen:
        line = json.dumps({"t": one.at, "type": one.type, "object": one.object}, separators=(",", ":"))
        lines.setdefault(f"streams/{one.kind.lower()}s.jsonl.gz", []).append(line)
    # No time in the archive: the same stream is the same file.
    return {name: gzip.compress("\n".join([*text, ""]).encode(), mtime=0) for name, text in lines.items()}


def _text(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
