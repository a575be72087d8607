"""Reads the function folders: what a `func.yaml` says that deployment follows from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from quietpager.model.yaml import read_yaml

Json = dict[str, Any]

PART_OF: Final = "app.kubernetes.io/part-of"
"""Label of everything that is ours, with the value `quietpager`."""

READS: Final = "quietpager.dev/reads"
"""Annotation of a func.yaml's `deploy`: what a function that is no action reads of the API server, as
`group/resource` (`pods`, `apps/deployments`), separated by spaces. Without it: nothing, and no token."""


SECRETS: Final = "quietpager.dev/secrets"
"""Annotation of a func.yaml's `deploy`: environment variables from Secrets that whoever installs may make, as
`VARIABLE=secret/key`, separated by spaces. A Secret that is not there is no error."""

SCRATCH: Final = "quietpager.dev/scratch"
"""Annotation of a func.yaml's `deploy`: the size of a folder /tmp that it may write to. Without it: none."""
WEB: Final = "quietpager.dev/web"
"""Annotation of a func.yaml's `deploy`, `"true"`: it serves web pages to people, and takes no messages."""


@dataclass(frozen=True, slots=True)
class FunctionFolder:
    """One function: its Knative name, its module, the filters of its Triggers, and what it needs.

    `writes` is False for a remediator whose action changes nothing in the cluster: it gets no right to.
    """

    name: str
    module: str
    filters: tuple[dict[str, str], ...]
    reads: tuple[str, ...] = ()
    resources: Json = field(default_factory=dict)
    secrets: tuple[tuple[str, str, str], ...] = ()
    scratch: str = ""
    writes: bool = True
    web: bool = False

    @property
    def action(self) -> str | None:
        """The action that it carries out, if it is a remediator."""
        stage, _, rest = self.name.partition("-")
        return rest if stage == "remediate" else None


def function_folders(functions: Path) -> tuple[FunctionFolder, ...]:
    """Find all functions, in path order."""
    return tuple(_folder(path) for path in sorted(functions.glob("*/*/func.yaml")))


def _folder(path: Path) -> FunctionFolder:
    spec = read_yaml(path)
    deploy = spec["deploy"]
    notes = deploy.get("annotations") or {}
    return FunctionFolder(
        name=spec["name"],
        module=f"functions.{path.parent.parent.name}.{path.parent.name}",
        filters=tuple(
            {k: str(v) for k, v in one["filters"].items()} for one in deploy.get("subscriptions") or []
        ),
        reads=tuple(notes.get(READS, "").split()),
        resources=(deploy.get("options") or {}).get("resources") or {},
        secrets=tuple(_secret(one) for one in notes.get(SECRETS, "").split()),
        scratch=notes.get(SCRATCH, ""),
        writes=_writes(path.with_name("action.yaml")),
        web=notes.get(WEB) == "true",
    )


def _secret(text: str) -> tuple[str, str, str]:
    """Take `VARIABLE=secret/key` apart."""
    variable, _, place = text.partition("=")
    secret, _, key = place.partition("/")
    if not (variable and secret and key):
        raise ValueError(f"{SECRETS} says {text!r}, not VARIABLE=secret/key.")
    return variable, secret, key


def _writes(action: Path) -> bool:
    return not action.exists() or bool(read_yaml(action).get("write"))
