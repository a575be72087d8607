"""Who owns the fields that a plan would change: what guard 5 is decided on. Pure.

A live write to what Git or another controller owns is put back by its owner, or fights with it. So the
owner is read from the live object when a plan is rehearsed, and the policy says what is done then:
`propose` (write nothing, propose the change where the owner reads it), `patch`, or `patch+propose`.

Who calls it: the remediators, on every rehearsal; replay.

Marks, and whose they are:
- Argo CD: annotation `argocd.argoproj.io/tracking-id`, label or annotation `argocd.argoproj.io/instance`;
  the label `app.kubernetes.io/instance` is its default tracking label and everybody else's as well, so it
  counts only where an Argo CD field manager wrote to the object (Argo CD documentation, "Resource Tracking");
- Flux: labels `kustomize.toolkit.fluxcd.io/name`, `helm.toolkit.fluxcd.io/name` (fluxcd.io, API reference);
- Helm 3: label `app.kubernetes.io/managed-by: Helm` with annotation `meta.helm.sh/release-name`
  (helm/helm pkg/action/validate.go);
- a scaler: the field manager that wrote `spec.replicas` through the `scale` subresource (the
  HorizontalPodAutoscaler and KEDA do); VerticalPodAutoscaler: annotation `vpaUpdates` on the pods, for it
  changes resources at their admission and never the Deployment (kubernetes/autoscaler);
- an operator: an owner reference with `controller: true` on the Deployment itself.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from quietpager.incident.policy import Policy
from quietpager.masking.told import Told
from quietpager.model.data import Data
from quietpager.model.incident import Rehearsal
from quietpager.model.text import clean
from quietpager.objects.live import Live

Json = Mapping[str, Any]

ARGO_TRACKING: Final = "argocd.argoproj.io/tracking-id"
ARGO_INSTANCE: Final = "argocd.argoproj.io/instance"
COMMON_INSTANCE: Final = "app.kubernetes.io/instance"
FLUX: Final = (("kustomize.toolkit.fluxcd.io", "Kustomization"), ("helm.toolkit.fluxcd.io", "HelmRelease"))
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
HELM_RELEASE: Final = "meta.helm.sh/release-name"
VPA: Final = "vpaUpdates"

_SCALERS: Final = {"kube-controller-manager": "a HorizontalPodAutoscaler", "keda": "KEDA"}
_RESOURCES: Final = re.compile(r"/spec/template/spec/(?:initContainers|containers)/[0-9]+/resources(?:/.*)?")


class Owner(Data):
    """Who owns it: the tool, and the name that the tool has for it (text from the cluster, cleaned)."""

    tool: str
    name: Told

    def __str__(self) -> str:
        """Write it as a person would: Argo CD (shop)."""
        return f"{self.tool} ({self.name})" if self.name else self.tool


def owner_of(raw: Json, paths: Iterable[str], pods: Sequence[Json] = ()) -> Owner | None:
    """Find who owns these fields of an object.

    Args:
        raw: the live object.
        paths: JSON pointers of the fields that would change.
        pods: annotations of its pods.
    """
    meta = raw.get("metadata") or {}
    labels, notes = _texts(meta.get("labels")), _texts(meta.get("annotations"))
    fields = [one for one in meta.get("managedFields") or () if isinstance(one, Mapping)]
    wanted = tuple(paths)
    return (
        _operator(meta)
        or _argo(labels, notes, fields)
        or _flux(labels)
        or _helm(labels, notes)
        or _scaler(wanted, fields)
        or _vertical(wanted, pods, fields)
    )


def with_owner(done: Rehearsal, live: Live, policy: Policy) -> Rehearsal:
    """Add to a rehearsal's facts who owns what it would change, and what the policy says then."""
    raw = live.raw_owner
    if done.facts is None or raw is None:
        return done
    paths = [edit.path for edit in done.edits]
    sized = any(_RESOURCES.fullmatch(path) for path in paths)
    owner = owner_of(raw, paths, [pod.metadata.annotations for pod in live.pods] if sized else ())
    if owner is None:
        return done
    mode = policy.ownership.mode(done.owner.namespace)
    return done.but(facts=done.facts.but(owned_by=str(owner), owner_mode=mode))


def _texts(found: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, Mapping) else {}


def _owner(tool: str, name: str) -> Owner:
    return Owner(tool=tool, name=clean(name, 200))


def _operator(meta: Json) -> Owner | None:
    for one in meta.get("ownerReferences") or ():
        if isinstance(one, Mapping) and one.get("controller") is True:
            return _owner("an operator", f"{one.get('kind')} {one.get('name')}")
    return None


def _argo(labels: Json, notes: Json, fields: Iterable[Json]) -> Owner | None:
    if ARGO_TRACKING in notes:
        # <application>:<group>/<kind>:<namespace>/<name>
        return _owner("Argo CD", notes[ARGO_TRACKING].partition(":")[0])
    found = labels.get(ARGO_INSTANCE) or notes.get(ARGO_INSTANCE)
    if found is None and any("argocd" in str(one.get("manager", "")).lower() for one in fields):
        found = labels.get(COMMON_INSTANCE)
    return None if found is None else _owner("Argo CD", found)


def _flux(labels: Json) -> Owner | None:
    for prefix, kind in FLUX:
        if any(key.startswith(f"{prefix}/") for key in labels):
            return _owner("Flux", f"{kind} {labels.get(f'{prefix}/name', '')}".strip())
    return None


def _helm(labels: Json, notes: Json) -> Owner | None:
    if labels.get(MANAGED_BY) != "Helm" or HELM_RELEASE not in notes:
        return None
    return _owner("Helm", f"release {notes[HELM_RELEASE]}")


def _scaler(paths: Iterable[str], fields: Iterable[Json]) -> Owner | None:
    if "/spec/replicas" not in paths:
        return None
    for one in fields:
        spec = (one.get("fieldsV1") or {}).get("f:spec") or {}
        if one.get("subresource") == "scale" and "f:replicas" in spec:
            manager = str(one.get("manager", ""))
            known = next((what for name, what in _SCALERS.items() if manager.startswith(name)), manager)
            return _owner("an autoscaler", known)
    return None


def _vertical(paths: Iterable[str], pods: Iterable[Json], fields: Iterable[Json]) -> Owner | None:
    if not any(_RESOURCES.fullmatch(path) for path in paths):
        return None
    wrote = any(
        "vpa" in str(one.get("manager", "")).lower() and "f:resources" in json.dumps(one.get("fieldsV1"))
        for one in fields
    )
    if wrote or any(VPA in notes for notes in pods):
        return _owner("an autoscaler", "a VerticalPodAutoscaler")
    return None
