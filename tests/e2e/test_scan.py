"""`quietpager scan` on the real cluster: every fault of a family that exists is one row, nothing else is.

The namespaces are not opted in, so a product that is deployed there leaves the faults as they are.
"""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

from infra.testbed import layout
from infra.testbed.addons import kubectl
from tests.e2e.bed import FAULTS, MANIFESTS, admin, healthy, set_image, until

Json = dict[str, Any]
pytestmark = pytest.mark.timeout(600)

CLASSES = {
    "crashloop": "crashloop_app_error",
    "init-fails": "crashloop_app_error",
    "run-error": "container_start_error",
    "oom-bounded": "oom_killed",
    "oom-hopeless": "oom_killed",
    "bad-tag": "image_pull_not_found",
    "image-never": "image_pull_not_found",
    "imagename-invalid": "image_invalid",
    "imagepull-missing": "image_pull_not_found",
    "imagepull-dns": "image_pull_network",
    "imagepull-broken": "image_pull_network",
    "imagepull-forbidden": "image_pull_auth",
    "imagepull-limited": "image_pull_rate_limited",
    "imagepull-private": "image_pull_auth",
    "configmap-missing": "config_missing_configmap",
    "configmap-key-missing": "config_missing_configmap",
    "secret-volume-missing": "config_missing_secret",
    "too-large": "unschedulable_resources",
    "pvc-unbound": "pvc_unbound",
}
"""Fault → failure class, for every manifest whose family exists."""
REMEDIES = {
    "bad-tag": "rollout-undo", "oom-bounded": "raise-memory", "oom-hopeless": "raise-memory",
    "too-large": "set-requests",
}  # fmt: skip


def scan(*arguments: str) -> tuple[Json, float]:
    """Scan as a person does; gives the report, and the seconds that the whole command took."""
    command = [sys.executable, "-m", "quietpager.cli.main", "scan", "--kubeconfig", str(layout.KUBECONFIG)]
    begun = time.monotonic()
    done = subprocess.run([*command, "--json", *arguments], check=False, capture_output=True, text=True)
    seconds = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    found: Json = json.loads(done.stdout)
    return found, seconds


@contextmanager
def place(fault: str) -> Iterator[str]:
    """Make the fault in a namespace of its own."""
    name, cluster = f"scan-{fault}-{uuid.uuid4().hex[:6]}", admin()
    cluster.create("Namespace", {"metadata": {"name": name}})
    try:
        until("its service account", lambda: has_account(name), 20)
        path = MANIFESTS / f"{fault}.yaml"
        kubectl("-n", name, "apply", "-f", str(path if path.exists() else FAULTS / f"{fault}.yaml"))
        if fault == "bad-tag":
            until("web to be well", lambda: is_well(name, "web"), 60)
            set_image(name, "web", "web", "registry.example.com/missing/app:1.2.3")
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false", check=False)


def is_well(namespace: str, name: str) -> bool:
    found = admin().get("Deployment", namespace, name)
    return found is not None and healthy(found)


def has_account(namespace: str) -> bool:
    return kubectl("-n", namespace, "get", "serviceaccount/default", check=False).returncode == 0


def rows_as(failure_class: str, namespace: str) -> list[Json] | None:
    """Scan a namespace; gives its rows if there is one, of that class."""
    rows: list[Json] = scan("--namespace", namespace)[0]["rows"]
    return rows if [row["failure_class"] for row in rows] == [failure_class] else None


def namespace_of(owner: str) -> str:
    return owner.partition(" ")[2].partition("/")[0]


def standing(report: Json) -> set[str]:
    """Name the causes of a report."""
    return {row["cause"] for row in report["rows"]}


def leaving() -> set[str]:
    """Namespaces that earlier tests are still getting rid of."""
    found = admin().list("Namespace")
    return {one["metadata"]["name"] for one in found if one["metadata"].get("deletionTimestamp")}


def test_each_fault_is_one_row_and_nothing_else_is(capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack:
        before = standing(scan()[0])  # what earlier tests killed was failing a moment ago, and is a row
        begun = time.monotonic()
        places = {fault: stack.enter_context(place(fault)) for fault in CLASSES}
        mine = {namespace: fault for fault, namespace in places.items()}

        def all_seen() -> bool:
            rows = scan()[0]["rows"]
            return {namespace_of(one) for row in rows for one in row["owners"]} >= set(mine)

        until("a row of every fault", all_seen, 240, every=2)
        shown = time.monotonic() - begun
        report, seconds = scan()
        with capsys.disabled():
            print(f"\nall {len(CLASSES)} faults are in the table {shown:.1f} s after the first was applied")
            print(f"scan of {report['looked_at']}: {seconds:.2f} s\n")
        for fault, namespace in places.items():
            # Now and then an OOM kill is told as `Error`, 137; the container's next end, after
            # a back-off of up to 80 s by then, corrects it.
            alone = partial(rows_as, CLASSES[fault], namespace)
            rows = until(f"{fault} as {CLASSES[fault]} alone", alone, 200)
            remedy = rows[0]["remedy"]
            assert (None if remedy is None else remedy["action"]) == REMEDIES.get(fault), fault
            assert bool(rows[0]["edits"]) == (fault in REMEDIES), fault
        gone = leaving()
        fresh = [row for row in report["rows"] if row["cause"] not in before]
        rows = [row for row in fresh if not {namespace_of(one) for one in row["owners"]} <= gone]
        faults = [{mine.get(namespace_of(one), one) for one in row["owners"]} for row in rows]
        expected = [{fault} for fault in CLASSES]  # of one registry, too: no namespace speaks for another
        assert sorted(map(sorted, faults)) == sorted(map(sorted, expected))
        assert report["missing"] == []
        # What backs off and is pulled anew all the time would slow down the tests that follow.
        kubectl("delete", "namespace", *places.values(), "--timeout=180s")
