"""Decide, replay and scan say the same of every recorded case, guard by guard.

Each case is judged three times: by `replay` of its folder, by `scan` of its objects as a cluster, and by the
functions themselves, from the Event to the verdict, over a store in memory. What a folder cannot hold is
assumed for all three (`IN_A_CASE`), and every rule's autonomy is auto. Besides the cases as they are, each is
judged an hour later, in a platform's namespace, with its workload ignored, and owned by Argo CD or Helm.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from shutil import copytree
from typing import Any, cast
from unittest.mock import patch

import pytest

from quietpager.actions.plan import Planner
from quietpager.actions.schema import Action
from quietpager.cli import scan as scanning
from quietpager.cli.catalogue import rules
from quietpager.cli.replay import replay
from quietpager.cluster.recorded import Recorded, case_event, case_moment
from quietpager.deciding import planning
from quietpager.deciding.guard import AUDITED
from quietpager.deciding.offline import IN_A_CASE
from quietpager.errors import BadMessage
from quietpager.incident.policy import Policy
from quietpager.model.cluster import Cluster
from quietpager.model.event import read_event
from quietpager.model.incident import Autonomy, Rehearsal, State
from quietpager.model.message import APPLY, INCIDENT
from quietpager.model.signal import UNKNOWN_FAMILY
from quietpager.objects.live import Live
from quietpager.rules.schema import Rule
from quietpager.runtime import remediating
from quietpager.runtime.context import Lazy, functions_folder
from quietpager.store.memory import MemoryStore
from tests.flow.harness import Product

Json = dict[str, Any]
Verdict = tuple[str, str, list[Json]]
"""Failure class, what would follow, and for each plan that was judged every guard's answer."""

CASES = sorted(one.parent for one in functions_folder().glob("*/*/cases/*/event.json"))
SAYS = {State.WAITING: "wait", State.ACTING: "act", State.APPROVAL: "ask", State.PROPOSED: "propose"}
BENIGN: Verdict = ("benign_no_action", "", [])
ONLY_AN_EVENT_TELLS = {"17-pvc-unbound": "pvc_unbound"}
"""What scan calls a case of which no object says as much as its Event does; the verdict is the same."""


# --- what may be different about a case ----------------------------------------------------------------


def as_it_is(_case: Path) -> None:
    """Change nothing."""


def an_hour_later(case: Path) -> None:
    """Let the Event be seen once more, an hour after the last time."""
    body = json.loads((case / "event.json").read_text(encoding="utf-8"))
    for name in ("lastTimestamp", "eventTime"):
        if body.get(name):
            body[name] = (datetime.fromisoformat(body[name]) + timedelta(hours=1)).isoformat()
    (case / "event.json").write_text(json.dumps(body), encoding="utf-8")


def in_a_platforms_namespace(case: Path) -> None:
    """Move it to kube-system."""
    event = json.loads((case / "event.json").read_text(encoding="utf-8"))
    place = (event.get("involvedObject") or {}).get("namespace") or "default"
    for path in case.rglob("*.json"):
        text = path.read_text(encoding="utf-8").replace(f'"{place}"', '"kube-system"')
        path.write_text(text, encoding="utf-8")


def marked(
    notes: dict[str, str] | None = None, labels: dict[str, str] | None = None
) -> Callable[[Path], None]:
    """Give every workload these annotations and labels."""

    def change(case: Path) -> None:
        for path in (case / "objects").glob("*.json"):
            body = json.loads(path.read_text(encoding="utf-8"))
            if body.get("kind") == "Deployment":
                meta = body["metadata"]
                meta["annotations"] = (meta.get("annotations") or {}) | (notes or {})
                meta["labels"] = (meta.get("labels") or {}) | (labels or {})
                path.write_text(json.dumps(body), encoding="utf-8")

    return change


CHANGES: dict[str, Callable[[Path], None]] = {
    "as it is": as_it_is,
    "an hour later": an_hour_later,
    "in a platform's namespace": in_a_platforms_namespace,
    "ignored": marked({Policy().ignore_annotation: "true"}),
    "owned by Argo CD": marked({"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:x/y"}),
    "owned by Helm": marked({"meta.helm.sh/release-name": "shop"}, {"app.kubernetes.io/managed-by": "Helm"}),
}


def changed(case: Path, how: str, home: Path) -> Path:
    """Copy a case and change the copy."""
    copy = home / case.name
    copytree(case, copy)
    CHANGES[how](copy)
    return copy


# --- the three of them ---------------------------------------------------------------------------------


def at_auto(rule: Rule) -> Rule:
    """Lift a rule's autonomy, as replay does; what nobody knows is never lifted."""
    if rule.family == UNKNOWN_FAMILY:
        return rule
    classes = {name: one.but(autonomy=Autonomy.AUTO) for name, one in rule.classes.items()}
    return rule.but(classes=classes)


RULES = tuple(at_auto(one) for one in rules())


def answers(judged: list[Json]) -> list[Json]:
    """Keep the plans that guards were asked about, without the one figure that `assumed` names."""
    kept = [one["guards"] for one in judged if one["guards"]]
    for guards in kept:
        for one in guards:
            one["figures"] = [list(pair) for pair in one["figures"] if pair[0] != "dry_run"]
    return [{"guards": one} for one in kept]


def replayed(case: Path) -> Verdict:
    """Ask `quietpager replay`."""
    [answer] = json.loads(json.dumps(list(replay([case]))))
    if not answer["known"]:
        return BENIGN
    return answer["failure_class"], answer["verdict"], answers(answer["judged"])


def scanned(case: Path, now: datetime) -> Verdict:
    """Ask `quietpager scan`; a case is about one cause."""

    def rule(family: str) -> Rule:
        return next(one for one in RULES if one.family == family)

    with patch.object(scanning, "rule", rule):
        report = scanning.json_of(scanning.scan(Recorded(case), None, Policy(), now, IN_A_CASE))
    if not report["rows"]:
        return BENIGN
    [row] = json.loads(json.dumps(report["rows"]))
    return row["failure_class"], row["verdict"], answers(row["judged"])


class Readable(Recorded):
    """A case as the cluster of all functions; its dry run admits everything, and nothing is written."""

    def json_patch(self, *_: object, **known: object) -> Json:
        assert known["dry_run"], known
        return {}


def readable(case: Path) -> Cluster:
    """Make the cluster of a case; what it has not, nobody asks it for."""
    return cast("Cluster", Readable(case))


def assuming(
    asked: Rehearsal, action: Action, plan: Planner, live: Live, policy: Policy, **known: Any
) -> Rehearsal:
    """Plan as a remediator does, with the facts that are assumed of a case."""
    done = planning.planned(asked, action, plan, live, policy, **known)
    return done if done.facts is None else done.but(facts=IN_A_CASE.facts(done.facts))


class Deciders:
    """All functions, made once; for each case they get another store, cluster and clock."""

    def __init__(self) -> None:
        """Make them."""
        policy = IN_A_CASE.policy(Policy())
        self.product = Product(
            MemoryStore(),
            readable(CASES[0]),
            policy=policy,
            drop=lambda one: one.type == APPLY or one.type.startswith(INCIDENT),
        )
        self.contexts = self.product.contexts

    def decided(self, case: Path, now: datetime) -> Verdict:
        """Let the case's Event come in, and read what decide has kept."""
        product, store, cluster = self.product, MemoryStore(), readable(case)
        product.store, product.queue, product.seen, product.refused = store, type(product.queue)(), [], []
        product.contexts = {
            name: replace(ctx, lazy=Lazy(lambda: store, lambda: cluster), clock=lambda: now, rules=RULES)
            for name, ctx in self.contexts.items()
        }
        product.resume()
        product.event(case_event(case))
        with patch.object(remediating, "planned", assuming):
            product.deliver()
        assert not product.refused
        found = [one for one in product.incidents() if one.family != UNKNOWN_FAMILY]
        if not found:
            return BENIGN
        [incident] = found
        judged = [one.body for one in store.audit(incident.id) if one.kind == AUDITED]
        says = SAYS.get(incident.state, "tell")
        return incident.failure_class, says, answers(json.loads(json.dumps(judged)))


@pytest.fixture(scope="module")
def deciders() -> Deciders:
    return Deciders()


def moment(case: Path) -> datetime | None:
    """Give the moment a case is looked at; None where its Event is none."""
    try:
        return read_event(case_event(case), received=case_moment(case_event(case))).last_seen
    except BadMessage:
        return None


def verdicts(case: Path, deciders: Deciders, *, blind: str = "") -> dict[str, Verdict]:
    """Ask all three. `blind` is asked without a look at who owns the object."""
    now = moment(case)
    assert now is not None
    asked: dict[str, Callable[[], Verdict]] = {
        "replay": lambda: replayed(case),
        "scan": lambda: scanned(case, now),
        "decide": lambda: deciders.decided(case, now),
    }
    found: dict[str, Verdict] = {}
    for name, ask in asked.items():
        mutant: AbstractContextManager[object] = nullcontext()
        if name == blind:
            mutant = patch.object(planning, "with_owner", lambda done, *_: done)
        with mutant:
            found[name] = ask()
    return found


def agree(found: dict[str, Verdict], case: Path) -> bool:
    """Tell whether all three say the same."""
    name, says, judged = found["replay"]
    # Until the dwell is met decide asks nobody for a plan; the others say what it will be then.
    decided = (name, says, [] if says == "wait" else judged)
    scanned = (ONLY_AN_EVENT_TELLS.get(case.name, name), says, judged)
    return found["decide"] == decided and found["scan"] == scanned


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_decide_replay_and_scan_give_the_same_verdict(
    case: Path, how: str, tmp_path: Path, deciders: Deciders
) -> None:
    found = verdicts(changed(case, how, tmp_path), deciders)
    assert agree(found, case), found


@pytest.mark.parametrize("blind", ["replay", "scan", "decide"])
def test_whoever_skips_the_owner_is_noticed(blind: str, tmp_path: Path, deciders: Deciders) -> None:
    [case] = (one for one in CASES if one.name == "30-oom-bounded")
    owned = changed(case, "owned by Argo CD", tmp_path)
    assert [verdicts(owned, deciders)[name][1] for name in ("replay", "scan", "decide")] == ["propose"] * 3
    found = verdicts(owned, deciders, blind=blind)
    assert found[blind][1] == "act"
    assert not agree(found, case)


def test_the_cases_lead_to_every_verdict(tmp_path: Path) -> None:
    """Otherwise the comparison would compare little."""
    said = {replayed(changed(case, how, tmp_path / how))[1] for how in CHANGES for case in CASES}
    assert {"act", "ask", "propose", "tell", "wait"} <= said
