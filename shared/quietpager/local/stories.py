"""What the demo breaks, and what must have become of it in the end.

Six stories: four recorded cases, an operator's Event that no rule knows, and one deleted ConfigMap that
thirty pods need. Around them noise, of which nobody may be told. Who calls it: the demo.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quietpager.local.person import NONE, Reply, Wishes
from quietpager.model.cluster import Cluster
from quietpager.model.incident import Incident, State
from quietpager.model.store import Store
from quietpager.model.time import system_clock, to_text
from quietpager.runtime.context import functions_folder
from quietpager.sandbox.load import Case, load_case

Json = dict[str, Any]
Say = Callable[[str], None]

PERSON: Final = "demo"
"""Who answers, and the name of the console's account."""
SHOP: Final = "shop"
"""Namespace of the workloads that need one ConfigMap."""
SETTINGS: Final = "settings"
WORKLOADS: Final = ("api", "jobs", "web")
REPLICAS: Final = 10
PATIENCE: Final = 20.0
"""Seconds within which the sandbox has the shop's pods ready."""


@dataclass(frozen=True, slots=True)
class Story:
    """One story, and how it must end."""

    about: str
    """The incident's owner, or its cause where several workloads share it."""
    state: State
    case: str = ""
    """The recorded case's folder; none: it is made by hand."""
    tried: str = ""
    """The action that must have been the last; none: nothing may have been tried."""
    affected: int = 1
    """So many objects at least."""
    wishes: Wishes = NONE
    pages: bool = False
    """Whether a person must have got the page with what was found out."""
    asks: int | None = None
    """So many messages to people in all, where that is the point."""

    def is_over(self, one: Incident) -> bool:
        """Tell whether nothing more is going to happen: no function acts, and no person answers."""
        over = one.state in {State.CLOSED, State.HANDOVER, State.BLOCKED}
        return over and self.wishes.reply(one) is None and one.symptom_count >= self.affected

    def faults(self, one: Incident, store: Store) -> Iterator[str]:
        """Name everything about the incident that is not as expected."""
        tried = one.tried[-1].action if one.tried else ""
        if (one.state, tried) != (self.state, self.tried):
            wanted = f"{self.state} after {self.tried or 'nothing'}"
            yield f"it was to end {wanted}; it is {one.state} after {tried or 'nothing'}"
        if one.symptom_count < self.affected:
            yield f"{self.affected} objects were to be affected, it counts {one.symptom_count}"
        if self.wishes != NONE and one.decided_by != PERSON:
            yield f"{PERSON} was to decide, it was {one.decided_by or 'nobody'}"
        instead, got = self.wishes.instead, dict(one.tried[-1].params) if one.tried else {}
        if instead is not None and any(str(got.get(name)) != text for name, text in instead.typed.items()):
            yield f"a person wanted {instead}; what was tried last had {got}"
        if self.pages and one.page is None:
            yield "it has no page"
        told = [str(entry.body["what"]) for entry in store.audit(one.id) if entry.kind == "told"]
        if self.asks is not None and len(told) != self.asks:
            yield f"{self.asks} messages were to reach people, there were {told}"


STORIES: Final = (
    Story(
        about="Deployment team-45/cache", case="detect/crash/cases/30-oom-bounded",
        state=State.CLOSED, tried="raise-memory",
    ),
    Story(
        about="Deployment team-25/app", case="detect/crash/cases/15-oomkilled",
        state=State.HANDOVER, tried="raise-memory",
    ),
    Story(
        about="Deployment team-43/web", case="detect/image/cases/32-bad-tag-new-revision",
        state=State.CLOSED, tried="rollout-undo",
    ),
    Story(
        about="Deployment team-33/app", case="detect/scheduling/cases/23-unschedulable",
        state=State.CLOSED, tried="set-requests",
        wishes=Wishes(instead=Reply("modify", "set-requests", {"memory": "256Mi"})),
    ),
    Story(
        about="Deployment team-44/ledger", case="analyze/unknown/cases/33-unknown-operator-event",
        state=State.HANDOVER, pages=True, wishes=Wishes(takes_over=True),
    ),
    Story(
        about=f"configmap:{SHOP}/{SETTINGS}",
        state=State.HANDOVER, affected=len(WORKLOADS) * REPLICAS, asks=1,
    ),
)  # fmt: skip


def key_of(one: Incident) -> str:
    """Say what an incident is about, as `Story.about` does."""
    return one.cause if one.shared else str(one.owner)


def of_stories(found: Iterable[Incident]) -> list[tuple[Story, Incident | None]]:
    """Join stories and incidents."""
    by_key = {key_of(one): one for one in found}
    return [(story, by_key.get(story.about)) for story in STORIES]


def all_over(found: Sequence[Incident]) -> bool:
    """Tell whether every story has come to its end, and nothing else is open."""
    others = [one for one in found if key_of(one) not in {story.about for story in STORIES}]
    told = all(one is not None and story.is_over(one) for story, one in of_stories(found))
    return told and all(one.state in {State.CLOSED, State.HANDOVER, State.BLOCKED} for one in others)


# --- breaking ------------------------------------------------------------------------------------------


def break_things(cluster: Cluster, url: str, say: Say) -> None:
    """Bring up what works, make noise, then break everything at once."""
    folder = functions_folder()
    _open_shop(cluster)
    benign = load_case(url, folder / "ingest/intake/cases/25-healthy-pulled", system_clock())
    say(
        "Benign: a pod that starts, a probe that fails once while its pod ends, a flaky pull, a forged Event."
    )
    _post(cluster, benign)
    _make_noise(cluster, benign, folder)
    for story in STORIES:
        if story.case:
            loaded = load_case(url, folder / story.case, system_clock())
            name = story.case.rpartition("/")[2]
            say(f"Fault: {name}: {len(loaded.objects)} objects, {len(loaded.events())} Events")
            _post(cluster, loaded)
    _close_shop(cluster)
    count = len(WORKLOADS) * REPLICAS
    say(f"Fault: ConfigMap {SHOP}/{SETTINGS} is deleted, and the {count} pods that need it start anew")


def _open_shop(cluster: Cluster) -> None:
    """Make the workloads that need one ConfigMap, and wait until they run."""
    labels = {"quietpager.dev/enabled": "true"}
    cluster.create("Namespace", {"metadata": {"name": SHOP, "labels": labels}})
    cluster.create("ConfigMap", {"metadata": {"name": SETTINGS, "namespace": SHOP}, "data": {"x": "1"}})
    for name in WORKLOADS:
        cluster.create("Deployment", _workload(name))
    end = time.monotonic() + PATIENCE
    while any(
        (one.get("status") or {}).get("availableReplicas") != REPLICAS
        for one in cluster.list("Deployment", SHOP)
    ):
        if time.monotonic() > end:
            raise SystemExit(f"The sandbox did not bring up the pods of {SHOP} within {PATIENCE:.0f} s.")
        time.sleep(0.1)


def _close_shop(cluster: Cluster) -> None:
    cluster.delete("ConfigMap", SHOP, SETTINGS)
    for pod in cluster.list("Pod", SHOP):
        cluster.delete("Pod", SHOP, pod["metadata"]["name"])


def _workload(name: str) -> Json:
    env = [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": SETTINGS, "key": "x"}}}]
    container = {"name": name, "image": "localhost/busybox:1", "env": env}
    labels = {"app": name}
    return {
        "metadata": {"name": name, "namespace": SHOP},
        "spec": {
            "replicas": REPLICAS, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
            },
        },
    }  # fmt: skip


def _post(cluster: Cluster, case: Case) -> None:
    for event in case.events():
        cluster.create("Event", event)


def _make_noise(cluster: Cluster, benign: Case, folder: Path) -> None:
    pod = next(o for o in benign.objects if o["kind"] == "Pod")
    now = to_text(system_clock().replace(microsecond=0))
    fault = json.loads((folder / "detect/crash/cases/30-oom-bounded/event.json").read_text(encoding="utf-8"))
    cluster.create("Event", _about(fault, pod, "forged", now))
    _create_flaky(cluster, benign)
    probe = json.loads((Path(__file__).parent / "noise/unhealthy.json").read_text(encoding="utf-8"))
    cluster.delete("Pod", pod["metadata"]["namespace"], pod["metadata"]["name"])
    cluster.create("Event", _about(probe, pod, "probe", now))


def _about(event: Json, pod: Json, name: str, now: str) -> Json:
    """Turn a recorded Event to another pod."""
    meta = pod["metadata"]
    involved = event["involvedObject"] | {
        "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"],
    }  # fmt: skip
    return event | {
        "metadata": {"name": f"{meta['name']}.{name}", "namespace": meta["namespace"]},
        "involvedObject": involved, "firstTimestamp": now, "lastTimestamp": now, "count": 1,
    }  # fmt: skip


def _create_flaky(cluster: Cluster, benign: Case) -> None:
    like = next(o for o in benign.objects if o["kind"] == "Deployment")
    labels = {"app": "flaky"}
    container = {"name": "flaky", "image": "registry.example.com/flaky/app:1"}
    cluster.create(
        "Deployment",
        {
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "flaky", "namespace": like["metadata"]["namespace"]},
            "spec": {
                "replicas": 1, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
    )  # fmt: skip
