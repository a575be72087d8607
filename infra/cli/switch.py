"""The kill switch: the store's, which every worker reads, and the API server's, which nobody can pass by.

`stop` deletes the write bindings first, since from that instant the API server refuses even a worker
that stands between its last look and its write; then it sets the store's switch. `resume` makes the
bindings with the person's own rights: software alone can stop, but not start.
"""

import getpass
import os
from collections.abc import Callable, Sequence
from time import perf_counter

from infra.render import FunctionFolder, write_binding_name, write_bindings
from quietpager.cluster.port import Cluster, ClusterUnavailable, Rejected
from quietpager.model.time import system_clock, to_text
from quietpager.safety import records
from quietpager.store.port import ABSENT, Audit, Conflict, Put, Store, StoreUnavailable

CHAIN = "switch"
"""The audit chain of stop and resume."""

Say = Callable[[str], None]


def stop(folders: Sequence[FunctionFolder], store: Store | None, cluster: Cluster | None, say: Say) -> int:
    """Stop all writing, by whatever can be reached; gives the exit code: 0 only if all of it worked."""
    bindings = _each(folders, cluster, say, _unbind, "deleted")
    switch = _switch(store, say, stopped=True)
    return 0 if bindings and switch else 1


def resume(
    folders: Sequence[FunctionFolder],
    store: Store | None,
    cluster: Cluster | None,
    say: Say,
    namespace: str = "quietpager",
) -> int:
    """Let it write again; where the bindings cannot be made the store's switch stays as it is."""
    made = {one["metadata"]["name"]: one for one in write_bindings(folders, namespace)}

    def bind(cluster: Cluster, name: str) -> None:
        try:
            cluster.create("ClusterRoleBinding", made[name])
        except Rejected as no:
            if no.code != 409:  # it is there already
                raise

    if not _each(folders, cluster, say, bind, "made"):
        say("Nothing was resumed.")
        return 1
    return 0 if _switch(store, say, stopped=False) else 1


def _unbind(cluster: Cluster, name: str) -> None:
    try:
        cluster.delete("ClusterRoleBinding", None, name)
    except Rejected as no:
        if no.code != 404:  # it is gone already
            raise


def _each(
    folders: Sequence[FunctionFolder],
    cluster: Cluster | None,
    say: Say,
    change: Callable[[Cluster, str], None],
    done: str,
) -> bool:
    if cluster is None:
        say("No KUBECONFIG is set: the write bindings are left alone, only the store's switch counts.")
        return True
    begun, fine = perf_counter(), True
    names = [write_binding_name(one.action) for one in folders if one.action is not None]
    for name in names:
        try:
            change(cluster, name)
        except (ClusterUnavailable, Rejected) as no:
            fine = False
            say(f"The write binding {name} could not be {done}: {no}")
    if fine:
        say(f"{len(names)} write bindings {done} in {(perf_counter() - begun) * 1000:.0f} ms.")
    return fine


def _switch(store: Store | None, say: Say, *, stopped: bool) -> bool:
    """Set the store's switch, with who and when; somebody else's change at the same moment is read anew."""
    if store is None:
        say("The store's switch could not be set: no QUIETPAGER_STORE is named.")
        return False
    by = os.environ.get("SUDO_USER") or getpass.getuser()
    word = "stopped" if stopped else "resumed"
    for _ in range(5):
        try:
            before, now = store.get(records.SWITCH), system_clock()
            body = {"stopped": stopped, "by": by, "at": to_text(now)}
            version = ABSENT if before is None else before.version
            store.transact([Put(records.SWITCH, body, version), Audit(CHAIN, now, word, by)])
        except Conflict:
            continue
        except StoreUnavailable as away:
            say(f"The store's switch could not be set: {away}")
            return False
        say(f"Writing is {word} by {by}.")
        return True
    say("The store's switch could not be set: others set it at the same moment; look, and try again.")
    return False
