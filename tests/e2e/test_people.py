"""The stories that need a person, on a real cluster; the person answers through the deployed console's forms.

All three at once, in namespaces of their own: a pod that asks for 40Gi where no node has it, an operator's
own Event about a workload that is not ready, and one deleted ConfigMap that thirty pods need.
"""

import base64
import json
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from infra.testbed.addons import kubectl
from quietpager.local.person import NONE, Reply, Visitor, Wishes
from quietpager.model.incident import Incident, State
from quietpager.people.roles import Role
from quietpager.people.users import Users
from quietpager.render.workloads import CONSOLE
from tests.e2e.bed import (
    ENDED,
    NAMESPACE,
    Bed,
    Json,
    Watch,
    api_writes,
    apply,
    apply_fault,
    now,
    pods,
    until,
)  # fmt: skip
from tests.e2e.stages import Story, measure, table
from tests.e2e.test_stories import check_writes

PERSON = "e2e-person"
LONGEST = 120.0
"""Seconds within which a story must have ended."""
WORKLOADS = ("api", "jobs", "web")
PODS = 30
WANTED = "256Mi"
"""What the person gives the pod that asked for 40Gi."""

pytestmark = pytest.mark.timeout(300)


# The person


@contextmanager
def accounts(name: str, password: str) -> Iterator[None]:
    """Give the deployed console one account, and afterwards the accounts that it had before."""
    before = _accounts_now()
    with tempfile.TemporaryDirectory() as folder:
        users = Users(Path(folder) / "users.json")
        users.put(name, password, Role.APPROVER)
        kept = base64.b64encode(users.path.read_bytes()).decode()
    try:
        _set_accounts({"users.json": kept})
        kubectl("-n", NAMESPACE, "rollout", "restart", "deployment/people-console")
        kubectl("-n", NAMESPACE, "rollout", "status", "deployment/people-console", "--timeout=60s")
        yield
    finally:
        _set_accounts(before)


def _accounts_now() -> Json:
    found = kubectl("-n", NAMESPACE, "get", f"secret/{CONSOLE}", "-o", "jsonpath={.data}", check=False)
    if found.returncode:
        return {}
    kept: Json = json.loads(found.stdout or "{}")
    return kept


def _set_accounts(data: Json) -> None:
    """Make the Secret hold exactly this; without any there is none."""
    kubectl("-n", NAMESPACE, "delete", f"secret/{CONSOLE}", "--ignore-not-found")
    if data:
        about = {"name": CONSOLE, "namespace": NAMESPACE}
        apply({"apiVersion": "v1", "kind": "Secret", "metadata": about, "data": data})


def console() -> str:
    """Find the console's address: that of its pod, which this machine reaches."""

    def address() -> str | None:
        alive = [pod for pod in pods("people-console") if "deletionTimestamp" not in pod["metadata"]]
        return next((pod["status"]["podIP"] for pod in alive if "podIP" in pod["status"]), None)

    return f"http://{until('a pod of the console', address, 30)}:8080"


def answered(bed: Bed, namespace: str, visitor: Visitor, wishes: Wishes) -> Incident:
    """Be the person until the namespace's incident has ended and nothing is asked any more."""

    def look() -> Incident | None:
        one = announced(bed, namespace)
        reply = None if one is None else wishes.reply(one)
        if one is not None and reply is not None:
            said = visitor.answer(one.id, reply)
            assert not (said or "").startswith("refused (422"), said
        return one if one is not None and reply is None and one.state in ENDED else None

    try:
        return until(f"the end of the incident in {namespace}", look, LONGEST, every=0.3)
    except AssertionError as late:
        raise AssertionError(f"{late}\n{bed.story(namespace)}") from late


def announced(bed: Bed, namespace: str) -> Incident | None:
    """Give the namespace's incident that people were told of; more than one is a failure."""
    found = [one for one in bed.incidents(namespace) if one.announced]
    assert len(found) < 2, bed.story(namespace)
    return found[0] if found else None


# What breaks


def too_large(_bed: Bed, namespace: str) -> datetime:
    begun = now()
    apply_fault("too-large", namespace)
    return begun


def out_of_sync(bed: Bed, namespace: str) -> datetime:
    """Start a workload that is never ready, and say about it what its operator would."""
    apply_fault("out-of-sync", namespace)
    begun = now()
    at = begun.strftime("%Y-%m-%dT%H:%M:%SZ")
    involved = {
        "apiVersion": "apps/v1", "kind": "Deployment", "namespace": namespace, "name": "ledger",
        "uid": bed.deployment(namespace, "ledger")["metadata"]["uid"],
    }  # fmt: skip
    said = "snapshot 41 refused by peer ledger-2: epoch 7 is behind 9; replica stays read-only"
    event = {
        "metadata": {"name": "ledger.outofsync", "namespace": namespace}, "involvedObject": involved,
        "type": "Warning", "reason": "LedgerOutOfSync", "message": said,
        "source": {"component": "ledger-operator"}, "reportingComponent": "ledger-operator",
        "firstTimestamp": at, "lastTimestamp": at, "count": 1,
    }  # fmt: skip
    bed.cluster.create("Event", event)
    return begun


def config_map_gone(bed: Bed, namespace: str) -> datetime:
    """Bring thirty pods up, delete the ConfigMap that all of them need, and start them anew."""
    apply_fault("shared-configmap", namespace)
    for name in WORKLOADS:
        bed.wait_healthy(namespace, name, 90)
    begun = now()
    kubectl("-n", namespace, "delete", "configmap/settings")
    kubectl("-n", namespace, "delete", "pods", "--all", "--wait=false")
    return begun


Break = Callable[[Bed, str], datetime]
STORIES: Mapping[str, tuple[Break, Wishes]] = {
    "too large": (too_large, Wishes(instead=Reply("modify", "set-requests", {"memory": WANTED}))),
    "unknown": (out_of_sync, Wishes(takes_over=True)),
    "ConfigMap": (config_map_gone, NONE),
}


# How it went


@dataclass(frozen=True)
class Told:
    """How one story went."""

    incident: Incident
    story: Story
    namespace: str
    begun: datetime


def tell(bed: Bed, name: str, namespace: str, visitor: Visitor) -> Told:
    """Let one story happen, from fault to end, watching, with a person who answers."""
    watches = [Watch(bed.cluster, kind, namespace) for kind in ("Event", "Pod", "Deployment")]
    for watch in watches:
        watch.start()
    break_it, wishes = STORIES[name]
    begun = break_it(bed, namespace)
    incident = answered(bed, namespace, visitor, wishes)
    return Told(incident, measure(bed, name, incident, begun, watches), namespace, begun)


@pytest.fixture(scope="module")
def told(bed: Bed) -> Iterator[dict[str, Told]]:
    """Let all three happen at once."""
    password = secrets.token_urlsafe(16)
    with ExitStack() as stack:
        stack.enter_context(accounts(PERSON, password))
        url = console()
        places = {name: stack.enter_context(bed.team(name.replace(" ", "-").lower())) for name in STORIES}
        visitors = {name: Visitor(url, PERSON, password) for name in STORIES}
        with ThreadPoolExecutor(len(STORIES)) as pool:
            done = {n: pool.submit(tell, bed, n, place, visitors[n]) for n, place in places.items()}
            found = {name: one.result() for name, one in done.items()}
        yield found


def messages(bed: Bed, incident: Incident) -> list[str]:
    """Give what people were told of an incident, by the audit."""
    return [str(entry.body["what"]) for entry in bed.audit(incident) if entry.kind == "told"]


def test_what_no_node_can_hold_is_changed_as_the_person_wants_it(bed: Bed, told: dict[str, Told]) -> None:
    one = told["too large"]
    story = bed.story(one.namespace)
    assert (one.incident.state, one.incident.reason) == (State.CLOSED, "fixed"), story
    assert (one.incident.failure_class, one.incident.decided_by) == ("unschedulable_resources", PERSON)
    assert [(t.action, t.params["memory"]) for t in one.incident.tried] == [("set-requests", WANTED)]
    given = [entry.kind for entry in bed.audit(one.incident) if entry.actor == PERSON]
    assert (given[0], given[-1]) == ("modify", "approve"), story
    container = bed.deployment(one.namespace, "app")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"]["memory"] == WANTED
    bed.wait_healthy(one.namespace, "app")
    assert check_writes(bed, one.namespace, one.begun) == 1
    writes = [w for w in api_writes(one.begun) if w.namespace == one.namespace and not w.dry_run]
    assert {w.actor for w in writes} == {"remediate-set-requests"}


def test_an_operators_event_reaches_a_person_with_its_page(bed: Bed, told: dict[str, Told]) -> None:
    one = told["unknown"]
    incident, story = one.incident, bed.story(one.namespace)
    assert (incident.state, incident.failure_class, incident.taken_over) == (State.HANDOVER, "unknown", True)
    assert incident.decided_by == PERSON, story
    assert (incident.owner.kind, incident.owner.name) == ("Deployment", "ledger")
    assert incident.page is not None
    assert "LedgerOutOfSync" in str(incident.page.to_json()), incident.page  # whichever hint came first
    assert incident.page.look_next
    assert [w for w in api_writes(one.begun) if w.namespace == one.namespace] == []


def test_thirty_pods_that_lack_one_config_map_are_one_incident_and_one_message(
    bed: Bed, told: dict[str, Told]
) -> None:
    one = told["ConfigMap"]
    assert one.incident.state is State.HANDOVER, bed.story(one.namespace)
    assert one.incident.cause == f"configmap:{one.namespace}/settings"

    def all_joined() -> Incident | None:
        latest = announced(bed, one.namespace)
        return latest if latest is not None and latest.symptom_count >= PODS else None

    latest = until(f"{PODS} symptoms in {one.namespace}", all_joined, 60)
    assert {owner.name for owner in latest.owners} == set(WORKLOADS)
    until("the message", lambda: messages(bed, latest), 30)
    time.sleep(6)  # three ticks of the clock: what else is to be said has been said by then
    assert messages(bed, latest) == ["needsperson"], bed.story(one.namespace)
    assert [w for w in api_writes(one.begun) if w.namespace == one.namespace] == []


def test_seconds_for_each_stage(told: dict[str, Told], capsys: pytest.CaptureFixture[str]) -> None:
    """No share of our own is given: an unknown is no finding before the dwell is over."""
    with capsys.disabled():
        print(f"\n{table([one.story for one in told.values()], own=False)}\n")
    for one in told.values():
        assert all(seconds > -1 for seconds in one.story.stages().values()), one.story.stages()
