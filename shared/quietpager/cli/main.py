"""The command `quietpager`. Each sub-command imports what it needs when it is called."""

# ruff: noqa: PLC0415 (see above)

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

import click

if TYPE_CHECKING:
    from quietpager.deciding.decisions import Answer


def echo(text: str, *, nl: bool = True) -> None:
    """Print what may hold text from a cluster or a person, masked.

    Not for what is to be exact: an export of the audit (masked before it was hashed), a schema, a password
    that the product itself has just made.
    """
    from quietpager.masking.told import told

    click.echo(told(text), nl=nl)


class Sentences(click.Group):
    """The commands; where the store does not answer, each ends with a sentence and exit 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        from quietpager.errors import Retry
        from quietpager.model.store import StoreUnavailable

        try:
            return super().invoke(ctx)
        except (StoreUnavailable, Retry) as no:
            said = " ".join(str(no).split()) or "it does not answer"
            click.echo(f"The store cannot be used: {said[:500]} QUIETPAGER_STORE names it.", err=True)
            sys.exit(2)


@click.group(cls=Sentences, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Fix known Kubernetes faults within hard limits, and ask a person about the rest."""


@main.command()
@click.option(
    "--once", is_flag=True, help="Run unattended; exit 0 only if every outcome is the expected one."
)
@click.option(
    "--kills", default=0, show_default=True, help="Kill the product's process this many times during the run."
)
@click.option("--seed", default=1, show_default=True, help="The seed that decides when the kills happen.")
@click.option(
    "--store", default="", metavar="URL",
    help="The URL of an empty store; `dynamodb`: a DynamoDB of its own (`make dynamodb`).  "
    "[default: a PostgreSQL of its own]",
)  # fmt: skip
def demo(*, once: bool, kills: int, seed: int, store: str) -> None:
    """Break things in a sandbox cluster and watch them heal."""
    from quietpager.cli.exits import CannotBegin

    try:
        from quietpager.local.demo import run
        from quietpager.local.dynoxide import DynoxideUnavailable

        try:
            sys.exit(run(once=once, kills=kills, seed=seed, say=click.echo, given=store))
        except DynoxideUnavailable as no:
            raise CannotBegin(str(no)) from None
    except ModuleNotFoundError as no:
        raise CannotBegin(f"{no.name} is not installed, and the demo needs it: {LOCAL_EXTRA}.") from None


LOCAL_EXTRA = "pip install 'quietpager[local]'"


READ_BY = click.option(
    "--kubeconfig", envvar="KUBECONFIG", metavar="PATH",
    help="Whose rights are used, and on which cluster.  [default: KUBECONFIG, or ~/.kube/config]",
)  # fmt: skip
CONTEXT = click.option(
    "--context", metavar="NAME", help="A context of the kubeconfig; without it the current one."
)
WITHIN = click.option("--namespace", "-n", metavar="NAME", help="Read only this namespace.")


@main.command()
@READ_BY
@CONTEXT
@WITHIN
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def scan(kubeconfig: str | None, context: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Read a live cluster once and show what is wrong, what quietpager would do, and why.

    One row for each cause. Exit 0 whatever is found, 2 where nothing could be read.
    """
    from quietpager.cli.scan import run

    sys.exit(run(kubeconfig, context, namespace, as_json=as_json, say=echo))


@main.command()
@READ_BY
@CONTEXT
@WITHIN
@click.option(
    "--policy", type=click.Path(path_type=Path), help="A policy file; else QUIETPAGER_POLICY; else analyze."
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".quietpager"),
    show_default=True,
    help="Where its PostgreSQL lives, if QUIETPAGER_STORE names none.",
)
@click.option(
    "--port", type=int, help="Let its broker listen on this port of 127.0.0.1, for `quietpager send`."
)
def run(
    kubeconfig: str | None,
    context: str | None,
    namespace: str | None,
    policy: Path | None,
    data: Path,
    port: int | None,
) -> None:
    """Watch a live cluster, without Knative: all functions in one process, until Ctrl-C.

    It reads with your rights, and writes only by impersonating the ServiceAccount of each action (see
    `quietpager render`). A new install writes nothing: it is stopped, and its autonomy is analyze.
    """
    from quietpager.cli.exits import CannotBegin

    try:
        from quietpager.local.run import Asked
        from quietpager.local.run import run as begin

        sys.exit(begin(Asked(kubeconfig, context, namespace, policy, data, port), click.echo))
    except ModuleNotFoundError as no:
        raise CannotBegin(f"{no.name} is not installed, and `run` needs it: {LOCAL_EXTRA}.") from None


@main.command()
@click.argument("cases", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, one for each case, in order.")
def replay(cases: tuple[Path, ...], *, as_json: bool) -> None:
    """Diagnose recorded cases offline.

    Exit 2 where a case could not be read; the others are answered all the same. With --json its class is
    `invalid_input`, and the exit is 0.
    """
    from quietpager.cli.catalogue import rules
    from quietpager.cli.replay import INVALID
    from quietpager.cli.replay import replay as run

    invalid = False
    rules()  # a wrong rule is said once, not of each case
    for answer in run(cases):
        invalid |= answer["failure_class"] == INVALID
        if as_json:
            echo(json.dumps(answer, default=str))
        else:
            proposed = ", ".join(f"propose {one}" for one in answer["would_propose"])
            acts = ", ".join(answer["would_act"]) or proposed or "nothing"
            echo(
                f"{answer['case']:32} {answer['failure_class']:26} would do: {acts:14} {answer['why'][:100]}"
            )
    # Whoever asks for JSON reads line by line; there an invalid case is an answer as any other.
    sys.exit(2 if invalid and not as_json else 0)


@main.command()
@click.argument("function", metavar="FN")
@click.option("--port", default=8080, show_default=True)
def serve(function: str, port: int) -> None:
    """Serve one function alone, e.g. detect/crash, as Knative's func would."""
    from quietpager.cli.exits import CannotBegin
    from quietpager.local.serve import UnknownFunction
    from quietpager.local.serve import serve as run

    try:
        run(function, port)
    except UnknownFunction as no:
        raise CannotBegin(str(no)) from None


@main.command()
@click.argument("file", type=click.File("rb"))
@click.option("--to", default="http://127.0.0.1:8080", show_default=True, help="A function, or the broker.")
def send(file: BinaryIO, to: str) -> None:
    """Post an Event (or a CloudEvent in JSON) by hand; prints what came back and what the store holds."""
    from quietpager.cli.send import send as run

    sys.exit(run(file.read(), to, echo))


@main.command()
def incidents() -> None:
    """List all incidents."""
    from quietpager.cli.people import open_store_or_exit, table

    echo(table(open_store_or_exit()), nl=False)


@main.command()
@click.argument("incident")
def show(incident: str) -> None:
    """Show one incident with its whole audit."""
    from quietpager.cli.people import open_store_or_exit, story

    echo(story(open_store_or_exit(), incident), nl=False)


DIFF = click.option(
    "--diff", metavar="KEY",
    help="The diff key that `show` printed; another one is refused. Without it: what is asked now.",
)  # fmt: skip


@main.command()
def ledger() -> None:
    """Show what was tried for each failure class, and whether it helped."""
    from quietpager.cli.people import ledger as run
    from quietpager.cli.people import open_store_or_exit

    echo(run(open_store_or_exit()), nl=False)


def _answered(given: "Answer") -> None:
    """Say what became of an answer; exit 1 where it does not count."""
    echo(given.sentence)
    sys.exit(0 if given.used else 1)


@main.command()
@click.argument("incident")
@DIFF
def approve(incident: str, diff: str | None) -> None:
    """Approve what an incident asks for: exactly the diff that was shown, once."""
    from quietpager.cli.people import answer, open_store_or_exit

    _answered(answer(open_store_or_exit(), incident, "approve", diff=diff))


@main.command()
@click.argument("incident")
@click.option("--action", required=True, help="What to do instead, e.g. raise-memory.")
@click.option("--set", "fields", multiple=True, metavar="NAME=VALUE", help="A parameter of the action.")
@DIFF
def modify(incident: str, action: str, fields: tuple[str, ...], diff: str | None) -> None:
    """Plan another remedy instead; quietpager then asks you to approve its diff."""
    from quietpager.cli.people import answer, open_store_or_exit

    given = dict(field.partition("=")[::2] for field in fields)
    _answered(answer(open_store_or_exit(), incident, "modify", diff=diff, action=action, fields=given))


@main.command()
@click.argument("incident")
def reject(incident: str) -> None:
    """Reject what an incident asks for; automation ends in this episode."""
    from quietpager.cli.people import answer, open_store_or_exit

    _answered(answer(open_store_or_exit(), incident, "reject"))


@main.command()
@click.option(
    "--probe", envvar="QUIETPAGER_PROBE", required=True, metavar="URL", help="Answers 2xx while all is well."
)
@click.option("--every", default="10s", show_default=True, help="How often it is asked: 500ms, 10s, 2m.")
@click.option(
    "--misses", default=2, show_default=True, help="Tell people after this many failed probes in a row."
)
def watchdog(probe: str, every: str, misses: int) -> None:
    """Probe quietpager, and tell people directly when it stops answering and when it answers again.

    It needs neither store nor broker: it uses the channels of QUIETPAGER_CHANNELS itself.
    """
    from quietpager.cli.watchdog import run

    run(probe, every, misses)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, as the probe answers it.")
@click.option("--serve", "address", metavar="HOST:PORT", help="Serve it as /health/heartbeat instead.")
def status(*, as_json: bool, address: str | None) -> None:
    """Show when source, broker, store, clock and sweep last gave a sign of life, and what to do.

    Exit 0 if all are; 1 if one is stale, was never heard of, or cannot be judged.
    """
    from quietpager.cli.status import serve as run
    from quietpager.cli.status import status as once

    if address is not None:
        run(address, click.echo)
        return
    sys.exit(once(as_json=as_json, say=click.echo))


@main.command()
@click.argument("incident")
def take_over(incident: str) -> None:
    """Handle an incident yourself; automation and questions end in this episode."""
    from quietpager.cli.people import answer, open_store_or_exit

    _answered(answer(open_store_or_exit(), incident, "take over"))


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8089, show_default=True)
@click.option("--users", "file", type=click.Path(dir_okay=False), help="The users file.")
def console(host: str, port: int, file: str | None) -> None:
    """Serve the console: web pages with the incidents that wait for a person."""
    import os

    from quietpager.cli.people import open_store_or_exit
    from quietpager.incident import records
    from quietpager.local.serve import serve as run
    from quietpager.people.users import USERS

    if file is not None:
        os.environ[USERS] = file
    # Without its store it could show nothing: it ends here, with the sentence, and is started again.
    store = open_store_or_exit()
    store.get(records.SWITCH)
    store.close()
    click.echo(f"The console listens on http://{host}:{port}/", err=True)
    run("people/console", port, host)


@main.command()
@click.argument("name")
@click.option("--users", "file", type=click.Path(dir_okay=False, path_type=Path), help="The users file.")
@click.option(
    "--role", type=click.Choice(["viewer", "approver", "admin"]),
    help="What it may do. Of an account that is there, only this changes. A new one is a viewer without it.",
)  # fmt: skip
@click.option("--remove", is_flag=True, help="Remove the account and end its sessions.")
def console_user(name: str, file: Path | None, role: str | None, *, remove: bool) -> None:
    """Add an account to the console, or give it another password or role.

    A password is asked for. A viewer reads; an approver answers, too; an admin also stops all writing and
    ends sessions. Every change ends the account's sessions.
    """
    from quietpager.cli.accounts import change_account

    def password() -> str:
        text: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        return text

    good, sentence = change_account(name, file, role, password, remove=remove)
    click.echo(sentence, err=not good)
    sys.exit(0 if good else 1)


@main.command()
@READ_BY
@CONTEXT
def stop(kubeconfig: str | None, context: str | None) -> None:
    """Stop all writing: delete the write bindings, and set the store's kill switch.

    Each half is said for itself. Where only one of them can be reached, that one is done, and the exit is 1.
    """
    from quietpager.cli.switch import reach
    from quietpager.cli.switch import stop as run

    sys.exit(run(reach(kubeconfig, context), click.echo))


@main.command()
@READ_BY
@CONTEXT
def resume(kubeconfig: str | None, context: str | None) -> None:
    """Resume writing: make the write bindings with your own rights, then clear the store's switch."""
    from quietpager.cli.switch import reach
    from quietpager.cli.switch import resume as run

    sys.exit(run(reach(kubeconfig, context), click.echo))


@main.command()
@click.option("--functions", metavar="ROLE", help="Grant this role what the functions need, and no more.")
@click.option("--print", "only", is_flag=True, help="Only print the grants, for whoever runs them by hand.")
@click.option(
    "--cluster", envvar="QUIETPAGER_CLUSTER", default="default", show_default=True, metavar="NAME",
    help="The cluster whose records an older version left, with keys that name no cluster.",
)  # fmt: skip
def migrate(functions: str | None, cluster: str, *, only: bool) -> None:
    """Bring the tables of the store in QUIETPAGER_STORE up to date, as their owner.

    On DynamoDB it makes missing tables, but on AWS itself, where Terraform makes them, it only looks. On
    PostgreSQL the role of --functions can read and add audit entries; it cannot change or remove one, nor a
    table.
    """
    from quietpager.cli.audit import migrate as run

    sys.exit(run(functions, cluster, click.echo, only=only))


@main.group()
def audit() -> None:
    """Verify, export and anchor the audit."""


PLACE = click.Path(file_okay=False, path_type=Path)


@audit.command()
@click.option(
    "--anchor", "place", type=PLACE, metavar="DIR",
    help="Hold the chains against every anchor there, too: a Git repository, or a folder with anchors.jsonl.",
)  # fmt: skip
@click.option(
    "--file", "file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Verify what `audit export` wrote, in place of the store.",
)  # fmt: skip
def verify(place: Path | None, file: Path | None) -> None:
    """Verify every audit chain; exit 1 if one entry was changed, removed, added or moved.

    Against an anchor it also finds a chain that was removed together with its head, or computed anew.
    """
    from quietpager.cli.audit import verify as run
    from quietpager.cli.audit import verify_file

    sys.exit(run(place, click.echo) if file is None else verify_file(file, place, click.echo))


@audit.command()
@click.option("--incident", metavar="ID", help="Only this incident's chain.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A file; else it is printed.")
def export(incident: str | None, out: Path | None) -> None:
    """Write all entries and heads as JSON Lines, which a stranger can verify; see docs/audit.md."""
    from quietpager.cli.audit import export as run

    sys.exit(run(incident, out, click.echo))


@audit.command()
@click.argument("place", type=PLACE, metavar="DIR")
def anchor(place: Path) -> None:
    """Anchor the heads of all chains in DIR, once: a commit in a Git repository, else a line of a file.

    Exit 1 if a chain is shorter or another one than at the anchor before. It reads the store and no more.
    """
    from quietpager.cli.audit import anchor as run

    sys.exit(run(place, click.echo))


@main.group()
def policy() -> None:
    """Check a policy file, and see what its limits decided."""


@policy.command("schema")
def policy_schema() -> None:
    """Print the JSON Schema of the policy file."""
    from quietpager.cli.policy import schema

    click.echo(schema(), nl=False)


@policy.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def policy_check(file: Path) -> None:
    """Check a policy file; exit 1 names file, line, field and what is allowed."""
    from quietpager.cli.policy import check

    good, text = check(file)
    click.echo(text, nl=False)
    sys.exit(0 if good else 1)


@policy.command("explain")
@click.argument("incident")
@click.option("--now", is_flag=True, help="Judge the stored plan again, by today's records and policy file.")
def policy_explain(incident: str, *, now: bool) -> None:
    """Show what each guard said of an incident's plans, and the figures it looked at.

    It is read from the audit. Neither form reads the cluster.
    """
    from quietpager.cli.people import open_store_or_exit
    from quietpager.cli.policy import explain, explain_now
    from quietpager.incident.policy import load_policy
    from quietpager.model.time import system_clock

    store = open_store_or_exit()
    text = explain_now(store, incident, load_policy(), system_clock) if now else explain(store, incident)
    echo(text, nl=False)
    store.close()


@main.command()
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="One file for each kind, and a table."
)
@click.option("--policy", type=click.File(encoding="utf-8"), help="A policy file; without one: analyze.")
@click.option("--cluster", default="default", show_default=True, help="The cluster's name in records.")
@click.option("--func", is_flag=True, help="Without the functions themselves: `func deploy` brings those.")
@click.option("--overlay", type=click.Choice(["kafka"]), help="Another Broker than the in-memory one.")
@click.option(
    "--run-as", "user", metavar="USER",
    help="Only the Role and RoleBinding with which this user may run `quietpager run`.",
)  # fmt: skip
@click.option(
    "--authentication",
    is_flag=True,
    help="The cluster's Knative authenticates senders: say who may say what, and ask for tokens.",
)
@click.option(
    "--api-server", multiple=True, metavar="CIDR", help="Where the API server is. Default: anywhere."
)
@click.option(
    "--store",
    multiple=True,
    metavar="CIDR",
    help="Where the store is, PostgreSQL or DynamoDB; the rendered PostgreSQL is left out then.",
)
@click.option("--store-port", type=int, default=5432, show_default=True, help="Its port; DynamoDB: 443.")
@click.option(
    "--console-from", default="", metavar="NAMESPACE", help="Whose pods reach the console: the ingress."
)
@click.option(
    "--inside", multiple=True, metavar="CIDR", help="Private addresses of Git hosts and chat servers."
)
def render(
    out: Path | None, policy: TextIO | None, cluster: str, overlay: str | None, user: str | None, *,
    func: bool, authentication: bool, api_server: tuple[str, ...], store: tuple[str, ...], store_port: int,
    console_from: str, inside: tuple[str, ...],
) -> None:  # fmt: skip
    """Print all manifests of an installation, rendered from the function folders.

    The addresses go into the NetworkPolicies.
    """
    from quietpager.cli.render import render as run
    from quietpager.cli.render import render_run_as
    from quietpager.render.walls import EVERYWHERE, Network

    if user is not None:
        render_run_as(user, click.echo)
        return

    try:
        network = Network(
            api_server=api_server or EVERYWHERE,
            store=store,
            store_port=store_port,
            console_from=console_from,
            inside=inside,
        )
    except ValueError as wrong:
        raise click.ClickException(f"Nothing is rendered. {wrong}") from wrong
    run(
        out,
        None if policy is None else policy.read(),
        cluster,
        click.echo,
        overlay=overlay,
        func=func,
        authentication=authentication,
        network=network,
    )


INTO = click.option(
    "--into", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="A folder of functions of your own.  [default: functions/ of the checkout you are in]",
)  # fmt: skip
CASE = click.option(
    "--case", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="CASE",
    help="A recorded case to begin with; else one of the product's own, with a reason that you replace.",
)  # fmt: skip


@main.group()
def rule() -> None:
    """Write new rules, which detect faults."""


@rule.command("new")
@click.argument("name")
@INTO
@CASE
def rule_new(name: str, into: Path | None, case: Path | None) -> None:
    """Write the folder of a new rule, with a first case and a test that says what to write."""
    from quietpager.cli.skeleton import new

    new("rule", name, into, case, click.echo)


@main.group()
def action() -> None:
    """Write new actions, which fix faults."""


@action.command("new")
@click.argument("name")
@INTO
@CASE
def action_new(name: str, into: Path | None, case: Path | None) -> None:
    """Write the folder of a new action, with a first case and a test that says what to write.

    A new action has no right to write until its action.yaml grants one. Until then a person gets its plan.
    """
    from quietpager.cli.skeleton import new

    new("action", name, into, case, click.echo)


if __name__ == "__main__":
    main()
