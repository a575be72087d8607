"""CreateObject: run a Job again, as a new Job with the same content.

identity      the uid of the Job that is copied, the new name, and the digest of the whole new object
precondition  the Job that is copied still has that uid, and what would be created still has that digest; no
              object of that name is there. The name is fixed by the plan, so while the new Job is there, a
              second write is answered 409. Its time to live is left out, so that nothing removes it meanwhile
inverse       none: what has run, has run
right         create on jobs of group batch
cage          none, see `UNCAGED`; so an action that makes this change is not rendered
guards        those that look at every change; nothing is removed

The content is kept nowhere: variables and arguments may be secrets. It is copied from the live Job again when
it is sent, and held to the digest.
"""

from hashlib import sha256
from json import dumps
from typing import Any, ClassVar, Final, Literal

from quietpager.change.marks import MARK, annotations_of
from quietpager.change.write import Found, InTime, Right, Write
from quietpager.errors import Refused
from quietpager.model.cluster import Cluster
from quietpager.model.data import Json, digest
from quietpager.model.incident import Intent, IntentState
from quietpager.model.reference import ObjectRef

COPY_OF: Final = "quietpager.dev/copy-of"
"""Annotation that names the uid of the Job that was run again."""

_CONTROLLERS_OWN: Final = frozenset(
    {"controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"}
)
"""Labels that the Job controller sets; a new Job gets its own (kubernetes.io, batch/v1 Job)."""


class CreateObject(Write):
    """Create a Job `name` with the content of the Job `copy_of`; `content` is the digest of the new one."""

    kind: Literal["create_object"] = "create_object"
    copy_of: ObjectRef
    name: str
    content: str

    RIGHTS: ClassVar = (Right(group="batch", resource="jobs", verb="create"),)
    INVERSE: ClassVar = False
    UNCAGED: ClassVar = (
        "An admission policy sees the new Job and no other object, so it cannot compare it with the Job that "
        "is run again: whoever has the right may start any image, as any account of the namespace."
    )

    @property
    def empty(self) -> bool:
        """It always creates something, if it knows what."""
        return not (self.name and self.content)

    def look(self, intent: Intent, cluster: Cluster) -> Json | None:
        """Read the Job that is copied, and whatever has the new name; None where the former is gone."""
        raw = cluster.get("Job", self.copy_of.namespace, self.copy_of.name)
        known = self.copy_of.uid is not None and self.copy_of.uid == intent.target.uid
        if raw is None or not known or raw["metadata"].get("uid") != self.copy_of.uid:
            return None
        return {"copied": raw, "there": cluster.get("Job", self.copy_of.namespace, self.name)}

    def judge(self, intent: Intent, live: Json) -> Found | None:
        """Tell whether it is there already, and whether it would still be what was planned."""
        there = live["there"]
        if there is not None:
            notes = annotations_of(there)
            if notes.get(MARK) == intent.id and notes.get(COPY_OF) == self.copy_of.uid:
                return IntentState.APPLIED, "applied", {}
            return IntentState.REFUSED, f"a Job {self.copy_of.namespace}/{self.name} is there already", {}
        if digest_of(again(live["copied"], self.name)) != self.content:
            return (
                IntentState.REFUSED,
                f"{self.copy_of} is no longer what was planned: its content differs",
                {},
            )
        return None

    def send(
        self, intent: Intent, live: Json, cluster: Cluster, in_time: InTime
    ) -> tuple[str, dict[str, object]]:
        """Create it."""
        del in_time
        cluster.create("Job", self._object(intent, live))
        return f"created Job {self.copy_of.namespace}/{self.name}", {}

    def try_out(self, intent: Intent, live: Json, cluster: Cluster) -> None:
        """Create the same as a dry run."""
        cluster.create("Job", self._object(intent, live), dry_run=True)

    def _object(self, intent: Intent, live: Json) -> Json:
        made = again(live["copied"], self.name)
        if digest_of(made) != self.content:
            raise AssertionError(f"{self.name} is not what was approved")
        made["metadata"]["annotations"][MARK] = intent.id
        return made


def run_again(raw: Json) -> CreateObject:
    """Make the change that runs a finished Job again. Who calls it: an action's plan.

    Raises:
        Refused: it has not finished, so it may still do its work.
    """
    meta = raw["metadata"]
    job = ObjectRef(
        api_version="batch/v1", kind="Job", namespace=meta.get("namespace"), name=meta["name"],
        uid=meta.get("uid"),
    )  # fmt: skip
    conditions = (raw.get("status") or {}).get("conditions") or ()
    ended = {one.get("type") for one in conditions if one.get("status") == "True"}
    if not ended & {"Complete", "Failed"}:
        raise Refused(f"{job} has not finished; a second one beside it would do its work twice.")
    name = f"{meta['name'][:50].rstrip('-.')}-again-{digest(job.uid, length=5)}"
    return CreateObject(copy_of=job, name=name, content=digest_of(again(raw, name)))


def again(raw: Json, name: str) -> Json:
    """Give the new Job: what the API server and the Job controller added is left out."""
    meta, spec = raw["metadata"], raw.get("spec") or {}
    left_out = {"selector", "manualSelector", "ttlSecondsAfterFinished", "suspend", "template"}
    template = spec.get("template") or {}
    about = {
        key: value for key, value in (template.get("metadata") or {}).items() if key != "creationTimestamp"
    }
    if "labels" in about:
        about["labels"] = _without(about["labels"])
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": meta.get("namespace"),
            "labels": _without(meta.get("labels") or {}),
            "annotations": {COPY_OF: meta.get("uid")},
        },
        "spec": {
            **{key: value for key, value in spec.items() if key not in left_out},
            "template": {**template, "metadata": about},
        },
    }


def _without(labels: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in labels.items() if key not in _CONTROLLERS_OWN}


def digest_of(obj: Json) -> str:
    """Give the digest of a whole object."""
    return sha256(dumps(obj, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
