"""The two kill switches: a record in the store that every worker reads, and bindings in the API server.

    stop    delete the write bindings ‖ set the store's switch     either half works without the other
                                                                   but exit 0 says that both were done
    resume  make the write bindings, then clear the store's switch

Once its binding is gone the API server refuses even a worker that stands between its last look and its
write. `resume` makes the bindings with the person's own rights: software alone can stop, but not start.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

from quietpager.cli.people import terminal_user
from quietpager.cluster.kubeconfig import can_be_found, connected
from quietpager.incident.switch import set_switch
from quietpager.model.cluster import Cluster, Rejected
from quietpager.model.store import Store
from quietpager.model.time import system_clock
from quietpager.render import function_folders, write_bindings
from quietpager.runtime.connect import open_store
from quietpager.runtime.context import function_roots

Json = dict[str, Any]
Say = Callable[[str], None]

NAMESPACE: Final = "quietpager"
NO_CLUSTER: Final = (
    "no kubeconfig is named (--kubeconfig, KUBECONFIG) and there is no ~/.kube/config, so the write bindings "
    "are as they were"
)


@dataclass(frozen=True, slots=True)
class Reach:
    """How the two switches are reached. Any of these may raise; that must not hinder the other half."""

    store: Callable[[], Store]
    cluster: Callable[[], Cluster] | None
    """None: no kubeconfig is named, and there is no usual one."""
    bindings: Callable[[], Sequence[Json]]
    """The ClusterRoleBindings of the actions' write roles."""


def reach(kubeconfig: str | None, context: str | None = None) -> Reach:
    """Reach both as a person does: by QUIETPAGER_STORE, and by the kubeconfig that `scan` would take, too."""
    return Reach(
        store=open_store,
        cluster=(lambda: connected(kubeconfig, context, "quietpager-cli"))
        if can_be_found(kubeconfig)
        else None,
        bindings=lambda: write_bindings(function_folders(function_roots()), NAMESPACE),
    )


def stop(by: Reach, say: Say) -> int:
    """Stop all writing, by whatever can be reached, both at once; gives the exit code: 0 if all worked."""
    with ThreadPoolExecutor(2) as pool:
        unbound = pool.submit(_half, "The write bindings", lambda: _unbind(by), say)
        switched = pool.submit(_half, "The store's switch", lambda: _set_switch(by, stopped=True), say)
        return 0 if unbound.result() & switched.result() else 1


def resume(by: Reach, say: Say) -> int:
    """Let it write again; where a binding cannot be made the store's switch stays as it is."""
    if not _half("The write bindings", lambda: _bind(by), say):
        say("The store's switch was left as it is. `quietpager stop` deletes what was bound.")
        return 1
    return 0 if _half("The store's switch", lambda: _set_switch(by, stopped=False), say) else 1


def _half(what: str, work: Callable[[], str], say: Say) -> bool:
    """Do one half, say how it went and how long it took, and never raise."""
    begun = perf_counter()
    try:
        done, fine = work(), True
    except Exception as no:  # noqa: BLE001 (whatever it is, the other half must be done)
        done, fine = f"{what} could NOT be changed: {str(no) or type(no).__name__}", False
    say(f"{done} ({(perf_counter() - begun) * 1000:.0f} ms)")
    return fine


def _unbind(by: Reach) -> str:
    if by.cluster is None:
        raise RuntimeError(NO_CLUSTER)
    cluster, names = by.cluster(), [str(one["metadata"]["name"]) for one in by.bindings()]
    kept = _failures({name: lambda name=name: _delete(cluster, name) for name in names})  # type: ignore[misc]
    if kept:
        raise RuntimeError(kept)
    return f"The write bindings are deleted: {', '.join(names)}."


def _bind(by: Reach) -> str:
    if by.cluster is None:
        raise RuntimeError(NO_CLUSTER)
    cluster, wanted = by.cluster(), {str(one["metadata"]["name"]): one for one in by.bindings()}
    unmade = _failures({name: lambda one=one: _create(cluster, one) for name, one in wanted.items()})  # type: ignore[misc]
    if unmade:
        raise RuntimeError(unmade)
    return f"The write bindings are made: {', '.join(wanted)}."


def _failures(changes: Mapping[str, Callable[[], None]]) -> str:
    """Make every change, whatever becomes of the others, and give a sentence on those that failed."""
    said = []
    for name, change in changes.items():
        try:
            change()
        except Exception as no:  # noqa: BLE001 (the others must be tried)
            said.append(f"{name}: {no}")
    return "; ".join(said)


def _delete(cluster: Cluster, name: str) -> None:
    try:
        cluster.delete("ClusterRoleBinding", None, name)
    except Rejected as no:
        if no.code != 404:  # it is gone already
            raise


def _create(cluster: Cluster, wanted: Json) -> None:
    """Make a binding; one that is there already must bind the same."""
    name = wanted["metadata"]["name"]
    try:
        cluster.create("ClusterRoleBinding", wanted)
    except Rejected as no:
        if no.code != 409:
            raise
        there = cluster.get("ClusterRoleBinding", None, name) or {}
        if any(there.get(part) != wanted[part] for part in ("roleRef", "subjects")):
            raise RuntimeError(
                f"a binding of this name exists and binds something else. "
                f"See `kubectl get clusterrolebinding {name} -o yaml`, and delete it"
            ) from None


def _set_switch(by: Reach, *, stopped: bool) -> str:
    """Set the store's switch, with who and when; somebody else's change at the same moment is read anew."""
    store = by.store()
    try:
        return set_switch(store, stopped=stopped, by=terminal_user(), now=system_clock())
    finally:
        store.close()
