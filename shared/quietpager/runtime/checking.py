"""What the files of all function folders must hold together: classes, facts, actions and parameters.

Each file is checked for itself where it is read (`rules.schema`, `actions.schema`). This compares them: what
a rule names has to be there. In a pod rules lie without the code of their detectors; what only code can tell
is then not asked, for rendering has asked it.

Who calls it: rendering, the local host, `scan` and `replay`, and `runtime.loading` when a function starts.
"""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from quietpager.actions.schema import ACTION, Action, read_action
from quietpager.errors import Refused
from quietpager.model.folders import Roots, find, place_of
from quietpager.model.yaml import Lines, line_of
from quietpager.objects.revision import FACTS
from quietpager.objects.table import KINDS, owner_kinds
from quietpager.rules.looking import listed
from quietpager.rules.schema import RULE, Candidate, Rule, read_rule

WORKLOADS: Final = frozenset(kind.name for kind in owner_kinds()) | {"Pod"}
"""Kinds whose owner is a workload: what is wrong with one of them is put right on one of them."""
CLASS: Final = "failure_class"
"""The argument of a Diagnosis that names a class."""

Place = tuple[str | int, ...]
Fault = tuple[Place, str]
"""Where in a file something is wrong, and the sentence."""


def check(functions: Roots) -> None:
    """Hold all rules and actions against one another.

    Raises:
        ValueError: something that a file names is not there, or does not fit; one sentence for each fault,
            with file and line.
    """
    actions: dict[str, Action] = {}
    said: list[str] = []
    for path in find(functions, ACTION):
        action, lines = read_action(path)
        said += _sentences(path, lines, _faults_of_action(action, path))
        actions[action.name] = action
    for path in find(functions, RULE):
        rule, lines = read_rule(path)
        said += _sentences(path, lines, _faults_of_rule(rule, path, actions))
    if said:
        raise ValueError("\n".join(said))


def _sentences(path: Path, lines: Lines, faults: Iterator[Fault]) -> list[str]:
    return [f"{path}, line {line_of(lines, place)}: {sentence}" for place, sentence in faults]


def _faults_of_action(action: Action, path: Path) -> Iterator[Fault]:
    if action.name != (wanted := _named_after(path)):
        yield ("name",), f"`name` is {action.name}; after its folder it must be {wanted}."
    for number, kind in enumerate(action.applies_to):
        if kind not in KINDS:
            yield ("applies_to", number), f"{kind} is no kind that an action can be for{_near(kind, KINDS)}"


def _faults_of_rule(rule: Rule, path: Path, actions: Mapping[str, Action]) -> Iterator[Fault]:
    if rule.family != (wanted := _named_after(path)):
        yield ("family",), f"`family` is {rule.family}; after its folder it must be {wanted}."
    for number, look in enumerate(rule.sweep):
        if look.kind not in listed():
            near = _near(look.kind, frozenset(listed()))
            sentence = f"the sweep looks at {', '.join(listed())}, and not at {look.kind}{near}"
            yield ("sweep", number, "kind"), sentence
    said, classes = _code(path.parent)
    for name, known in rule.classes.items():
        place: Place = ("classes", name)
        if said and path.with_name("diagnose.py").exists() and name not in said:
            yield place, f"no code beside it finds the class {name}{_near(name, classes)}"
        for number, candidate in enumerate(known.remedies):
            here = (*place, "remedies", number)
            yield from _faults_of_remedy(rule, name, candidate, here, actions)
            for index, fact in enumerate(candidate.when):
                if said and fact not in FACTS | said:
                    words = f"it is none of {', '.join(sorted(FACTS))}, and no code beside the rule names it"
                    sentence = f"nothing finds the fact {fact}: {words}{_near(fact, FACTS | said)}"
                    yield (*here, "when", index), sentence
    for name in sorted(classes - rule.classes.keys()):
        yield ("classes",), f"the code beside it finds the class {name}, which `classes` does not have."


def _faults_of_remedy(
    rule: Rule, name: str, candidate: Candidate, here: Place, actions: Mapping[str, Action]
) -> Iterator[Fault]:
    if not actions:
        return  # a build of func has the one rule and no action
    action = actions.get(candidate.action)
    if action is None:
        near = _near(candidate.action, actions)
        yield (*here, "action"), f"class {name} names the action {candidate.action}, which there is not{near}"
        return
    try:
        action.check_params(candidate.params)
    except Refused as no:
        wrong = next((one for one in candidate.params if one in str(no)), None)
        yield (*here, "action") if wrong is None else (*here, "params", wrong), f"class {name}: {no}"
    owners = owners_of(rule)
    if owners and not owners & {*action.applies_to}:
        sentence = (
            f"class {name}: {action.name} is for {', '.join(action.applies_to)}, and what this rule finds "
            f"belongs to {', '.join(sorted(owners))}."
        )
        yield (*here, "action"), sentence


def owners_of(rule: Rule) -> frozenset[str]:
    """Name the kinds of owners that a rule's findings can have; empty: any."""
    kinds = {route.kind for route in rule.routes} | {look.kind for look in rule.sweep}
    if kinds and kinds <= WORKLOADS:
        return WORKLOADS
    return frozenset({"Node"}) if kinds == {"Node"} else frozenset()


def _named_after(path: Path) -> str:
    return place_of(path).rpartition("/")[2].replace("_", "-")


def _near(name: str, known: Mapping[str, object] | frozenset[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f". Did you mean {near[0]}?" if near else "."


def _code(folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Give the texts that a folder's code says, and the classes that it names where it makes a Diagnosis."""
    files = [one for one in sorted(folder.glob("*.py")) if not one.name.startswith(("test_", "__init__"))]
    if not files:
        return frozenset(), frozenset()
    import ast  # noqa: PLC0415 (only where code lies beside the rule)

    texts: set[str] = set()
    classes: set[str] = set()
    for path in files:
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except SyntaxError as wrong:
            raise ValueError(f"{path}, line {wrong.lineno}: this is no Python: {wrong.msg}") from wrong
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
            if isinstance(node, ast.keyword) and node.arg == CLASS and isinstance(node.value, ast.Constant):
                classes.add(str(node.value.value))
    return frozenset(texts), frozenset(classes)
