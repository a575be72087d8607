"""`quietpager render`: the manifests as YAML, to read, to keep in Git, or to apply."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import yaml

from infra.render import DEFAULTS, manifests
from quietpager.runtime.context import functions_folder


def render(out: Path | None, policy: str | None, cluster: str, say: Callable[[str], None]) -> None:
    """Print all manifests, or write one file for each kind into a folder."""
    settings = replace(DEFAULTS, cluster=cluster, policy=policy or DEFAULTS.policy)
    rendered = manifests(functions_folder(), settings)
    if out is None:
        say(yaml.safe_dump_all(rendered, sort_keys=False))
        return
    out.mkdir(parents=True, exist_ok=True)
    kinds = list(dict.fromkeys(one["kind"] for one in rendered))
    for number, kind in enumerate(kinds):
        path = out / f"{number:02}-{kind.lower()}.yaml"
        mine = [one for one in rendered if one["kind"] == kind]
        path.write_text(yaml.safe_dump_all(mine, sort_keys=False), encoding="utf-8")
        say(f"{path}: {len(mine)}")
