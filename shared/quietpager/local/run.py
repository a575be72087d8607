"""`quietpager run`: the whole product in one process, on any cluster that a kubeconfig leads to.

    reads               with the kubeconfig's own rights
    a remediator's      impersonates the ServiceAccount that is rendered for it, so that RBAC, the write
    patch               bindings of `quietpager resume` among it, binds it exactly as on Knative
    any other write     is refused in process

Started as it is, it is stopped: the kill switch counts as stored, the policy's autonomy is `analyze`.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quietpager.actions.schema import load_actions
from quietpager.cluster.client import ApiServer
from quietpager.cluster.kubeconfig import connected, sentence
from quietpager.cluster.limits import ReadOnly, WritesAs
from quietpager.cluster.missing import Missing, has_no_namespace
from quietpager.incident import records
from quietpager.incident.policy_file import PolicyFile
from quietpager.local.host import Host
from quietpager.local.host import run as run_host
from quietpager.model.cluster import Cluster, ClusterUnavailable, Kind, Rejected
from quietpager.model.store import Store, StoreUnavailable
from quietpager.objects.table import namespaced, needed_to_watch
from quietpager.people.channels import ONE_LINE
from quietpager.render import DEFAULTS, FunctionFolder, user_of
from quietpager.runtime.connect import STORE
from quietpager.runtime.context import function_roots
from quietpager.runtime.logs import configure_logs
from quietpager.store import embedded
from quietpager.store.anchors import PLACE

Say = Callable[[str], None]

NEEDED: Final[tuple[Kind, ...]] = needed_to_watch()
"""What is listed to see what is wrong, and to plan what may be done."""
STOP_TRIES, STOP_PAUSE = 20, 0.25
"""How often, and every how many seconds, its own PostgreSQL is asked to stop."""
NOBODY: Final = "quietpager.dev/nothing-has-this-label"
"""A selector that selects nothing: the answer says whether one may ask, and is small."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asked for on the command line."""

    kubeconfig: str | None
    context: str | None
    namespace: str | None
    policy: Path | None
    data: Path
    port: int | None


def run(asked: Asked, say: Say) -> int:
    """Run until SIGTERM or Ctrl-C; gives the exit code: 2 where it cannot begin."""
    os.environ.setdefault("QUIETPAGER_LOG", "WARNING")
    os.environ[ONE_LINE] = "1"
    configure_logs()
    cluster = None
    try:
        file = PolicyFile(None if asked.policy is None else str(asked.policy))
        policy, _ = file.now()
        cluster = connected(asked.kubeconfig, asked.context, "quietpager-run")
        lacking = list(missing(cluster, asked.namespace))
        for no_right in lacking:
            say(no_right.sentence)
        if len(lacking) == len(NEEDED):
            say("Nothing may be read, so there is nothing to watch.")
            return 2
        if asked.namespace is not None and has_no_namespace(cluster, asked.namespace):
            say(f"There is no namespace {asked.namespace} yet; it is watched from when it is made.")
        with _store(asked.data) as url:
            _anchor(asked.data / "anchors")
            host = Host(url, connections(cluster, asked.namespace), file, say)
            host.store.get(records.SWITCH)  # a store that is away is said before anything begins

            def ready(address: str) -> None:
                where = "all namespaces" if asked.namespace is None else f"namespace {asked.namespace}"
                say(f"quietpager watches {where} of {cluster.address}; autonomy {policy.autonomy.value}.")
                say(_switch(host.store))
                say(f"For `quietpager incidents` and the like elsewhere: export {STORE}='{url}'")
                if address:
                    say(f"Its broker listens on {address}.")

            asyncio.run(run_host(host, asked.port, ready))
    except (ClusterUnavailable, Rejected) as no:
        say(sentence(no, cluster))
        return 2
    except (StoreUnavailable, ValueError, OSError) as no:
        say(str(no))
        return 2
    say("Stopped. What is open goes on when it is started again.")
    return 0


def missing(cluster: ApiServer, namespace: str | None) -> Iterator[Missing]:
    """Find what may not be listed.

    Raises:
        ClusterUnavailable: no answer.
        Rejected: the API server does not know us.
    """
    for kind in NEEDED:
        try:
            cluster.list(kind, namespace if namespaced(kind) else None, NOBODY)
        except Rejected as no:
            if no.code != 403:
                raise
            yield Missing(kind, namespace)


def connections(cluster: ApiServer, namespace: str | None) -> Callable[[FunctionFolder | None], Cluster]:
    """Give each function what it may do: everybody reads, a remediator writes as its ServiceAccount."""
    actions = load_actions(function_roots())

    def connect_as(folder: FunctionFolder | None) -> Cluster:
        who = f"quietpager-{'source' if folder is None else folder.name}"
        own = cluster.acting_as(who)
        if folder is None or folder.action is None:
            return ReadOnly(own, who, namespace)
        user = user_of(folder, DEFAULTS.namespace)
        rights = actions[folder.action].write
        creates = frozenset(what for one in rights if "create" in one.verbs for what in one.resources)
        return WritesAs(own, cluster.acting_as(who, user), user, namespace, creates=creates)

    return connect_as


@contextmanager
def _store(data: Path) -> Iterator[str]:
    """Give the URL of the store: the one that is named, or a PostgreSQL of our own in the data folder."""
    named = os.environ.get(STORE)
    if named:
        yield named
        return
    server = embedded.start(data / "postgres")
    os.environ[STORE] = server.url
    try:
        yield server.url
    finally:
        # Our own connections are closed by now, but their backends take a moment to go; till then the
        # server looks used. One that others do use is left running.
        for _ in range(STOP_TRIES):
            if server.stop():
                break
            time.sleep(STOP_PAUSE)


def _anchor(folder: Path) -> None:
    """Anchor the audit in a folder of our own, where no other place is named."""
    if not os.environ.get(PLACE):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ[PLACE] = str(folder)


def _switch(store: Store) -> str:
    switch = store.get(records.SWITCH)
    if switch is None or switch.body.get("stopped", True):
        return "Writing is stopped; `quietpager resume` starts it."
    return f"Writing is on, by {switch.body.get('by', 'somebody')}; `quietpager stop` stops it."
