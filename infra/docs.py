"""Generates the reference tables from the code they describe: `python -m infra.docs [--check]`.

    docs/state-machine.md   every state and every kind of news, from the table's own docstrings
    docs/policy.md          every limit with its default, every guard; docs/policy.schema.json for editors
    docs/cli.md             every command's help
    docs/metrics.md         every instrument, with its unit and attributes
    functions/README.md     every function, its Triggers and its rights; the routes; the actions

With `--check` nothing is written; it ends with 1 and a sentence for each file that is stale.
Who calls it: `make docs`, `make lint`, tests/docs; and `quietpager render --out`, for the functions.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from quietpager.cli.exits import EXITS
from quietpager.cli.main import main as command_line
from quietpager.cli.policy import schema
from quietpager.deciding import dial
from quietpager.deciding.guards import GUARDS
from quietpager.incident.freeze import Freeze
from quietpager.incident.machine import TABLE, Handler, keep
from quietpager.incident.news import News
from quietpager.incident.policy import Dial, Limit, Policy, Repository
from quietpager.incident.retention import KEPT, RULES
from quietpager.model.incident import IntentState, State
from quietpager.render.catalogue import GENERATED, first_line, functions, table
from quietpager.runtime.metrics import INSTRUMENTS

ROOT = Path(__file__).resolve().parents[1]

NOTHING = "\u2013"
OPENING = "WAITING, or PLANNING at once where the dwell is met already."
"""The one step that is not in the table: with nothing open there is no incident to look up."""

INTENT_STATES: Mapping[IntentState, tuple[str, str]] = {
    IntentState.INTENT: (
        (
            "Written ahead with its budget slots, in the transaction that moves the incident to ACTING or "
            "UNDOING. Nothing has been sent."
        ),
        "CLAIMED, REFUSED, EXPIRED",
    ),
    IntentState.CLAIMED: (
        (
            "A remediator holds it until `act_by`, looks once more, and sends the pinned patch. After "
            "`act_by` whoever wants to go on must claim it again."
        ),
        "APPLIED, REFUSED, UNKNOWN, or CLAIMED again",
    ),
    IntentState.APPLIED: (
        "The write was made; the object carries the intent's mark.",
        "UNDONE",
    ),
    IntentState.REFUSED: (
        (
            "Certainly not written: the object has changed, the API server said no, the kill switch is on, "
            "or it healed before the write."
        ),
        NOTHING,
    ),
    IntentState.UNKNOWN: (
        (
            "An attempt was interrupted and the object does not tell whether it was written. Never tried "
            "again; verified, never undone."
        ),
        NOTHING,
    ),
    IntentState.EXPIRED: (
        "Nobody claimed it in time; from then on nobody can.",
        NOTHING,
    ),
    IntentState.UNDONE: (
        "Its undo, an intent of its own, was applied.",
        NOTHING,
    ),
}
"""What each state of an intent means, and what may follow. Every state must be here."""

ITEMS: Mapping[str, type[BaseModel]] = {
    "dials": Dial, "freeze": Freeze, "budget.actions": Limit, "repositories": Repository,
}  # fmt: skip
"""What the policy's lists and maps hold."""

POLICY_EXAMPLE = """\
autonomy: analyze
dials:                                  # the last that matches counts
  - {namespace: "team-*", autonomy: approve}
  - {namespace: team-a, failure_class: oom_killed, autonomy: auto}
namespaces: {allow: ["team-*", "shop-*"], deny: [team-payments]}     # and the label, each of them
freeze:
  - {cron: "0 18 * * FRI", duration: 216000, zone: Europe/Berlin, why: weekend}
  - {from: 2026-12-24T00:00:00, to: 2027-01-03T00:00:00, zone: Europe/Berlin, namespace: "shop-*"}
budget:
  namespace: 2
  actions:
    rollout-undo: {acts: 2, window: 86400}
storm: {incidents: 20, window: 300, nodes: 0.2}
ownership: {default: propose, namespaces: {team-b: patch+propose}}
repositories:
  - url: https://git.example.com/shop/manifests.git
    namespaces: [team-a]
    path: clusters/blue
    github: https://api.github.com
"""
"""Shown in docs/policy.md; a test holds it against the policy."""


def state_machine() -> str:
    """Write every state with every kind of news."""
    lines = [
        "# The incident's state machine",
        GENERATED,
        "",
        "`quietpager.incident.machine.step` looks up (state, news) here, in production, replay and tests.",
        "News that a state does not name changes nothing there and is kept as evidence. News about a",
        "rehearsal or an intent that is not the incident's current one changes nothing in any state.",
        "",
        "All the news there is: " + " · ".join(news.value for news in News) + ".",
        "",
        *_overview(),
    ]
    for state in State:
        lines += ["", f"## {state.value}", "", *_state(state)]
    lines += [
        "",
        "## The intent's states",
        "",
        "An intent is the durable permission to carry out one rehearsal once. An undo is an intent too.",
        "",
        *table(
            ("State", "Meaning", "May become"),
            [(s.value, *INTENT_STATES[s]) for s in IntentState],
        ),
    ]
    return "\n".join(lines) + "\n"


def _overview() -> Iterator[str]:
    rows = []
    for state in State:
        moved = sum(_handler(state, news) is not None for news in News)
        rows.append((f"[{state.value}](#{_anchor(state.value)})", str(moved), str(len(News) - moved)))
    yield from table(("State", "News that matter", "Kept as evidence"), rows)


def _anchor(title: str) -> str:
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _handler(state: State, news: News) -> Handler | str | None:
    if (state, news) == (State.NONE, News.SYMPTOM):
        return OPENING
    handler = TABLE[state, news]
    return None if handler is keep else handler


def _state(state: State) -> Iterator[str]:
    rows: list[tuple[str, str]] = []
    kept = 0
    for news in News:
        handler = _handler(state, news)
        if handler is None:
            kept += 1
        else:
            text = handler if isinstance(handler, str) else first_line(inspect.getdoc(handler))
            rows.append((news.value, text))
    if kept:
        rows.append((f"the other {kept}", NOTHING))
    yield from table(("News", "Next, and what with it"), rows)
    if state is State.CLOSED:
        yield ""
        yield "That row holds inside the cool-down; after it, the same finding opens the next episode."


# --- the policy ------------------------------------------------------------------------------------


def policy() -> str:
    """Write every limit with its default and its meaning, both from the model.

    Raises:
        SystemExit: a field has no description.
    """
    lines = [
        "# The policy",
        GENERATED,
        "",
        "The policy is a YAML file. `QUIETPAGER_POLICY` names it. Without a file these defaults apply, and",
        "at the default autonomy `analyze` nothing is written. An unknown field is an error:",
        "`quietpager policy check FILE` names the file, the line, the field and what is allowed.",
        "For editors, `docs/policy.schema.json` is the schema that `quietpager policy schema` prints.",
        "",
        *table(("Field", "Default", "Meaning"), list(_fields(Policy()))),
        "",
        "## Lists and maps",
        "",
    ]
    for name, model in ITEMS.items():
        rows = [
            (f"`{field.alias or key}`", _given(field), _meaning(f"{name}.{key}", field))
            for key, field in model.model_fields.items()
        ]
        lines += [f"An entry of `{name}`:", "", *table(("Field", "Default", "Meaning"), rows), ""]
    lines += [
        "## What is kept, and for how long",
        "",
        "At each tick the clock checks some records. It removes those that nothing needs any more and whose",
        "time is over. No function ever purges the audit.",
        "",
        *table(
            ("Records", "Kept while", "and then for"),
            [(f"`{rule.kind}`", rule.needed, rule.says) for rule in RULES],
        ),
        "",
        "These are never purged. They do not grow, or they belong to a record that is listed above:",
        "",
        *table(("Records", "What they are"), [(f"`{kind}`", why) for kind, why in KEPT.items()]),
        "",
    ]
    lines += [
        "## The guards",
        "",
        "They run in this order before anything is written, and every one of them must agree; one that fails",
        "refuses. After a refusal the next remedy is tried. `quietpager policy explain INCIDENT` shows what",
        "each one saw.",
        "",
        *table(("Guard", "Name", "It refuses", "Also before an undo"), _guards()),
        "",
    ]
    return "\n".join([*lines, "## An example", "", "```yaml", POLICY_EXAMPLE.rstrip(), "```"]) + "\n"


def _guards() -> list[tuple[str, str, str, str]]:
    rows = [(one.number, one.name, one.refuses, "yes" if one.on_undo else "no") for one in GUARDS]
    rows.append((dial.NUMBER, dial.NAME, dial.REFUSES, "no"))
    return [(str(number), name, refuses, on_undo) for number, name, refuses, on_undo in sorted(rows)]


def _fields(model: BaseModel, before: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            said = f"{field.description}: " if field.description else ""
            for path, default, meaning in _fields(value, f"{before}{name}."):
                yield path, default, f"{said}{meaning}"
        else:
            yield f"`{before}{name}`", f"`{_text(value)}`", _meaning(f"{before}{name}", field)


def _given(field: FieldInfo) -> str:
    return "must be given" if field.is_required() else f"`{_text(field.default)}`"


def _meaning(name: str, field: FieldInfo) -> str:
    if not field.description:
        raise SystemExit(f"shared/quietpager/incident/policy.py: {name} has no description.")
    return field.description


def _text(value: Any) -> str:
    if value is None or value in ({}, ""):
        return "none"
    if isinstance(value, tuple | dict):
        return ", ".join(str(one) for one in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


# --- the metrics -----------------------------------------------------------------------------------


def metrics() -> str:
    """Write every instrument."""
    rows = [
        (
            f"`{one.name}`",
            one.kind,
            f"`{one.unit}`",
            ", ".join(f"`{name}`" for name in one.attributes) or NOTHING,
            f"`{one.prometheus}`",
            one.says,
        )
        for one in INSTRUMENTS
    ]
    lines = [
        "# The metrics",
        GENERATED,
        "",
        "By OpenTelemetry. Functions push them by OTLP over HTTP where `OTEL_EXPORTER_OTLP_ENDPOINT` (or",
        "`OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`) is set, and record nothing otherwise; OpenTelemetry's other",
        "variables hold, such as `OTEL_METRIC_EXPORT_INTERVAL`. On a cluster they come from the ConfigMap",
        "`quietpager-telemetry` in the functions' namespace, if there is one. The local host answers",
        "`/metrics` as Prometheus text; `quietpager status --serve` does so too, with the heartbeats' ages",
        "only.",
        "",
        *table(("Instrument", "Kind", "Unit", "Attributes", "In Prometheus", "What it says"), rows),
        "",
        "Findings, actions, refusals and verifications are counted when their transaction has been",
        "committed: a lost race or a message that came twice counts nothing twice. The audit stays the",
        "record; these are for graphs and alarms.",
    ]
    return "\n".join(lines) + "\n"


# --- the command line ------------------------------------------------------------------------------


def commands(
    command: click.Command, parent: click.Context | None = None, name: str = "quietpager"
) -> Iterator[tuple[str, str]]:
    """Give every command's path and help, groups before their commands."""
    context = click.Context(
        command, parent=parent, info_name=name, terminal_width=100, **command.context_settings
    )
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            found = command.get_command(context, sub)
            if found is not None:
                yield from commands(found, context, sub)


def exit_codes() -> Iterator[str]:
    """Write how each command ends."""
    yield "0: it was done, or the answer is yes. 1: the answer is no, or only a part was done. 2: it could"
    yield "not be done or read at all. Besides, every command ends with 2 where an option or an argument is"
    yield "wrong."
    yield ""
    rows = [(f"`{name}`", *(codes.get(code, NOTHING) for code in range(3))) for name, codes in EXITS.items()]
    yield from table(("command", "0", "1", "2"), rows)


def cli() -> str:
    """Write every command's help."""
    lines = [
        "# The command line",
        GENERATED,
        "",
        "In a checkout the command is `.venv/bin/quietpager`. `QUIETPAGER_STORE` is the URL of the",
        "store. These commands need it: `status`, `incidents`, `show`, `approve`, `modify`, `reject`,",
        "`take-over`, `console`, `ledger`, `stop`, `resume`, `audit` and `policy explain`.",
    ]
    lines += ["", "## Exit codes", "", *exit_codes()]
    for path, text in commands(command_line):
        lines += ["", f"## {path}", "", "```text", text.rstrip(), "```"]
    return "\n".join(lines) + "\n"


FILES: Mapping[str, Callable[[], str]] = {
    "docs/state-machine.md": state_machine,
    "docs/policy.md": policy,
    "docs/policy.schema.json": schema,
    "docs/cli.md": cli,
    "docs/metrics.md": metrics,
    "functions/README.md": lambda: functions(ROOT / "functions"),
}


def stale() -> list[str]:
    """Name every generated file that differs from what would be generated."""
    found = []
    for name, make in FILES.items():
        path = ROOT / name
        if not path.exists() or path.read_text(encoding="utf-8") != make():
            found.append(name)
    return found


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit 1 where a file is stale.")
def main(*, check: bool) -> None:
    """Generate the reference tables from the code they describe."""
    names = stale()
    for name in names:
        if check:
            click.echo(f"{name} is stale; `make docs` writes it again.", err=True)
        else:
            path = ROOT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(FILES[name](), encoding="utf-8")
            click.echo(f"wrote {name}")
    if check and names:
        sys.exit(1)


if __name__ == "__main__":
    main()
