"""Sequences of writes by an action's account, with another writer in between, on a real API server."""

from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any, Final

from quietpager.change.marks import MARK, ROLLED, UNDO_OF, WROTE, annotation, pointer, record_of, shape_of
from tests.apiserver import ApiServer
from tests.cage import oracle
from tests.cage.requests import BELOW, GROUPS, PATCH, WROTE_AT, edit

Json = dict[str, Any]

WRITES: Final = 6
PATH: Final = "/apis/apps/v1/namespaces/shop/deployments"
ROLLED_AT: Final = pointer(ROLLED)
MARK_AT: Final = pointer(MARK)
SIZES: Final = ("4Mi", "16Mi", "64Mi", "100Mi", "128Mi", "200Mi", "256Mi", "512Mi", "1Gi", "3Gi", "100Gi")
CPUS: Final = ("5m", "10m", "60m", "100m", "250m", "500m", "2")
ODD: Final[tuple[tuple[str, Any], ...]] = (
    ("/spec/replicas", 9), (f"{BELOW['app']}/args", ["--evil"]), (f"{BELOW['app']}/command", ["sh"]),
    (f"{BELOW['app']}/env/0/value", "slow"), (f"{BELOW['side']}/resources/limits", {"memory": "64Mi"}),
    (f"{BELOW['app']}/resources/limits/memory", None), (f"{BELOW['app']}/securityContext", {}),
    ("/metadata/annotations/note", "other"), ("/metadata/labels/team", "other"),
)  # fmt: skip
IMAGES: Final = (
    "registry.example.com:5000/shop/web:1", "registry.example.com:5000/shop/web", "evil:1",
    "registry.example.com:5000/shop/evil:2", "registry.example.com/shop/web:2",
)  # fmt: skip
PROBE: Final = (
    {"tcpSocket": {"port": 8080}}, {"exec": {"command": ["sh"]}},
    {"httpGet": {"path": "/", "port": 80, "host": "169.254.169.254"}},
)  # fmt: skip


@dataclass
class Sequence:
    """One Deployment of its own, and what has been done to it."""

    server: ApiServer
    action: str
    user: str
    name: str
    random: Random
    base: Json = field(default_factory=dict)
    acts: int = 0
    admitted: int = 0
    seen: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def play(self) -> list[str]:
        """Make up to six writes of the account, and some of somebody else; gives the violations."""
        web = self.server.send("GET", f"{PATH}/web").body
        self.base = self.server.send(
            "POST", PATH, {**web, "metadata": {"name": self.name, "namespace": "shop"}}
        ).body
        for number in range(WRITES):
            if self.random.random() < 0.2:
                self.somebody_else(number)
            live = self.live()
            undo = self.random.random() < 0.45 and annotation(live, MARK) != ""
            patch = self.undo(live) if undo else self.forward(live, number)
            answer = self.send(patch, self.user)
            self.told.append(f"{answer.code} {patch}")
            if answer.code == 200:
                self.admitted += 1
                self.acts += not undo
                if wrong := oracle.violations(self.action, self.base, answer.body, self.acts):
                    return wrong
        return []

    def live(self) -> Json:
        found = self.server.send("GET", f"{PATH}/{self.name}").body
        if record := annotation(found, WROTE):
            self.seen.append(record)
        return found

    def send(self, patch: list[Json], user: str | None, *, dry: bool = False) -> Any:
        path = f"{PATH}/{self.name}{'?dryRun=All' if dry else ''}"
        groups = GROUPS if user else ()
        return self.server.send("PATCH", path, patch, user=user, groups=groups, content=PATCH)

    def somebody_else(self, number: int) -> None:
        """Another writer changes something; now and then it puts an old record back, as a backup would."""
        changes = [edit("/metadata/annotations", annotations(self.live()) | {"note": f"n{number}"})]
        if self.seen and self.random.random() < 0.5:
            changes = [
                edit(
                    "/metadata/annotations", annotations(self.live()) | {WROTE: self.random.choice(self.seen)}
                )
            ]
        if self.random.random() < 0.6:
            size = self.random.choice(("128Mi", "256Mi", "300Mi", "512Mi"))
            changes.append(edit(f"{BELOW['app']}/resources/limits/memory", size))
        before = self.live()["metadata"]["generation"]
        answer = self.send(changes, None)
        self.told.append(f"somebody else: {answer.code} {changes}")
        # What changes nothing is no write: the record of ours stays the latest.
        if answer.code == 200 and answer.body["metadata"]["generation"] != before:
            self.base, self.acts = answer.body, 0

    def forward(self, live: Json, number: int) -> list[Json]:
        """Change something, or nothing, with a true record mostly."""
        kind = self.random.random()
        changes = self.plausible(live) if kind < 0.65 else self.changes() if kind < 0.9 else []
        if self.random.random() < 0.1:
            changes.append(edit(*self.random.choice(ODD)))
        patch = [*changes, edit("/metadata/annotations", annotations(live) | {MARK: f"int-{number}"})]
        return self.with_record(live, patch)

    def undo(self, live: Json) -> list[Json]:
        """Restore what is recorded, or halve, or whatever."""
        was = annotation(live, WROTE).partition(":")[2].split()
        kind = self.random.random()
        changes = self.changes()
        if kind < 0.6 and was:
            some = was if kind < 0.35 else self.random.sample(was, self.random.randint(0, len(was)))
            changes = [restore(one) for one in some]
            if kind > 0.5:
                changes.append(edit(f"{BELOW['app']}/resources/requests/memory", self.random.choice(SIZES)))
        notes = annotations(live) | {MARK: annotation(live, MARK) + UNDO_OF}
        patch = [*changes, edit("/metadata/annotations", notes)]
        if self.random.random() < 0.85:
            notes.pop(WROTE, None)
            return patch
        return self.with_record(live, patch)

    def with_record(self, live: Json, patch: list[Json]) -> list[Json]:
        after = self.send(patch, None, dry=True).body
        meta = live["metadata"]
        value = f"{self.action}/{meta['uid']}/{meta['generation'] + 1}:app.limits.memory=4Mi/256Mi"
        if self.random.random() < 0.8 and after.get("kind") == "Deployment":
            value = record_of(self.action, meta["uid"], meta["generation"] + 1, live, after)
        elif self.seen and self.random.random() < 0.6:
            value = self.random.choice(self.seen)
        rolled = (
            [edit(ROLLED_AT, shape_of(after))] if self.action == "rollout-undo" and "spec" in after else []
        )
        return [*patch, edit(WROTE_AT, value), *rolled]

    def plausible(self, live: Json) -> list[Json]:
        """Give changes that the action may make, just now."""
        times = {"raise-memory": (1.25, 1.5, 2), "set-requests": (0.5, 0.8), "rollout-undo": (0.5, 2, 4)}
        app = oracle.listed(live)[0]["resources"]
        found = [edit(f"{BELOW['app']}/image", self.random.choice(IMAGES[:2]))]
        if self.action != "rollout-undo" or self.random.random() < 0.5:
            kinds = [("limits", "memory")] if self.action != "set-requests" else [("requests", "memory")]
            more = [("requests", "memory")] if self.random.random() < 0.4 else []
            found = []
            for kind, name in dict.fromkeys((*kinds, *more)):
                if name in app.get(kind, {}):
                    size = oracle.size(app[kind][name]) * Decimal(self.random.choice(times[self.action]))
                    found.append(edit(f"{BELOW['app']}/resources/{kind}/{name}", f"{int(size) // 1024}Ki"))
        return found

    def changes(self) -> list[Json]:
        """Give changes that are about what the action may do."""
        pick, app = self.random.choice, f"{BELOW['app']}/resources"
        if self.action == "rollout-undo":
            options = [
                edit(f"{BELOW['app']}/image", pick(IMAGES)),
                edit(f"{app}/limits/memory", pick(SIZES)),
                edit(f"{app}/requests/cpu", pick(CPUS)),
                edit(f"{BELOW['app']}/startupProbe", pick(PROBE)),
            ]
        elif self.action == "raise-memory":
            options = [edit(f"{app}/limits/memory", pick(SIZES)), edit(f"{app}/requests/memory", pick(SIZES))]
        else:
            options = [edit(f"{app}/requests/memory", pick(SIZES)), edit(f"{app}/requests/cpu", pick(CPUS))]
        return self.random.sample(options, self.random.randint(1, min(2, len(options))))


def annotations(obj: Json) -> dict[str, str]:
    return dict(obj["metadata"].get("annotations") or {})


def restore(recorded: str) -> Json:
    """Turn `app.limits.memory=256Mi/512Mi` into the operation that puts 256Mi there."""
    where, _, values = recorded.partition("=")
    _, kind, name = where.split(".")
    return edit(f"{BELOW['app']}/resources/{kind}/{name}", values.partition("/")[0])
