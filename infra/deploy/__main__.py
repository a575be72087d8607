"""`python -m infra.deploy [FN ...]`: the function set on the test bed, or one function of it.

Everything is rendered from the folders and applied by the server; what is no longer rendered goes.
It never makes a write binding and never clears the kill switch: that is a person's `quietpager resume`.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final

from infra.deploy.store import NAMESPACE, ensure_secret, store_url
from infra.images.build import ensure, ensure_postgres
from infra.render import Settings, function_folders, manifests
from infra.render.everything import PART_OF
from infra.testbed import layout
from infra.testbed.addons import kubectl
from infra.testbed.processes import wait
from quietpager.model.time import system_clock
from quietpager.runtime.context import functions_folder
from quietpager.safety import records
from quietpager.store.port import StoreUnavailable
from quietpager.store.postgres import PostgresStore

Json = dict[str, Any]

POLICY: Final = Path(__file__).with_name("testbed-policy.yaml")
PRUNED: Final = (
    "serviceaccounts,services,configmaps,deployments,clusterroles,clusterrolebindings,triggers,pingsources"
)
"""Kinds of which something may disappear from what is rendered. Write bindings are not labelled, so a
deploy neither makes nor removes one."""


class Clock:
    """Says what was done, and when, in seconds since the command began."""

    def __init__(self) -> None:
        self._begun = monotonic()

    def __call__(self, what: str) -> None:
        """Print one line."""
        print(f"{monotonic() - self._begun:6.1f} s  {what}", flush=True)  # noqa: T201 (a command's own output)


def deploy_all(say: Clock) -> None:
    """Put everything there, and wait until an event really comes through."""
    images = ensure(say=say)
    ensure_postgres(say)
    settings = Settings(cluster="testbed", policy=POLICY.read_text(encoding="utf-8"), images=images)
    rendered = manifests(functions_folder(), settings)
    _apply([one for one in rendered if one["kind"] == "Namespace"])
    ensure_secret()
    _apply([one for one in rendered if one["kind"] != "Namespace"])
    say(f"{len(rendered)} objects applied")
    if gone := _prune(rendered):
        say(f"removed, being rendered no more: {', '.join(gone)}")
    kubectl("-n", NAMESPACE, "rollout", "status", "statefulset/postgres", "--timeout=120s")
    for folder in function_folders(functions_folder()):
        _rolled_out(folder.name)
    say("functions and PostgreSQL are ready")
    wanted = ("broker", "trigger", "apiserversource", "pingsource")
    kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "--all", "--timeout=120s", ",".join(wanted))
    say("broker, Triggers and sources are ready")
    store = PostgresStore(store_url())
    since = system_clock()
    wait("A tick of clock and sweep, through broker and functions", lambda: _beats(store, since), 90)
    store.close()
    say("clock and sweep have ticked")


def deploy_some(paths: Sequence[str], say: Clock) -> None:
    """Build these functions again and roll them out; rules and rights of the others stay as they are."""
    images = ensure(paths, say)
    settings = Settings(cluster="testbed", policy=POLICY.read_text(encoding="utf-8"), images=images)
    mine = [
        one for one in manifests(functions_folder(), settings)
        if one["metadata"]["name"] in images or one["kind"] == "ConfigMap"
    ]  # fmt: skip
    _apply(mine)
    for name in images:
        _rolled_out(name)
    say(f"rolled out: {', '.join(images)}")


def _apply(objects: list[Json]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump({"apiVersion": "v1", "kind": "List", "items": objects}, file)
        file.flush()
        manager = "--field-manager=quietpager-deploy"
        kubectl("apply", "--server-side", "--force-conflicts", manager, "-f", file.name)


def _prune(rendered: list[Json]) -> list[str]:
    """Delete what carries our label and is rendered no more (`kubectl apply --prune` cannot)."""
    wanted = {(one["kind"], one["metadata"]["name"]) for one in rendered}
    answer = kubectl("get", PRUNED, "-n", NAMESPACE, "-l", f"{PART_OF}=quietpager", "-o", "json").stdout
    there = [(one["kind"], one["metadata"]["name"]) for one in json.loads(answer)["items"]]
    gone = [f"{kind.lower()}/{name}" for kind, name in there if (kind, name) not in wanted]
    if gone:
        kubectl("delete", "-n", NAMESPACE, *gone)
    return gone


def _rolled_out(name: str) -> None:
    kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{name}", "--timeout=120s")


def _beats(store: PostgresStore, since: datetime) -> bool:
    """Tell whether clock and sweep have both run: source, broker, Trigger, function, API server, store.

    A warm Knative still shows Ready what has not come up yet, so only this is proof.
    """
    try:
        found = store.get_many([records.heartbeat(part) for part in ("clock", "sweep")])
    except StoreUnavailable:
        return False
    beats = [datetime.fromisoformat(str(record.body["at"])) for record in found.values()]
    return len(beats) == 2 and min(beats) > since


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m infra.deploy", description=__doc__)
    parser.add_argument(
        "function", nargs="*", help="e.g. detect/crash; all and everything where none is named"
    )
    wanted = parser.parse_args()
    say = Clock()
    if wanted.function:
        deploy_some(wanted.function, say)
        return
    deploy_all(say)
    print(  # noqa: T201 (a command's own output)
        "It is stopped: it watches and plans, and writes nothing until `quietpager resume`.\n"
        f"export KUBECONFIG={layout.KUBECONFIG}\nexport QUIETPAGER_STORE={store_url()}"
    )


if __name__ == "__main__":
    main()
