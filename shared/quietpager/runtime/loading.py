"""Makes a function from its folder: the one place where function code is imported.

    functions/detect/crash/       diagnose.py            a detector: `runtime.detecting` round `diagnose`
    functions/remediate/evict/    plan.py                a remediator: `runtime.remediating` round `plan`
    functions/ingest/intake/      handler.py             a handler of its own: `handle`
    functions/people/console/     web.py                 web pages: `new` makes what the host serves

The code has one import name wherever it lies, `quietpager.functions.<stage>.<name>` (docs/adr/0008): in a
checkout, a wheel, an image, a build of Knative's func, and in a folder of a user's own that
`QUIETPAGER_FUNCTIONS` names.

Who calls it: an image's entry, the entry of func's build, the local host, the command line, tests.
"""

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, Protocol

from quietpager.actions.schema import ACTION, load_action
from quietpager.model.folders import find
from quietpager.model.message import Message
from quietpager.model.yaml import read_yaml
from quietpager.rules.schema import RULE, load_rule
from quietpager.runtime.body import Receive
from quietpager.runtime.checking import check
from quietpager.runtime.connect import function
from quietpager.runtime.context import Context, Handler, function_roots, functions_folder
from quietpager.runtime.edge import Scope, Send
from quietpager.runtime.serving import keep_connections

if TYPE_CHECKING:  # only some functions need them when they run, and each module costs a cold start
    from quietpager.actions.plan import Planner
    from quietpager.rules.judging import Diagnose

PACKAGE: Final = "quietpager.functions"
SPEC: Final = "func.yaml"
"""The file that makes a folder a function."""
POSTS: Final = "quietpager.dev/posts"
"""Annotation of a func.yaml's `deploy`, `"true"`: all that it says is posted to the Broker, and it replies
with nothing. The others need no way there."""


class Served(Protocol):
    """What func-python's host serves."""

    def start(self, env: Mapping[str, str]) -> None:
        """Begin; called once before it serves."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""

    def stop(self) -> None:
        """End; called once."""


def new(place: str) -> Served:
    """Make the function of a place, e.g. `detect/crash`; store and cluster come from the environment.

    Raises:
        ValueError: there is no such function, its folder lacks something, or a rule or action is wrong; the
            text says what.
    """
    keep_connections()
    check(function_roots())
    web = code(place, "web")
    if web is not None:
        made: Served = web.new()
        return made
    return function(name_of(place), handler(place), posts=_posts(place))


def handler(place: str) -> Handler:
    """Give what handles a function's messages: its own `handle`, or the shared code round its pure one.

    Raises:
        ValueError: its folder has neither; the text says what it may have.
    """
    own = code(place, "handler")
    if own is not None:
        found: Handler = own.handle
        return found
    if (judges := diagnose(place)) is not None:
        return _detector(family_of(place), judges)
    if (plans := plan(place)) is not None:
        return _remediator(place, plans)
    raise ValueError(
        f"functions/{place} has no code that can be loaded: a detector has diagnose.py, an action has "
        "plan.py, web pages have web.py, and any other function has handler.py."
    )


def diagnose(place: str) -> "Diagnose | None":
    """Give a detector's `diagnose`; None where the folder has none."""
    module = code(place, "diagnose")
    found: Diagnose | None = None if module is None else module.diagnose
    return found


def plan(place: str) -> "Planner | None":
    """Give an action's `plan`; None where the folder has none."""
    module = code(place, "plan")
    found: Planner | None = None if module is None else module.plan
    return found


def name_of(place: str) -> str:
    """Give the Knative name of a place: `detect/out_of_disk` is `detect-out-of-disk`."""
    return place.replace("/", "-").replace("_", "-")


def family_of(place: str) -> str:
    """Read which family a detector judges."""
    return load_rule(_file(place, RULE)).family


def code(place: str, name: str) -> ModuleType | None:
    """Import one module of a function's folder; None where the folder has no such module.

    Raises:
        ValueError: the place is none, or this process has loaded another folder under the same name.
        ImportError: it is there and cannot be imported.
    """
    stage, _, folder = place.partition("/")
    if not (stage.isidentifier() and folder.isidentifier()):
        raise ValueError(f"{place!r} is no function; a place is STAGE/NAME, e.g. detect/crash.")
    _see_all_roots(stage)
    full = f"{PACKAGE}.{stage}.{folder}.{name}"
    try:
        spec = importlib.util.find_spec(full)
    except ModuleNotFoundError as missing:
        if missing.name is None or not full.startswith(missing.name):
            raise
        return None
    if spec is None:
        return None
    module = importlib.import_module(full)
    wanted = find(function_roots(), f"{name}.py", place)
    if wanted and module.__file__ is not None and not wanted[0].samefile(module.__file__):
        raise ValueError(
            f"{wanted[0]} cannot be loaded: this process has loaded {module.__file__} under the same name. "
            "Start it anew with the QUIETPAGER_FUNCTIONS that is wanted."
        )
    return module


def _see_all_roots(stage: str) -> None:
    """Let the package of a stage find its functions below every root; the product's own come last."""
    roots = dict.fromkeys([*function_roots(), functions_folder()])
    package = importlib.import_module(PACKAGE)
    package.__path__ = [str(root) for root in roots]
    try:
        inner = importlib.import_module(f"{PACKAGE}.{stage}")
    except ModuleNotFoundError:
        return
    inner.__path__ = [str(root / stage) for root in roots if (root / stage).is_dir()]


def _detector(family: str, judges: "Diagnose") -> Handler:
    from quietpager.runtime.detecting import detect  # noqa: PLC0415 (costs a remediator's start otherwise)

    def handle(message: Message, ctx: Context) -> list[Message]:
        return detect(message, ctx, family, judges)

    return handle


def _remediator(place: str, plans: "Planner") -> Handler:
    from quietpager.runtime.remediating import remediate  # noqa: PLC0415 (the same)

    action = load_action(_file(place, ACTION)).name

    def handle(message: Message, ctx: Context) -> list[Message]:
        return remediate(message, ctx, action, plans)

    return handle


def _posts(place: str) -> bool:
    """Read whether a function posts all that it says."""
    notes = read_yaml(_file(place, SPEC))["deploy"].get("annotations") or {}
    return bool(notes.get(POSTS) == "true")


def _file(place: str, name: str) -> Path:
    """Find a file of a function: below the roots, or beside the product's own code.

    In a pod the roots hold what is mounted, rules and actions; a func.yaml stays in the image.
    """
    for roots in (function_roots(), (functions_folder(),)):
        if found := find(roots, name, place):
            return found[0]
    raise ValueError(f"functions/{place} has no {name}.")
