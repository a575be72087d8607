"""A secret stands in text that we read; it must be in nothing that we keep, say or show.

Each sink is attacked with every sample, on its own: what is stored, audited, logged, answered, told, shown on
a page, printed, proposed. The mutants take the boundary out at one sink, and the secret is there again.
"""

import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, get_args

import click
import pytest
from click.testing import CliRunner

import quietpager.actions
import quietpager.analysis
import quietpager.change
import quietpager.deciding
import quietpager.incident
import quietpager.model
import quietpager.rules
from quietpager.cli import main as cli
from quietpager.functions.people.console import app as console
from quietpager.functions.remediate.propose_change import proposing
from quietpager.functions.remediate.propose_change.proposing import Wanted
from quietpager.masking.told import told
from quietpager.model.data import Data
from quietpager.model.finding import Evidence, Remedy
from quietpager.model.incident import Incident, Proposal, Rehearsal, State
from quietpager.model.reference import ObjectRef
from quietpager.model.store import Audit, Put
from quietpager.people import channels
from quietpager.people.channels import Notice, Terminal, Webhook, slack_body
from quietpager.runtime import edge, logs
from quietpager.store import batch
from quietpager.store.export import lines
from quietpager.store.memory import MemoryStore
from tests.secrets.samples import Sample, samples

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WEB = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="shop", name="web", uid="u1")

# The types

STRUCTURAL = frozenset(
    [
        "Action.name",
        "Action.resource",
        "Action.summary",
        "Action.verb",
        "AnyChange.kind",
        "Cage.action",
        "Cage.applies_to",
        "Cage.kinds",
        "Cage.may_change",
        "ConfigRef.name",
        "ConfigRef.where",
        "Count.action",
        "Count.failure_class",
        "CreateObject.content",
        "CreateObject.name",
        "Diagnosis.cause",
        "Diagnosis.facts",
        "Diagnosis.failure_class",
        "Disruption.name",
        "Disruption.targets",
        "Edit.path",
        "Event.container",
        "Event.id",
        "EventRef.name",
        "EventRef.namespace",
        "EventRef.uid",
        "Finding.autonomy",
        "Finding.closing",
        "Finding.cluster",
        "Finding.family",
        "Finding.id",
        "Finding.incident",
        "Finding.rests_on",
        "Incident.approval",
        "Incident.approved",
        "Incident.approved_diff",
        "Incident.cause",
        "Incident.cluster",
        "Incident.failure_class",
        "Incident.family",
        "Incident.id",
        "Incident.intent",
        "Incident.rehearsal",
        "Incident.to_propose",
        "Incident.undo",
        "Intent.action",
        "Intent.id",
        "Intent.incident",
        "Intent.rehearsal",
        "Intent.slots",
        "Intent.undoes",
        "Message.id",
        "Message.subject",
        "Message.type",
        "NotMine.family",
        "ObjectRef.api_version",
        "ObjectRef.kind",
        "ObjectRef.name",
        "ObjectRef.namespace",
        "ObjectRef.uid",
        "Owner.tool",
        "Past.failure_class",
        "Pins.mark",
        "Pins.versions",
        "PlanFacts.domains",
        "PlanFacts.namespace",
        "Planned.pod_limit",
        "Planned.pod_limit_before",
        "Planned.pod_memory",
        "Planned.pod_memory_before",
        "Recheck.incident",
        "Rehearsal.beyond",
        "Rehearsal.id",
        "Rehearsal.incident",
        "Remedy.action",
        "Right.group",
        "Right.resource",
        "Right.verb",
        "Signal.family",
        "Similar.incident",
        "Tried.action",
        "Verdict.guard",
    ]
)
"""Fields of plain text that a person has looked at: ids, restricted names, paths, amounts, our own words.

A new field of a model is of type `Told`, or it is added here with the same thought.
"""


def models() -> Iterator[type[Data]]:
    """Every model of the layers that keep something of a cluster; policy and rules are the operator's."""
    for package in (
        quietpager.model,
        quietpager.incident,
        quietpager.change,
        quietpager.deciding,
        quietpager.actions,
        quietpager.analysis,
        quietpager.rules,
    ):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            if found.name.endswith((".policy", ".freeze", ".schema", ".routing", ".looking")):
                continue
            for value in vars(module).values():
                if (
                    isinstance(value, type)
                    and issubclass(value, Data)
                    and value.__module__ == module.__name__
                ):
                    yield value


def bare(annotation: Any, metadata: tuple[Any, ...] = ()) -> bool:
    """Tell whether a type lets plain text through somewhere."""
    if annotation is str:
        return not any(getattr(one, "func", None) is told for one in metadata)
    args = get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return bare(args[0], annotation.__metadata__)
    if getattr(annotation, "__origin__", None) is dict:
        return bare(args[1])
    return any(bare(one) for one in args)


def test_every_field_with_text_is_told_or_was_looked_at() -> None:
    found = {
        f"{model.__name__}.{name}"
        for model in models()
        for name, field in model.model_fields.items()
        if bare(field.annotation, tuple(field.metadata))
    }
    assert found <= STRUCTURAL | MAPS, sorted(found - STRUCTURAL - MAPS)


MAPS = frozenset({"Message.attributes", "Remedy.params", "Tried.params", "Verdict.figures"})
"""Small values: our own, an action's declared parameters, a guard's figures; audited, and masked there."""


def test_what_the_machine_must_write_exactly_is_not_masked() -> None:
    for name in ("Edit.had", "Edit.gets", "Intent.id", "ObjectRef.uid", "Incident.cause"):
        model, field = name.split(".")
        [one] = {m for m in models() if m.__name__ == model}
        assert "told" not in repr(one.model_fields[field].metadata)


# The sinks. Each gives what comes out for a text that goes in.


def incident(text: str) -> Incident:
    return Incident(
        id="inc-1", cause="workload:u1", episode=1, cluster="c", family="image", failure_class="unknown",
        owner=WEB, state=State.HANDOVER, opened_at=NOW, state_since=NOW, since=NOW, deadline_at=NOW,
        recheck_every=10.0, evidence=(Evidence(text=text, source=text),), refusals=(text,),
    )  # fmt: skip


def record(text: str) -> str:
    store = MemoryStore()
    one = incident("").but(refusals=(text,), evidence=(Evidence.model_construct(text=text, source="x"),))
    store.transact([Put("INCIDENT#inc-1", one.to_json(), 0)])
    return json.dumps([r.body for r in store.scan("INCIDENT")])


def audit_export(text: str) -> str:
    store = MemoryStore()
    store.transact([Audit("inc-1", NOW, "refused", "x", {"sentence": text, "more": [text]})])
    return "\n".join(lines(store, None))


def answer(text: str) -> str:
    return edge._refused(503, text)[2].decode()


def log_line(text: str) -> str:
    return json.dumps(logs.mask_entry(None, "x", {"event": text, "error": text}))


def terminal(text: str) -> str:
    return Notice("n", "opened", text, text, "link", {}).lines


def slack(text: str) -> str:
    return json.dumps(slack_body(Notice("n", "opened", text, text, "link", {})))


def webhook(text: str) -> str:
    sent: list[bytes] = []
    patch = pytest.MonkeyPatch()
    patch.setattr(channels, "_post", lambda _url, body, _head, **_: sent.append(body))
    Webhook("w", None, None).tell(Notice("n", "opened", text, text, "link", {"x": text}))  # type: ignore[arg-type]
    patch.undo()
    return sent[0].decode()


def page(text: str) -> str:
    web = console._Web("quietpager.functions.people.console")
    return web.jinja_env.from_string("<p>{{ text|safe if false else text }}</p>").render(text=text)


def printed(text: str) -> str:
    return CliRunner().invoke(_printing, ["--", text]).output


@click.command()
@click.argument("text")
def _printing(text: str) -> None:
    cli.echo(text)


def proposal(text: str) -> str:
    plan = Rehearsal(id="r", incident="inc-1", remedy=Remedy(action="x"), owner=WEB, asked_at=NOW)
    wanted = Wanted(plan, incident("").but(failure_class=text), (), NOW)
    return f"{wanted.title}{wanted.body}"


def stored_proposal(text: str) -> str:
    return json.dumps(Proposal(kind="patch", text=text).to_json())


SINKS: dict[str, Callable[[str], str]] = {
    "records": record, "audit export": audit_export, "answer to the broker": answer, "our log": log_line,
    "terminal": terminal, "slack": slack, "webhook": webhook, "page": page, "command line": printed,
    "branch and pull request": proposal, "stored proposal": stored_proposal,
}  # fmt: skip


def leaks(sink: str) -> list[Sample]:
    return [one for one in samples() if one.seen_in(SINKS[sink](one.text))]


@pytest.mark.parametrize("sink", SINKS)
def test_no_sink_gives_a_secret_away(sink: str) -> None:
    assert leaks(sink) == []


def same(value: Any) -> Any:
    return value


TAKEN_OUT: dict[str, tuple[Any, str]] = {
    "audit export": (batch, "masked"),
    "answer to the broker": (edge, "told"),
    "our log": (logs, "masked"),
    "terminal": (channels, "masked"),
    "slack": (channels, "masked"),
    "webhook": (channels, "masked"),
    "page": (console, "told"),
    "command line": (importlib.import_module("quietpager.masking.told"), "told"),
    "branch and pull request": (proposing, "told"),
}


@pytest.mark.parametrize("sink", TAKEN_OUT)
def test_without_the_boundary_at_a_sink_it_does(sink: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name = TAKEN_OUT[sink]
    monkeypatch.setattr(module, name, same)
    assert len({one.kind for one in leaks(sink)}) >= 25


@pytest.mark.parametrize("sink", ["records", "stored proposal"])
def test_without_the_type_the_records_do(sink: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quietpager.masking.mask.mask", same)
    assert len({one.kind for one in leaks(sink)}) >= 25


def test_the_terminal_tells_masked(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal("t").tell(Notice("n", "opened", "DB_PASS=Otter123xy", "x", "y", {}))
    assert "Otter123xy" not in capsys.readouterr().out
