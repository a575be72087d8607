"""The command `quietpager`. Each sub-command imports what it needs when it is called."""

# ruff: noqa: PLC0415 (see above)

import json
import sys
from pathlib import Path
from typing import BinaryIO, TextIO

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Heal known Kubernetes faults within hard limits, and ask a person about the rest."""


@main.command()
@click.option(
    "--once", is_flag=True, help="Run unattended; exit 0 only if every outcome is the expected one."
)
@click.option("--kills", default=0, show_default=True, help="Kill the product's process so often on the way.")
@click.option("--seed", default=1, show_default=True, help="When the kills happen.")
def demo(*, once: bool, kills: int, seed: int) -> None:
    """Break things in a sandbox cluster and watch them heal."""
    from infra.local.demo import run

    sys.exit(run(once=once, kills=kills, seed=seed, say=click.echo))


@main.command()
@click.argument("cases", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, one for each case, in order.")
def replay(cases: tuple[Path, ...], *, as_json: bool) -> None:
    """Diagnose recorded cases offline."""
    from infra.cli.replay import replay as run

    for answer in run(cases):
        if as_json:
            click.echo(json.dumps(answer, default=str))
        else:
            acts = ", ".join(answer["would_act"]) or "nothing"
            click.echo(
                f"{answer['case']:32} {answer['failure_class']:26} would do: {acts:14} {answer['why'][:100]}"
            )


@main.command()
@click.argument("function", metavar="FN")
@click.option("--port", default=8080, show_default=True)
def serve(function: str, port: int) -> None:
    """Serve one function alone, e.g. detect/crash, as Knative's func would."""
    from infra.local.serve import serve as run

    run(function, port)


@main.command()
@click.argument("file", type=click.File("rb"))
@click.option("--to", default="http://127.0.0.1:8080", show_default=True, help="A function, or the broker.")
def send(file: BinaryIO, to: str) -> None:
    """Post an Event (or a CloudEvent in JSON) by hand; prints what came back and what the store holds."""
    from infra.cli.send import send as run

    sys.exit(run(file.read(), to, click.echo))


@main.command()
def incidents() -> None:
    """List all incidents."""
    from infra.cli.people import open_store_or_exit, table

    click.echo(table(open_store_or_exit()), nl=False)


@main.command()
@click.argument("incident")
def show(incident: str) -> None:
    """Show one incident with its whole audit."""
    from infra.cli.people import open_store_or_exit, story

    click.echo(story(open_store_or_exit(), incident), nl=False)


@main.command()
@click.argument("incident")
def approve(incident: str) -> None:
    """Approve what an incident asks for: exactly the diff that was shown, once."""
    from infra.cli.people import answer, open_store_or_exit

    click.echo(answer(open_store_or_exit(), incident, "approve"))


@main.command()
@click.argument("incident")
def reject(incident: str) -> None:
    """Reject it; no more automation in this episode."""
    from infra.cli.people import answer, open_store_or_exit

    click.echo(answer(open_store_or_exit(), incident, "reject"))


KUBECONFIG = click.option(
    "--kubeconfig", envvar="KUBECONFIG", metavar="PATH",
    help="Whose rights are used, and on which cluster. Without one only the store's switch is set.",
)  # fmt: skip


@main.command()
@KUBECONFIG
def stop(kubeconfig: str | None) -> None:
    """Stop all writing: delete the write bindings, and set the store's kill switch.

    Where only one of them can be reached, that one is done; exit 1 says that the other was not.
    """
    from infra.cli.switch import reach
    from infra.cli.switch import stop as run

    sys.exit(run(reach(kubeconfig), click.echo))


@main.command()
@KUBECONFIG
def resume(kubeconfig: str | None) -> None:
    """Let it write again: make the write bindings, with your own rights, then clear the store's switch."""
    from infra.cli.switch import reach
    from infra.cli.switch import resume as run

    sys.exit(run(reach(kubeconfig), click.echo))


@main.group()
def audit() -> None:
    """The record of everything."""


@audit.command()
def verify() -> None:
    """Verify every audit chain; exit 1 if one entry was changed, removed, added or moved."""
    from infra.cli.people import open_store_or_exit
    from quietpager.store.audit import verify_all

    store = open_store_or_exit()
    faults = verify_all(store)
    for fault in faults:
        click.echo(fault)
    click.echo(f"{len(store.audit_chains())} chains, {len(faults)} faults")
    store.close()
    sys.exit(1 if faults else 0)


@main.command()
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="One file for each kind, and a table."
)
@click.option("--policy", type=click.File(encoding="utf-8"), help="A policy file; without one: analyze.")
@click.option("--cluster", default="default", show_default=True, help="The cluster's name in records.")
@click.option("--func", is_flag=True, help="Without the functions themselves: `func deploy` brings those.")
@click.option("--overlay", type=click.Choice(["kafka"]), help="Another Broker than the in-memory one.")
def render(out: Path | None, policy: TextIO | None, cluster: str, overlay: str | None, *, func: bool) -> None:
    """Print everything that follows from the function folders: what an installation applies."""
    from infra.cli.render import render as run

    run(out, None if policy is None else policy.read(), cluster, click.echo, overlay=overlay, func=func)


if __name__ == "__main__":
    main()
