"""`quietpager rule new` and `quietpager action new`: a folder with a first case and a test that fails.

The test says what to write. Everything else, a route, func.yaml, a runbook, is complete, so that the product
loads, renders and replays the folder at once.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import Any, Final, Literal

import click
import yaml

from quietpager.cluster.recorded import case_event
from quietpager.model.yaml import read_yaml
from quietpager.runtime.context import BUILT_IN, FUNCTIONS, function_roots, functions_folder

Sort = Literal["rule", "action"]

SKELETONS: Final = Path(__file__).with_name("skeletons")
EXPECTED: Final = "expected.yaml"
STAGES: Final[dict[Sort, str]] = {"rule": "detect", "action": "remediate"}
EXAMPLES: Final[dict[Sort, str]] = {
    "rule": "detect/crash/cases/03-crashloop",
    "action": "detect/crash/cases/30-oom-bounded",
}
"""Where the first case comes from if none is given."""
NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST: Final = 40
"""Characters of a name: with its stage it is a Kubernetes name of at most 63."""


def new(sort: Sort, name: str, into: Path | None, case: Path | None, say: Callable[[str], None]) -> None:
    """Write the folder, and say what to do next.

    Raises:
        ClickException: the name is none, its folder is there already, or the case is none.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise click.ClickException(
            f"{name!r} is no name for {'a rule' if sort == 'rule' else 'an action'}: use at most {LONGEST} "
            "small letters and digits, and single dashes between words, such as out-of-disk."
        )
    root, module = _root(into), name.replace("-", "_")
    folder = root / STAGES[sort] / module
    if folder.exists() or any((one / STAGES[sort] / module).exists() for one in function_roots()):
        raise click.ClickException(
            f"There is a function {STAGES[sort]}/{module} already. Choose another name, or edit that folder."
        )
    first = case or functions_folder() / EXAMPLES[sort]
    event = case_event(first)
    if not isinstance(event, dict):
        raise click.ClickException(
            f"{first} is no recorded case: a case is a folder with event.json and objects/."
        )
    words = _words(name, module, event, case)
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    for path in sorted((SKELETONS / sort).iterdir()):
        text = Template(path.read_text(encoding="utf-8")).substitute(words)
        wanted = path.name.removesuffix(".txt").replace("test.py", f"test_{module}.py")
        (folder / wanted).write_text(text, encoding="utf-8")
    _first_case(first, folder / "cases" / first.name, sort, words)
    for line in _next(sort, folder, root):
        say(line)


def _root(into: Path | None) -> Path:
    """Find where the folder goes: where the person says, else the `functions` of the checkout they are in."""
    if into is not None:
        return into.absolute()
    here = Path.cwd() / "functions"
    if not (here / "detect").is_dir():
        raise click.ClickException(
            "There is no folder functions/detect here. Go to the top of a checkout, or name a folder of your "
            "own with --into."
        )
    return here


def _words(name: str, module: str, event: dict[str, Any], case: Path | None) -> dict[str, str]:
    """Give what the skeleton's files say: what a given case says, else a class and a reason of its own."""
    expected = {} if case is None or not (case / EXPECTED).exists() else read_yaml(case / EXPECTED)
    camel = "".join(part.capitalize() for part in name.split("-"))
    target = event.get("involvedObject") or event.get("regarding") or {}
    return {
        "name": name,
        "dashed": name,
        "module": module,
        "class": str((expected or {}).get("failure_class") or f"{module}_failing"),
        "kind": str(target.get("kind") or "Pod"),
        "reason": f"{camel}Failing" if case is None else str(event.get("reason") or f"{camel}Failing"),
        "type": "Normal" if event.get("type") == "Normal" else "Warning",
    }


def _first_case(source: Path, into: Path, sort: Sort, words: dict[str, str]) -> None:
    shutil.copytree(source, into)
    event = json.loads((into / "event.json").read_text(encoding="utf-8"))
    if sort == "rule" and event.get("reason") != words["reason"]:
        (into / "event.json").write_text(
            json.dumps(event | {"reason": words["reason"]}, indent=1) + "\n", encoding="utf-8"
        )
        (into / EXPECTED).unlink(missing_ok=True)
    if sort == "rule" and not (into / EXPECTED).exists():
        expected = {
            "failure_class": words["class"], "acceptable_classes": [words["class"]], "may_help": [],
            "forbidden": [], "must_act": [],
        }  # fmt: skip
        (into / EXPECTED).write_text(yaml.safe_dump(expected, sort_keys=False), encoding="utf-8")


def _next(sort: Sort, folder: Path, root: Path) -> list[str]:
    """Say what to do next, in the order in which it is done."""
    code = "diagnose.py" if sort == "rule" else "plan.py"
    steps = [f"Wrote {folder}."]
    if root.resolve() not in {one.resolve() for one in function_roots()}:
        steps.append(f"It counts with: export {FUNCTIONS}={BUILT_IN}:{root}")
    steps.append(f"Next: pytest {folder} says what {code} has to find; then `quietpager replay` its cases.")
    return steps
