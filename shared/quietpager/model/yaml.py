"""Reads all YAML that others have written: policies, rules, channels, manifests in Git.

A few lines of YAML can stand for more than any machine holds (an alias to a list of aliases, ten levels
deep), and a tag can name a type of the program that reads it. So a text is first read as a stream of
events, which costs what its length costs, and only what is plain is loaded: no anchors, aliases, merge
keys or types of its own, no key twice, and no more text, depth, nodes or digits than a person's file has.

The C loader is taken where PyYAML has it, for it is ten times faster.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

LARGEST: Final = 1 << 20
"""Characters of one text."""
DEEPEST: Final = 64
"""Levels of lists and maps in one another; a Kubernetes object has some fifteen."""
MOST_NODES: Final = 50_000
"""Keys, values, lists and maps of one text."""
LONGEST_NUMBER: Final = 200
"""Characters of what reads as a number. YAML 1.1 has numbers to the base of sixty, `1:30:00`, and to read a
long one takes time that grows with its square."""

_NUMBER = re.compile(r"[-+]?[0-9][0-9a-fA-FxXoO_:.eE+-]*")
_PLAIN_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")
)

Lines = dict[tuple[str, ...], int]
"""The line, from 1, of every field and item, by its path."""


class NotPlain(ValueError):  # noqa: N818 (what the file is)
    """The text is YAML, but has more in it than plain data; the sentence says what, and on which line."""


def read_yaml(path: Path) -> Any:
    """Read a file of one YAML document.

    Raises:
        yaml.YAMLError: it is no YAML.
        NotPlain: it holds more than plain data.
        OSError: it cannot be read.
    """
    return load_yaml(path.read_text(encoding="utf-8"))


def load_yaml(text: str) -> Any:
    """Load one document; raises as `read_yaml` does."""
    return parse_yaml(text)[0]


def read_with_lines(path: Path) -> tuple[Any, Lines]:
    """Read a file of one YAML document with the lines of its fields; raises as `read_yaml` does."""
    return parse_yaml(path.read_text(encoding="utf-8"))


def line_of(lines: Lines, place: Iterable[str | int]) -> int:
    """Give the line of a field, or of the nearest thing above it that the text has."""
    path = tuple(str(part) for part in place)
    return next((lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines), 1)


def faults(wrong: ValidationError, lines: Lines) -> str:
    """Say what is wrong with a text's content, and on which lines; the first one first."""
    found = [(line_of(lines, one["loc"]), one) for one in wrong.errors()]
    said = (
        f"line {line}: {'.'.join(map(str, one['loc'])) or 'the file'}: "
        f"{str(one['msg']).removeprefix('Value error, ')}"
        for line, one in sorted(found, key=lambda pair: pair[0])
    )
    return "; ".join(said)


def load_documents(text: str) -> list[Any]:
    """Load every document of a text; raises as `read_yaml` does."""
    check_plain(text)
    return list(yaml.load_all(text, Loader=_LOADER))


def parse_yaml(text: str) -> tuple[Any, Lines]:
    """Load one document with the lines of its fields; raises as `read_yaml` does."""
    lines = check_plain(text)
    return yaml.load(text, Loader=_LOADER), lines  # noqa: S506 (a safe loader, either way)


def check_plain(text: str) -> Lines:
    """Read a text without loading it: that it is plain data; gives the lines of its last document.

    Who else calls it: whoever loads a text with another library. Raises `yaml.YAMLError` and `NotPlain`.
    """
    if len(text) > LARGEST:
        raise NotPlain(f"it has {len(text)} characters; at most {LARGEST} are read")
    walk = _Walk()
    for number, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if number > 2 * MOST_NODES:  # a list or a map has two events
            raise NotPlain(f"line {_line(event)}: it has more than {MOST_NODES} values; no more are read")
        walk.take(event)
    return walk.lines


@dataclass(slots=True)
class _Level:
    """A list or a map that is being read: where it is, and the key or place that comes next."""

    path: tuple[str, ...]
    is_map: bool
    key: str | None = None
    count: int = 0


@dataclass(slots=True)
class _Walk:
    """Follows the events of a text."""

    lines: Lines = field(default_factory=dict)
    levels: list[_Level] = field(default_factory=list)

    def take(self, event: Any) -> None:
        """Take the next event."""
        taken = _TAKEN.get(type(event))
        if taken is not None:
            taken(self, event)

    def document(self, _event: Any) -> None:
        """Begin a document."""
        self.lines, self.levels = {}, []

    def alias(self, event: Any) -> None:
        """Refuse."""
        raise NotPlain(
            f"line {_line(event)}: *{event.anchor} is an alias; anchors and aliases are not followed, for "
            "a few lines of them can stand for more than any memory holds"
        )

    def open(self, event: Any) -> None:
        """Begin a list or a map."""
        self._plain(event)
        if len(self.levels) >= DEEPEST:
            raise NotPlain(f"line {_line(event)}: it is more than {DEEPEST} levels deep")
        if self.levels and self.levels[-1].is_map and self.levels[-1].key is None:
            raise NotPlain(
                f"line {_line(event)}: a key is a list or a map; only text can be a key (a template?)"
            )
        path = self._place(event)
        self.levels.append(_Level(path, isinstance(event, yaml.MappingStartEvent)))

    def close(self, _event: Any) -> None:
        """End it."""
        self.levels.pop()

    def scalar(self, event: Any) -> None:
        """Take a key or a single value."""
        self._plain(event)
        unquoted = not event.style  # the C parser says "", the other one None or ""
        if unquoted and len(event.value) > LONGEST_NUMBER and _NUMBER.fullmatch(event.value):
            raise NotPlain(f"line {_line(event)}: a number of {len(event.value)} characters; quote it")
        level = self.levels[-1] if self.levels else None
        if level is None or not level.is_map or level.key is not None:
            self._place(event)
            return
        if unquoted and event.value == "<<":
            raise NotPlain(f"line {_line(event)}: `<<` merges another map in; write its fields out")
        level.key, below = event.value, (*level.path, event.value)
        if below in self.lines:
            name = ".".join(below)
            raise NotPlain(f"line {_line(event)}: {name} is there twice, first on line {self.lines[below]}")
        self.lines[below] = _line(event)

    def _place(self, event: Any) -> tuple[str, ...]:
        """Give the path of a value that begins here, and note its line."""
        if not self.levels:
            path: tuple[str, ...] = ()
        elif self.levels[-1].is_map:
            path, self.levels[-1].key = (*self.levels[-1].path, self.levels[-1].key or ""), None
        else:
            path = (*self.levels[-1].path, str(self.levels[-1].count))
            self.levels[-1].count += 1
        self.lines.setdefault(path, _line(event))
        return path

    def _plain(self, event: Any) -> None:
        if event.anchor is not None:
            raise NotPlain(
                f"line {_line(event)}: &{event.anchor} is an anchor; anchors and aliases are not followed, "
                "so write out what it stands for"
            )
        if event.tag is not None and event.tag not in _PLAIN_TAGS:
            raise NotPlain(f"line {_line(event)}: {event.tag[:80]} names a type; only plain data is read")


_TAKEN: Final[dict[type, Callable[[_Walk, Any], None]]] = {
    yaml.DocumentStartEvent: _Walk.document,
    yaml.AliasEvent: _Walk.alias,
    yaml.MappingStartEvent: _Walk.open,
    yaml.SequenceStartEvent: _Walk.open,
    yaml.MappingEndEvent: _Walk.close,
    yaml.SequenceEndEvent: _Walk.close,
    yaml.ScalarEvent: _Walk.scalar,
}


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
