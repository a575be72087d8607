"""Reads the function folders: what a `func.yaml` says that deployment follows from."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, get_args

from yaml import YAMLError

from quietpager.model.folders import Roots, find, place_of, roots_of
from quietpager.model.message import EventType
from quietpager.model.yaml import read_yaml
from quietpager.objects.table import resource
from quietpager.rules.looking import listed
from quietpager.rules.schema import load_rules
from quietpager.runtime.loading import PACKAGE, POSTS, SPEC, name_of

Json = dict[str, Any]

PART_OF: Final = "app.kubernetes.io/part-of"
"""Label of everything that is ours, with the value `quietpager`."""

READS: Final = "quietpager.dev/reads"
"""Annotation of a func.yaml's `deploy`: what a function that is no action reads of the API server, as
`group/resource` (`pods`, `apps/deployments`), separated by spaces. It gets the verbs `get` and `list`; with
`:get` or `:list` behind it (`configmaps:get`) only that one. `owners` stands for every kind that makes pods,
`targets` for every kind that an Event may be about (`quietpager.objects.table`). Without it: nothing, and no
token."""

SWEEP: Final = "ingest/sweep"
SIGNS: Final = ("rule.yaml", "action.yaml", "handler.py", "diagnose.py", "plan.py", "web.py")
"""What makes a folder a function's: it then needs a func.yaml."""
TYPES: Final[tuple[str, ...]] = get_args(EventType)
"""All messages there are; a Trigger on another one would never fire."""
SAID: Final = tuple(one for one in TYPES if one.startswith("dev.quietpager."))
"""Those of them that functions say; the others are Knative's sources'."""


SECRETS: Final = "quietpager.dev/secrets"
"""Annotation of a func.yaml's `deploy`: environment variables from Secrets that whoever installs may make, as
`VARIABLE=secret/key`, separated by spaces. A Secret that is not there is no error."""

SCRATCH: Final = "quietpager.dev/scratch"
"""Annotation of a func.yaml's `deploy`: the size of a folder /tmp that it may write to. Without it: none."""
PROGRAMS: Final = "quietpager.dev/programs"
"""Annotation of a func.yaml's `deploy`: executables that it calls, by name. Our images have `git`."""
SAYS: Final = "quietpager.dev/says"
"""Annotation of a func.yaml's `deploy`: the types of message that it says, separated by spaces. Without it:
none. Where the Broker authenticates, it takes no other type of this function."""
REACHES: Final = "quietpager.dev/reaches"
"""Annotation of a func.yaml's `deploy`: TCP ports that it reaches outside the cluster, by spaces."""
WEB: Final = "quietpager.dev/web"
"""Annotation of a func.yaml's `deploy`, `"true"`: it serves web pages to people, and takes no messages."""


@dataclass(frozen=True, slots=True)
class FunctionFolder:
    """One function: its Knative name, its place, the filters of its Triggers, and what it needs.

    `writes` is False for a remediator whose action changes nothing in the cluster: it gets no right to.
    """

    name: str
    place: str
    """Where it lies below its root, e.g. `detect/crash`."""
    filters: tuple[dict[str, str], ...]
    reads: tuple[str, ...] = ()
    resources: Json = field(default_factory=dict)
    secrets: tuple[tuple[str, str, str], ...] = ()
    scratch: str = ""
    programs: tuple[str, ...] = ()
    writes: bool = True
    web: bool = False
    says: tuple[str, ...] = ()
    posts: bool = False
    reaches: tuple[int, ...] = ()
    pods: int = 1
    """How many there are at least: func's own `scale.min`."""
    path: Path = Path()
    """Its folder."""

    @property
    def stage(self) -> str:
        """The folder above its own: ingest, detect, analyze, govern, remediate, people or learn."""
        return self.place.partition("/")[0]

    @property
    def module(self) -> str:
        """The package that its code is imported from."""
        return f"{PACKAGE}.{self.place.replace('/', '.')}"

    @property
    def action(self) -> str | None:
        """The action that it carries out, if it is a remediator."""
        stage, _, rest = self.name.partition("-")
        return rest if stage == "remediate" else None


def function_folders(functions: Roots) -> tuple[FunctionFolder, ...]:
    """Find all functions, in path order. It judges nothing, so that `stop` works beside a half-made folder.

    Raises:
        ValueError: a func.yaml cannot be read; the text names it and what to do.
    """
    return tuple(_folder(path, functions) for path in find(functions, SPEC))


def deployable(functions: Roots) -> tuple[FunctionFolder, ...]:
    """Find all functions, and make sure that each of them can be deployed as it is.

    Raises:
        ValueError: one cannot; the text names the file and what to do.
    """
    for sign in SIGNS:
        for path in find(functions, sign):
            if not (path.parent / SPEC).exists():
                raise ValueError(
                    f"{named(path.parent, functions)} has a {sign} but no {SPEC}, so it would never be "
                    f"deployed. Copy the {SPEC} of another function of its stage, and change name, account "
                    "and filters."
                )
    found = function_folders(functions)
    for folder in found:
        if wrong := _wrong(folder):
            raise ValueError(f"{named(folder.path / SPEC, functions)}: {wrong}")
    return tuple(_with_looks(one, functions) if one.place == SWEEP else one for one in found)


def _with_looks(folder: FunctionFolder, functions: Roots) -> FunctionFolder:
    """Let the sweep list the kinds that some rule's `sweep` looks at."""
    kinds = {look.kind for rule in load_rules(functions) for look in rule.sweep}
    wanted = [resource(kind) for kind in listed() if kind in kinds]
    more = [f"{one.api_version.rpartition('/')[0]}/{one.plural}:list".lstrip("/") for one in wanted]
    known = {one.partition(":")[0] for one in folder.reads}
    return replace(
        folder, reads=(*folder.reads, *(one for one in more if one.partition(":")[0] not in known))
    )


def named(path: Path, functions: Roots) -> str:
    """Name a file as a person finds it: from the folder `functions` on; in full where there are several."""
    roots = roots_of(functions)
    return f"functions/{path.relative_to(roots[0]).as_posix()}" if len(roots) == 1 else str(path)


def _wrong(folder: FunctionFolder) -> str | None:
    name = name_of(folder.place)
    if folder.name != name:
        return f"`name` is {folder.name}; after its folder it must be {name}."
    for said in folder.says:
        if said not in SAID:
            return (
                f"it says {said}, which is no message of ours. Name some of {', '.join(SAID)}; a new type "
                "belongs in shared/quietpager/model/message.py first."
            )
    for one in folder.filters:
        if (kind := one.get("type", "")) not in TYPES:
            return (
                f"a subscription wants the type {kind or '(none)'}, which nobody sends. Name one of "
                f"{', '.join(TYPES)}; a new type belongs in shared/quietpager/model/message.py first."
            )
    return None


def _folder(path: Path, functions: Roots) -> FunctionFolder:
    try:
        return _read(path)
    except KeyError as missing:
        raise ValueError(
            f"{named(path, functions)} lacks {missing}: see that of another function of its stage."
        ) from None
    except (TypeError, AttributeError, YAMLError) as wrong:
        raise ValueError(f"{named(path, functions)} is no func.yaml: {wrong}") from wrong


def _read(path: Path) -> FunctionFolder:
    spec = read_yaml(path)
    deploy = spec["deploy"]
    options = deploy.get("options") or {}
    notes = deploy.get("annotations") or {}
    return FunctionFolder(
        name=spec["name"],
        place=place_of(path),
        filters=tuple(
            {k: str(v) for k, v in one["filters"].items()} for one in deploy.get("subscriptions") or []
        ),
        reads=tuple(notes.get(READS, "").split()),
        secrets=tuple(_secret(one) for one in notes.get(SECRETS, "").split()),
        scratch=notes.get(SCRATCH, ""),
        programs=tuple(notes.get(PROGRAMS, "").split()),
        writes=_writes(path.with_name("action.yaml")),
        web=notes.get(WEB) == "true",
        says=tuple(notes.get(SAYS, "").split()),
        posts=notes.get(POSTS) == "true",
        reaches=tuple(int(one) for one in notes.get(REACHES, "").split()),
        resources=options.get("resources") or {},
        pods=(options.get("scale") or {}).get("min") or 1,
        path=path.parent,
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
