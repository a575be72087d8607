"""Reads the function folders: what a `func.yaml` says that deployment follows from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

from yaml import YAMLError

from quietpager.model.message import EventType
from quietpager.model.yaml import read_yaml

Json = dict[str, Any]

PART_OF: Final = "app.kubernetes.io/part-of"
"""Label of everything that is ours, with the value `quietpager`."""

READS: Final = "quietpager.dev/reads"
"""Annotation of a func.yaml's `deploy`: what a function that is no action reads of the API server, as
`group/resource` (`pods`, `apps/deployments`), separated by spaces. Without it: nothing, and no token."""

SPEC: Final = "func.yaml"
SIGNS: Final = ("rule.yaml", "action.yaml", "handler.py")
"""What makes a folder a function's: it then needs a func.yaml."""
TYPES: Final[tuple[str, ...]] = get_args(EventType)
"""All messages there are; a Trigger on another one would never fire."""


@dataclass(frozen=True, slots=True)
class FunctionFolder:
    """One function: its Knative name, its module, the filters of its Triggers, and what it needs."""

    name: str
    module: str
    filters: tuple[dict[str, str], ...]
    reads: tuple[str, ...] = ()
    resources: Json = field(default_factory=dict)
    pods: int = 1
    """How many there are at least: func's own `scale.min`."""

    @property
    def stage(self) -> str:
        """The folder above its own: ingest, detect, analyze, govern, remediate, people or learn."""
        return self.module.split(".")[1]

    @property
    def action(self) -> str | None:
        """The action that it carries out, if it is a remediator."""
        stage, _, rest = self.name.partition("-")
        return rest if stage == "remediate" else None


def function_folders(functions: Path) -> tuple[FunctionFolder, ...]:
    """Find all functions, in path order.

    Raises:
        ValueError: a folder cannot be deployed as it is; the text names the file and what to do.
    """
    for sign in SIGNS:
        for path in sorted(functions.glob(f"*/*/{sign}")):
            if not (path.parent / SPEC).exists():
                raise ValueError(
                    f"{named(path.parent, functions)} has a {sign} but no {SPEC}, so it would never be "
                    f"deployed. Copy the {SPEC} of another function of its stage, and change name, account "
                    "and filters."
                )
    return tuple(_folder(path, functions) for path in sorted(functions.glob(f"*/*/{SPEC}")))


def named(path: Path, functions: Path) -> str:
    """Name a file as a person finds it: from the folder `functions` on."""
    return f"functions/{path.relative_to(functions).as_posix()}"


def _folder(path: Path, functions: Path) -> FunctionFolder:
    try:
        return _read(path)
    except KeyError as missing:
        raise ValueError(
            f"{named(path, functions)} lacks {missing}: see that of another function of its stage."
        ) from None
    except (ValueError, TypeError, AttributeError, YAMLError) as wrong:
        raise ValueError(f"{named(path, functions)}: {wrong}") from wrong


def _read(path: Path) -> FunctionFolder:
    spec = read_yaml(path)
    deploy = spec["deploy"]
    options = deploy.get("options") or {}
    notes = deploy.get("annotations") or {}
    stage, folder = path.parts[-3:-1]
    name = f"{stage}-{folder}".replace("_", "-")
    if spec["name"] != name:
        raise ValueError(f"`name` is {spec['name']}; after its folder it must be {name}.")
    return FunctionFolder(
        name=name,
        module=f"functions.{stage}.{folder}",
        filters=tuple(_filters(one) for one in deploy.get("subscriptions") or []),
        reads=tuple(notes.get(READS, "").split()),
        resources=options.get("resources") or {},
        pods=(options.get("scale") or {}).get("min") or 1,
    )


def _filters(subscription: Json) -> dict[str, str]:
    found = {key: str(value) for key, value in subscription["filters"].items()}
    if (kind := found.get("type", "")) not in TYPES:
        raise ValueError(
            f"a subscription wants the type {kind or '(none)'}, which nobody sends. Name one of "
            f"{', '.join(TYPES)}; a new type belongs in shared/quietpager/model/message.py first."
        )
    return found
