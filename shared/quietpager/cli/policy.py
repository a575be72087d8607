"""`quietpager policy`: its schema, a check of a file, and why the guards said what they said."""

import json
from collections.abc import Iterator
from pathlib import Path

from quietpager.actions.schema import load_actions
from quietpager.cli.exits import SaysNo
from quietpager.deciding import dial as guard_11
from quietpager.deciding import guards
from quietpager.deciding.guard import AUDITED, Verdict
from quietpager.deciding.verdict import judge, stored
from quietpager.incident import records
from quietpager.incident.policy import Policy, read_policy
from quietpager.model.data import Json
from quietpager.model.incident import Autonomy, Incident, Rehearsal
from quietpager.model.store import AuditEntry, Store
from quietpager.model.text import clean
from quietpager.model.time import Clock, to_text
from quietpager.runtime.context import function_roots

_WIDE = max(len(name) for name in (guard_11.NAME, *(one.name for one in guards.GUARDS)))


def schema() -> str:
    """Write the JSON Schema of the policy file, as an editor wants it."""
    described = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Policy.model_json_schema()}
    return json.dumps(described | {"title": "The policy of quietpager"}, indent=2, ensure_ascii=False) + "\n"


def check(path: Path) -> tuple[bool, str]:
    """Hold a file against the policy: whether it is one, and what to tell."""
    try:
        policy = read_policy(path.read_text(encoding="utf-8"), str(path))
    except ValueError as wrong:
        return False, f"{wrong}\n"
    said = [f"{path} is a policy: autonomy {policy.autonomy}, {len(policy.dials)} dial(s), "]
    said.append(f"{len(policy.freeze)} freeze window(s).")
    return True, "".join(said) + "\n"


def explain(store: Store, name: str) -> str:
    """Print what every guard said at each verdict on an incident, from the audit."""
    if store.get(records.incident(name)) is None:
        raise SaysNo(f"There is no incident {name}.")
    lines = [line for entry in store.audit(name) if entry.kind == AUDITED for line in _told(entry)]
    return "\n".join(lines) + "\n" if lines else f"No guard has judged {name} yet: there was no plan.\n"


def explain_now(store: Store, name: str, policy: Policy, clock: Clock) -> str:
    """Ask the guards again, on the stored plan and today's records; no cluster is read."""
    record = store.get(records.incident(name))
    if record is None:
        raise SaysNo(f"There is no incident {name}.")
    incident = Incident.from_json(record.body)
    found = None if incident.rehearsal is None else store.get(records.rehearsal(incident.rehearsal))
    plan = None if found is None else Rehearsal.from_json(found.body)
    if plan is None or plan.state != "rehearsed":
        why = "" if plan is None or plan.refusal is None else f" It was refused: {plan.refusal}"
        return f"No plan of {name} is stored that the guards could judge.{why}\n"
    now = clock()
    judged = judge(plan, incident, stored(store, policy, now, load_actions(function_roots())))
    head = (
        f"{to_text(now)}  {plan.remedy.action} ({plan.id}), were it judged now; what the cluster was like "
        f"is from {to_text(plan.asked_at)}"
    )
    return "\n".join([head, *_table(judged.said, judged.dial)]) + "\n"


def _told(entry: AuditEntry) -> Iterator[str]:
    body: Json = entry.body
    yield f"{to_text(entry.at)}  {body['action']} ({body['rehearsal']}): {body['decided']}"
    said = tuple(Verdict.from_json(one) for one in body["guards"])
    dial = body.get("autonomy")
    yield from _table(said, None if dial is None else Autonomy(dial))


def _table(said: tuple[Verdict, ...], dial: Autonomy | None) -> Iterator[str]:
    """One line a guard; guard 11 is the dial, in its place by number. An undo has none."""
    first = guards.refusal(said)
    rows = [(one.number, _line(one, decides=one is first)) for one in said]
    if dial is not None:
        rows.append((guard_11.NUMBER, f"  {guard_11.NUMBER:2} {guard_11.NAME:{_WIDE}}  {dial}"))
    for _, line in sorted(rows):
        yield line


def _line(one: Verdict, *, decides: bool) -> str:
    figures = ", ".join(f"{name} {_figure(value)}" for name, value in one.figures)
    mark = "  <- decides" if decides else ""
    line = f"  {one.number:2} {one.guard:{_WIDE}}  {one.said:14}  {figures}".rstrip() + mark
    return f"{line}\n       {clean(one.sentence, 1000)}" if one.sentence else line


def _figure(value: str | float | bool | None) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else clean(str(value), 200)
