"""Label and field selectors, as list and watch take them.

Grammar: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api.
"""

import re
from collections.abc import Callable
from typing import Any, Final

Json = dict[str, Any]
Matches = Callable[[Json], bool]

_SET = re.compile(r"\s*(?P<key>[\w./-]+)\s+(?P<how>in|notin)\s+\((?P<values>[^)]*)\)\s*")
_EQUAL = re.compile(r"\s*(?P<key>[\w./-]+)\s*(?P<how>==|=|!=)\s*(?P<value>[\w.-]*)\s*")
_EXISTS = re.compile(r"\s*(?P<not>!?)\s*(?P<key>[\w./-]+)\s*")
_SPLIT = re.compile(r",(?![^(]*\))")
_FIELDS: Final = re.compile(
    r"metadata\.(name|namespace)|involvedObject\.\w+|spec\.nodeName|status\.phase|reason|type"
)


def labels(selector: str) -> Matches:
    """Understand a label selector; raises ValueError."""
    tests = [_label_test(part) for part in _SPLIT.split(selector)] if selector.strip() else []

    def matches(obj: Json) -> bool:
        found = obj["metadata"].get("labels") or {}
        return all(test(found) for test in tests)

    return matches


def _label_test(part: str) -> Callable[[dict[str, str]], bool]:
    if match := _SET.fullmatch(part):
        key, wanted = match["key"], {value.strip() for value in match["values"].split(",")}
        if match["how"] == "in":
            return lambda found: found.get(key) in wanted
        return lambda found: found.get(key) not in wanted
    if match := _EQUAL.fullmatch(part):
        key, value = match["key"], match["value"]
        if match["how"] == "!=":
            return lambda found: found.get(key) != value
        return lambda found: found.get(key) == value
    if match := _EXISTS.fullmatch(part):
        key, there = match["key"], not match["not"]
        return lambda found: (key in found) is there
    raise ValueError(f"unable to parse requirement: {part!r}")


def fields(selector: str) -> Matches:
    """Understand a field selector; raises ValueError."""
    tests: list[tuple[list[str], str, bool]] = []
    for part in filter(None, selector.split(",")):
        match = re.fullmatch(r"([\w.]+)(==|=|!=)(.*)", part.strip())
        if match is None or not _FIELDS.fullmatch(match[1]):
            raise ValueError(f"field label not supported: {part!r}")
        tests.append((match[1].split("."), match[3], match[2] != "!="))

    def matches(obj: Json) -> bool:
        return all((_field(obj, path) == value) is wanted for path, value, wanted in tests)

    return matches


def _field(obj: Any, path: list[str]) -> str:
    for key in path:
        obj = obj.get(key) if isinstance(obj, dict) else None
    return "" if obj is None else str(obj)
