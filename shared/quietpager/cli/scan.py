"""`quietpager scan`: one read-only look at a live cluster, with the code that the functions run.

    list pods and their owners ── sweep's `find` ── each family's `diagnose` ── one row a cause
                                                             the action's `plan` ──────── what it would do

Nothing is written, nothing is kept. A few LIST calls, whatever the cluster's size: everything else is
answered from what was listed. What may not be listed is said, and the rest is looked at.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import click
from pydantic import ValidationError

from quietpager.analysis.unwell import NOT_READY
from quietpager.cli.catalogue import actions, planner, routes, rule, verdict_on
from quietpager.cluster.kubeconfig import connected, sentence
from quietpager.cluster.missing import Missing, has_no_namespace
from quietpager.cluster.snapshot import Snapshot, WhatMayBeRead
from quietpager.deciding.decisions import remedy_text
from quietpager.deciding.offline import FROM_OUTSIDE, Assumed, NoRight, decide_offline
from quietpager.deciding.pipeline import Decided
from quietpager.deciding.verdict import Judged
from quietpager.incident.policy import Policy, load_policy
from quietpager.model.cluster import ClusterUnavailable, EventReader, Kind, Rejected
from quietpager.model.finding import Diagnosis, Dwell, Evidence, Finding, NotYet, Remedy
from quietpager.model.incident import Autonomy, Edit
from quietpager.model.reference import ObjectRef
from quietpager.model.signal import Signal
from quietpager.model.text import clean
from quietpager.model.time import system_clock, to_text
from quietpager.objects.health import pod_fault
from quietpager.objects.table import first_listed, read_of, resource
from quietpager.objects.types import Pod
from quietpager.runtime.context import function_roots
from quietpager.runtime.detecting import finding_of
from quietpager.runtime.sweeping import find

Json = dict[str, Any]
Say = Callable[[str], None]

FIRST: Final[tuple[Kind, ...]] = first_listed()
"""What every scan lists. Other owners are listed when a pod of one fails; what only a plan needs (nodes,
quotas, namespaces) when one is made."""
FAILING, UNDECIDED, WELL = "failing", "undecided", "well"
MOST_NAMES: Final = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done about a cause, in words; `edits` where a plan could be made."""

    would: str
    remedy: Remedy | None = None
    edits: tuple[Edit, ...] = ()
    held: str | None = None
    """Why it is not done: the guard that would hold it back just now, or what no action may write."""
    decided: Decided | None = None
    """The verdict, with every guard's answer; None where no plan could be made."""


@dataclass(frozen=True, slots=True)
class Row:
    """One cause."""

    cause: str
    owners: tuple[ObjectRef, ...]
    family: str
    failure_class: str
    since: datetime
    pods: tuple[ObjectRef, ...]
    plan: Plan
    why: str
    evidence: tuple[Evidence, ...]

    @property
    def on(self) -> str:
        """Name what it is about: the workload, or what several workloads share."""
        first, rest = str(self.owners[0]), len(self.owners) - 1
        others = f" and {rest} more" if rest else ""
        if self.cause.startswith("workload:"):
            return f"{first}{others}"
        return f"{self.cause.replace(':', ' ', 1)} ({first}{others})"


@dataclass(frozen=True, slots=True)
class Report:
    """What one scan found."""

    at: datetime
    rows: tuple[Row, ...]
    unknown: tuple[ObjectRef, ...]
    """Unhealthy pods that no family knows."""
    undecided: tuple[ObjectRef, ...]
    """Pods whose status does not say enough yet."""
    counts: Mapping[Kind, int]
    missing: tuple[Missing, ...]
    assumed: tuple[str, ...] = ()
    """What is taken for granted of what a look from outside cannot know."""


def run(
    kubeconfig: str | None, context: str | None, namespace: str | None, *, as_json: bool, say: Say
) -> int:
    """Scan a kubeconfig's cluster and print the report; gives the exit code: 2 where it cannot be read."""
    if not routes().families:
        click.echo(
            f"There is no rule in {', '.join(map(str, function_roots()))}, so nothing could be found.",
            err=True,
        )
        return 2
    cluster = None
    try:
        cluster = connected(kubeconfig, context, "quietpager-scan")
        report = scan(cluster, namespace, load_policy(), system_clock())
        absent = (
            namespace is not None and not report.counts.get("Pod") and has_no_namespace(cluster, namespace)
        )
    except (ClusterUnavailable, Rejected) as no:
        click.echo(sentence(no, cluster), err=True)
        return 2
    finally:
        if cluster is not None:
            cluster.close()
    say(json.dumps(json_of(report)) if as_json else as_text(report).rstrip())
    if absent:
        click.echo(f"There is no namespace {namespace}.", err=True)
        return 2
    if {one.kind for one in report.missing}.issuperset(FIRST):
        click.echo("Nothing could be read, so this says nothing about the cluster.", err=True)
        return 2
    return 0


def scan(
    reader: EventReader,
    namespace: str | None,
    policy: Policy,
    now: datetime,
    assumed: Assumed = FROM_OUTSIDE,
) -> Report:
    """Look once. `assumed` is what is taken for granted of what only a store or a whole fleet could tell.

    Raises:
        ClusterUnavailable: no answer.
        Rejected: the API server said no, and not for want of a right (401: it does not know us).
    """
    snapshot = Snapshot(reader, namespace)
    for kind in FIRST:
        try:
            snapshot.list(kind)
        except Rejected as no:
            if no.code != 403:
                raise
    seen = WhatMayBeRead(snapshot)
    found: dict[str, list[tuple[Signal, Diagnosis]]] = defaultdict(list)
    judged: dict[ObjectRef, str] = {}
    for signal, verdict in _verdicts(seen, now):
        if isinstance(verdict, Diagnosis):
            found[verdict.cause].append((signal, verdict))
            judged[signal.target] = FAILING
        elif verdict is not None:
            judged.setdefault(signal.target, UNDECIDED if isinstance(verdict, NotYet) else WELL)
    rows = [_row(cause, some, snapshot, policy, now, assumed) for cause, some in found.items()]
    return Report(
        at=now,
        rows=tuple(sorted(rows, key=lambda row: (row.since, row.cause))),
        unknown=tuple(ref for ref in _unhealthy(seen, now) if judged.get(ref, WELL) == WELL),
        undecided=tuple(ref for ref, how in judged.items() if how == UNDECIDED),
        counts=snapshot.counts(),
        missing=tuple(Missing(kind, namespace) for kind in snapshot.refused),
        assumed=assumed.says,
    )


def _verdicts(seen: WhatMayBeRead, now: datetime) -> Iterator[tuple[Signal, Any]]:
    """Judge each target once for each family, however many of its containers fail."""
    done: set[tuple[ObjectRef, str]] = set()
    for signal in find(seen, routes(), now):
        if (signal.target, signal.family) in done:
            continue
        done.add((signal.target, signal.family))
        try:
            yield verdict_on(signal, seen, now)
        except ValidationError:
            continue


def _unhealthy(seen: WhatMayBeRead, now: datetime) -> Iterator[ObjectRef]:
    """Name every pod that is not well: a pod that merely is not ready gets the time of a dwell."""
    for raw in seen.list("Pod"):
        try:
            pod = Pod.read(raw | {"kind": "Pod", "apiVersion": "v1"})
        except ValidationError:
            continue
        if pod.ready or pod.status.phase == "Failed":
            continue  # as the sweep: it has come to rest, or has ended for good and was replaced
        fault, created = pod_fault(pod, None), pod.metadata.creation_timestamp
        young = created is not None and now - created < timedelta(seconds=Dwell().seconds)
        if fault is not None and not (fault == NOT_READY and young):
            yield pod.ref


def _row(
    cause: str,
    found: list[tuple[Signal, Diagnosis]],
    snapshot: Snapshot,
    policy: Policy,
    now: datetime,
    assumed: Assumed,
) -> Row:
    """Make the row of a cause; where its pods fail in several ways, the most frequent one names it."""
    [(name, _)] = Counter(verdict.failure_class for _, verdict in found).most_common(1)
    signal, verdict = next(one for one in found if one[1].failure_class == name)
    finding = finding_of(signal.target, verdict, rule(signal.family), "scan", now)
    return Row(
        cause=cause,
        owners=tuple(dict.fromkeys(one.owner for _, one in found)),
        family=signal.family,
        failure_class=name,
        since=min(one.since for _, one in found),
        pods=tuple(dict.fromkeys(one.target for one, _ in found)),
        plan=_plan(finding, snapshot, policy, now, assumed),
        why=finding.why,
        evidence=verdict.evidence,
    )


def _plan(finding: Finding, snapshot: Snapshot, policy: Policy, now: datetime, assumed: Assumed) -> Plan:
    """Say in words what decide would make of it."""
    owner = finding.target if finding.diagnosis is None else finding.diagnosis.owner
    unread = [kind for kind in read_of(owner) if kind in snapshot.refused]
    if unread and finding.remedies:
        return Plan(
            f"not known: it depends on {' and '.join(f'{k}s' for k in unread)}, which may not be listed"
        )
    try:
        decided = decide_offline(
            finding, snapshot, policy=policy, now=now, actions=actions(), planner=planner, assumed=assumed
        )
    except NoRight as no:
        return Plan(f"{remedy_text(no.remedy)}; its plan cannot be made, see below", no.remedy)
    return _in_words(decided)


def _in_words(decided: Decided) -> Plan:
    if not decided.judged:
        return Plan("tell a person: no remedy of its rule applies", decided=decided)
    chosen = decided.chosen
    if chosen is not None and chosen.refusal is None and not chosen.plan.beyond:
        return _would(chosen, None, decided)
    if chosen is not None:
        proposed = f"propose to a person, and write nothing: {chosen.plan.summary}"
        return Plan(proposed, chosen.plan.remedy, chosen.plan.edits, chosen.news.sentence, decided)
    held = next((one for one in decided.judged if one.held), None)
    if held is not None:
        return _would(held, held.news.sentence, decided)
    refused = "; ".join(f"{one.plan.remedy.action}: {one.news.sentence}" for one in decided.judged)
    return Plan(f"tell a person: {refused}", decided.judged[0].plan.remedy, decided=decided)


def _would(one: Judged, held: str | None, decided: Decided) -> Plan:
    """Say what a plan does; one that is only shown, because the rule says so, is nobody's to carry out."""
    who = {Autonomy.AUTO: "", Autonomy.APPROVE: "after a person's yes, "}
    first = who.get(one.dial or Autonomy.AUTO, "tell a person, who reads the plan: ")
    would = f"{first}{one.plan.remedy.action}: {one.plan.summary}"
    return Plan(would, one.plan.remedy, one.plan.edits, held, decided)


# What a person sees# What a person sees


def as_text(report: Report) -> str:
    """Write the table, then what could not be judged or read."""
    return "".join(f"{line}\n" for line in [*_table(report), *_notes(report)])


def _table(report: Report) -> Iterator[str]:
    if not report.rows:
        return
    head = ("on", "failure class", "since", "pods")
    cells = [
        (row.on, row.failure_class, _age(report.at - row.since), str(len(row.pods))) for row in report.rows
    ]
    widths = [max(len(line[column]) for line in [head, *cells]) for column in range(len(head))]

    def line(parts: Iterable[str], last: str) -> str:
        padded = [part.ljust(width) for part, width in zip(parts, widths, strict=True)]
        return "  ".join([*padded, last]).rstrip()

    yield line(head, "it would")
    for row, parts in zip(report.rows, cells, strict=True):
        yield line(parts, clean(row.plan.would, 300))
        if row.plan.held is not None:
            yield f"    but   {clean(row.plan.held, 300)}"
        yield f"    why   {clean(row.why, 200)}"


def _notes(report: Report) -> Iterator[str]:
    for missing in report.missing:
        yield missing.sentence
    looked = ", ".join(f"{n} {resource(kind).plural}" for kind, n in report.counts.items())
    if "Pod" not in report.counts:
        yield "Nothing could be looked at: without pods there is nothing to judge."
    elif report.rows:
        pods = {pod for row in report.rows for pod in row.pods}
        yield f"{len(report.rows)} causes, {len(pods)} pods; looked at {looked}. Nothing was changed."
    elif report.unknown or report.undecided:
        yield f"Nothing found that it knows; looked at {looked}."
    else:
        yield f"Nothing found; looked at {looked}."
    if report.undecided:
        yield f"{_pods(report.undecided)} cannot be judged yet; look again in a moment."
    if report.unknown:
        yield f"{_pods(report.unknown)} unhealthy, and no family knows why."


def _pods(refs: tuple[ObjectRef, ...]) -> str:
    names = ", ".join(f"{one.namespace}/{one.name}" for one in refs[:MOST_NAMES])
    more = f" and {len(refs) - MOST_NAMES} more" if len(refs) > MOST_NAMES else ""
    return f"{len(refs)} {'pod is' if len(refs) == 1 else 'pods are'} ({clean(names)}{more})"


def _age(age: timedelta) -> str:
    seconds = max(int(age.total_seconds()), 0)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _verdict_json(decided: Decided | None) -> Json:
    if decided is None:
        return {"verdict": "tell", "remedies": [], "judged": []}
    return {
        "verdict": decided.says,
        "remedies": [one.to_json() for one in decided.candidates],
        "judged": [one.to_json() for one in decided.judged],
    }


def json_of(report: Report) -> Json:
    """Give everything, for a program."""
    return {
        "at": to_text(report.at),
        "rows": [
            {
                "cause": row.cause,
                "owners": [str(one) for one in row.owners],
                "family": row.family,
                "failure_class": row.failure_class,
                "since": to_text(row.since),
                "pods": [str(one) for one in row.pods],
                "would": row.plan.would,
                "remedy": None if row.plan.remedy is None else row.plan.remedy.to_json(),
                "edits": [edit.to_json() for edit in row.plan.edits],
                "held": row.plan.held,
                **_verdict_json(row.plan.decided),
                "why": row.why,
                "evidence": [one.to_json() for one in row.evidence],
            }
            for row in report.rows
        ],
        "unknown": [str(one) for one in report.unknown],
        "undecided": [str(one) for one in report.undecided],
        "looked_at": dict(report.counts),
        "assumed": list(report.assumed),
        "missing": [{"kind": one.kind, "verb": "list", "sentence": one.sentence} for one in report.missing],
    }
