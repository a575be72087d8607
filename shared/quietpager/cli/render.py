"""`quietpager render`: the manifests as YAML, to read, to keep in Git, or to apply."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import yaml

from quietpager.render import DEFAULTS, function_folders, manifests
from quietpager.render.catalogue import functions
from quietpager.render.rights import run_as
from quietpager.render.walls import ANYWHERE, Network
from quietpager.runtime.context import function_roots


def render_run_as(user: str, say: Callable[[str], None]) -> None:
    """Print the Role and RoleBinding with which a person may run `quietpager run`.

    Raises:
        ClickException: that is no user's name, or a folder is wrong.
    """
    try:
        say(_text(run_as(function_folders(function_roots()), DEFAULTS.namespace, user)))
    except ValueError as wrong:
        raise click.ClickException(f"Nothing is rendered. {wrong}") from wrong


def render(
    out: Path | None,
    policy: str | None,
    cluster: str,
    say: Callable[[str], None],
    *,
    overlay: str | None = None,
    func: bool = False,
    authentication: bool = False,
    network: Network = ANYWHERE,
) -> None:
    """Print all manifests, or write into a folder: one file for each kind, and what they are, as a table.

    Raises:
        ClickException: a folder, a rule or the policy is wrong; the text says which and what to do.
    """
    settings = replace(
        DEFAULTS, cluster=cluster, policy=policy or DEFAULTS.policy, func=func, overlay=overlay or "",
        authentication=authentication, network=network,
    )  # fmt: skip
    try:
        rendered = manifests(function_roots(), settings)
    except ValueError as wrong:
        raise click.ClickException(f"Nothing is rendered. {wrong}") from wrong
    if out is None:
        say(_text(rendered))
        return

    out.mkdir(parents=True, exist_ok=True)
    kinds = list(dict.fromkeys(one["kind"] for one in rendered))
    for number, kind in enumerate(kinds):
        path = out / f"{number:02}-{kind.lower()}.yaml"
        mine = [one for one in rendered if one["kind"] == kind]
        path.write_text(_text(mine), encoding="utf-8")
        say(f"{path}: {len(mine)}")
    table = out / "README.md"
    table.write_text(functions(function_roots(), links=False), encoding="utf-8")
    say(f"{table}: functions, routes, actions")


class _Readable(yaml.SafeDumper):
    """Writes a text of several lines as such: it will be read, and compared line by line."""


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _block)


def _text(objects: Sequence[dict[str, Any]]) -> str:
    return yaml.dump_all(objects, Dumper=_Readable, sort_keys=False, width=110)
