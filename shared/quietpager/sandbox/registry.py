"""What an API server does between a request and its storage: identity, defaults, checks, versions.

Used by `api` for requests from outside, by `controllers` and `kubelet` for their own writes. Every
method raises `answers.Problem`. The rules are those measured on kube-apiserver 1.35.4; where a
rule looks odd it says so.
"""

import secrets
import uuid
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Final

from quietpager.model.time import Clock, to_text
from quietpager.objects.kind import Resource
from quietpager.sandbox import answers, fields, quota, validation
from quietpager.sandbox.kinds import KINDS
from quietpager.sandbox.patching import clone, same
from quietpager.sandbox.store import Store

Json = dict[str, Any]

# k8s.io/apimachinery/pkg/util/rand: no vowels, so that no words come out.
SAFE_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_SERVER_OWNED: Final = ("uid", "creationTimestamp", "generation", "deletionTimestamp",
                        "deletionGracePeriodSeconds", "managedFields")  # fmt: skip


def suffix(length: int = 5) -> str:
    """Make the random end of a generated name."""
    return "".join(secrets.choice(SAFE_LETTERS) for _ in range(length))


class Registry:
    """The cluster's objects, with all the rules of writing them."""

    def __init__(self, store: Store, clock: Clock) -> None:
        """Write into `store`, with times from `clock`."""
        self.store, self._clock = store, clock

    def now(self) -> str:
        """Tell the time as metadata and status write it, in whole seconds."""
        return to_text(self._clock().replace(microsecond=0))

    def read(self, resource: Resource, namespace: str, name: str) -> Json:
        """Read an object that must exist."""
        found = self.store.get(resource.kind, namespace, name)
        if found is None:
            raise answers.not_found(resource, name)
        return found

    def create(self, resource: Resource, obj: Json, namespace: str, *, dry_run: bool = False) -> Json:
        """Create an object and give it back as stored."""
        obj = clone(obj)
        metadata = obj.setdefault("metadata", {})
        self._check_envelope(resource, obj, namespace)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + suffix()
        if not metadata.get("name"):
            text = "Required value: name or generateName is required"
            raise answers.invalid(resource, "", "metadata.name", text)
        if resource.namespaced:
            metadata["namespace"] = namespace
            self.read(KINDS["Namespace"], "", namespace)
        for key in _SERVER_OWNED:
            metadata.pop(key, None)
        metadata.pop("resourceVersion", None)
        if resource.has_status:
            obj.pop("status", None)
        self._prepare(resource, obj, None)
        name = metadata["name"]
        if self.store.get(resource.kind, namespace, name):
            raise answers.already_exists(resource, name)
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": self.now()}
        if resource.has_generation:
            metadata["generation"] = 1
        if resource.kind == "Pod":
            obj["status"] = {"phase": "Pending", "qosClass": _quality(obj)}
            quotas = self.store.select("ResourceQuota", namespace)
            quota.admit(obj, quotas, self.store.select("Pod", namespace) if quotas else [])
        elif resource.has_status:
            obj.setdefault("status", {})
        return obj if dry_run else self.store.put(obj)

    def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Callable[[Json], Json],
        *,
        status: bool = False,
        dry_run: bool = False,
        admit: Callable[[Json, Json], None] | None = None,
    ) -> Json:
        """Change an object through its main path or its /status, and give it back as stored.

        `admit` sees the object before and after, with its new generation, and may refuse.
        """
        before = self.read(resource, namespace, name)
        obj = clone(change(clone(before)))
        self._check_envelope(resource, obj, namespace, patched=True)
        metadata, old = obj["metadata"], before["metadata"]
        if metadata.get("name") != name:
            raise answers.bad_request(
                f"the name of the object ({metadata.get('name')}) does not match the name on the URL ({name})"
            )
        if metadata.get("uid") not in {None, "", old["uid"]}:
            raise validation.immutable_uid(before, metadata["uid"])
        if metadata.get("resourceVersion") not in {None, "", old["resourceVersion"]}:
            raise answers.conflict(resource, name)
        for key in _SERVER_OWNED:
            metadata.pop(key, None)
            if key in old:
                metadata[key] = old[key]
        metadata["resourceVersion"] = old["resourceVersion"]
        if resource.has_status:
            _keep_other_half(obj, before, status=status)
        self._prepare(resource, obj, before)
        if resource.has_generation and not status and _counts(resource, obj, before):
            metadata["generation"] = old.get("generation", 0) + 1
        if admit is not None:
            admit(before, obj)
        if same(obj, before):
            return before  # a write that changes nothing is none: no version, no watch event
        return obj if dry_run else self.store.put(obj)

    def set_status(self, obj: Json, status: Json, annotations: Json | None = None) -> Json:
        """Write a status as a controller does; through /status annotations may change as well."""
        found = self.store.get(obj["kind"], obj["metadata"].get("namespace") or "",
                               obj["metadata"]["name"])  # fmt: skip
        if found is None or found["metadata"]["uid"] != obj["metadata"]["uid"]:
            return obj
        metadata = found["metadata"]
        if annotations is not None:
            metadata = metadata | {"annotations": annotations}
        written = found | {"metadata": metadata, "status": status}
        if same(written, found):
            return found
        return self.store.put(written | {"metadata": dict(metadata)})

    def delete(self, resource: Resource, namespace: str, name: str, grace: int | None = None) -> Json:
        """Delete an object: a running pod gets its time to stop, all else goes at once."""
        obj = self.read(resource, namespace, name)
        spec = obj.get("spec") or {}
        if resource.kind == "Pod" and spec.get("nodeName") and grace != 0:
            if obj["metadata"].get("deletionTimestamp"):
                return obj
            seconds = spec.get("terminationGracePeriodSeconds", 30) if grace is None else grace
            gone = to_text(self._clock().replace(microsecond=0) + timedelta(seconds=seconds))
            metadata = obj["metadata"] | {
                "deletionTimestamp": gone,
                "deletionGracePeriodSeconds": seconds,
                "generation": obj["metadata"].get("generation", 0) + 1,
            }
            return self.store.put(obj | {"metadata": metadata})
        if resource.kind == "Namespace":
            for kind in KINDS:
                for inside in self.store.select(kind, name) if KINDS[kind].namespaced else ():
                    self.store.remove(inside)
        return self.store.remove(obj)

    def load(self, objects: Iterable[Json], *, enabled: bool) -> list[str]:
        """Take objects as they are, with uid, generation and status; gives the kinds left out.

        Namespaces that they need are created, with `quietpager.dev/enabled: "true"` if `enabled`.
        Only the sandbox's own load endpoint calls this; no real API server could do it.
        """
        left_out = []
        for given in objects:
            resource = KINDS.get(given.get("kind", ""))
            if resource is None:
                left_out.append(str(given.get("kind")))
                continue
            validation.decode(given)
            obj = clone(given)
            metadata = obj["metadata"]
            if resource.namespaced:
                self.ensure_namespace(metadata["namespace"], enabled=enabled)
            metadata.setdefault("uid", str(uuid.uuid4()))
            metadata.setdefault("creationTimestamp", self.now())
            found = self.store.get(resource.kind, metadata.get("namespace") or "", metadata["name"])
            if found:
                self.store.remove(found)  # the kubelet begins its story anew
            self.store.put(obj)
        return left_out

    def ensure_namespace(self, name: str, *, enabled: bool) -> None:
        """Create a namespace where it is missing."""
        if self.store.get("Namespace", "", name) is None:
            labels = {"quietpager.dev/enabled": "true"} if enabled else {}
            self.create(KINDS["Namespace"], {"metadata": {"name": name, "labels": labels}}, "")

    def _check_envelope(
        self, resource: Resource, obj: Json, namespace: str, *, patched: bool = False
    ) -> None:
        kind, version = (
            obj.setdefault("kind", resource.kind),
            obj.setdefault("apiVersion", resource.api_version),
        )
        try:
            if (kind, version) != (resource.kind, resource.api_version):
                raise validation.Undecodable(_conversion(resource, kind, version))  # noqa: TRY301
            if not isinstance(obj.get("metadata"), dict):
                raise validation.Undecodable("json: cannot unmarshal metadata")  # noqa: TRY301
            validation.decode(obj)
        except validation.Undecodable as error:
            if patched:  # 422 for a patch, 400 for a create: so does the API server
                raise answers.undecodable_patch(obj, str(error)) from error
            raise answers.bad_request(
                f'{kind} in version "v1" cannot be handled as a {resource.kind}: {error}'
            ) from error
        own = obj["metadata"].get("namespace")
        if own and own != namespace:
            raise answers.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )

    def _prepare(self, resource: Resource, obj: Json, before: Json | None) -> None:
        fields.prune(obj)
        validation.set_defaults(obj)
        validation.check(resource, obj, before)


def _conversion(resource: Resource, kind: str, version: str) -> str:
    """Say, as Go's types do, that one kind cannot be read as another."""
    given = f"{version.rpartition('/')[2]}.{kind}"
    return f"converting ({given}) to ({resource.group or 'core'}.{resource.kind}): unknown conversion"


def _keep_other_half(obj: Json, before: Json, *, status: bool) -> None:
    """Through /status only the status changes (and annotations), through the main path all else."""
    if not status:
        obj.pop("status", None)
        if "status" in before:
            obj["status"] = before["status"]
        return
    for key in [*obj]:
        if key not in {"metadata", "status"}:
            del obj[key]
    obj |= {key: value for key, value in before.items() if key not in {"metadata", "status"}}
    metadata = dict(before["metadata"])
    if "annotations" in obj["metadata"]:
        metadata["annotations"] = obj["metadata"]["annotations"]
    obj["metadata"] = metadata


def _counts(resource: Resource, obj: Json, before: Json) -> bool:
    """Say whether a change counts as a new generation."""
    if not same(obj.get("spec"), before.get("spec")):
        return True
    # For a Deployment every change of an annotation does, too: its controller copies annotations
    # to ReplicaSets (pkg/registry/apps/deployment/strategy.go; measured).
    return resource.kind == "Deployment" and not same(
        obj["metadata"].get("annotations"), before["metadata"].get("annotations")
    )


def _quality(pod: Json) -> str:
    """Name a pod's quality-of-service class."""
    resources = [c.get("resources") or {} for _, c in validation.containers(pod)]
    if not any(r.get("requests") or r.get("limits") for r in resources):
        return "BestEffort"
    guaranteed = all(
        {"cpu", "memory"} <= (r.get("limits") or {}).keys() and same(r.get("requests"), r.get("limits"))
        for r in resources
    )
    return "Guaranteed" if guaranteed else "Burstable"
