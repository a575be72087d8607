"""Finds the manifest of an object among a repository's files, and edits single fields of it.

Pure but for reading files. Who calls it: `proposing`. A scalar is replaced where it stands, so that not
one other byte moves; what is added, removed or replaced as a whole goes through ruamel.yaml, and only
where that writes the untouched document back as it was. What cannot be edited so is refused, with the
sentence that says why: a template, a field that Git does not have, a value that is another one there.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Final

import yaml

from quietpager.errors import Refused
from quietpager.model.incident import Edit
from quietpager.model.reference import ObjectRef
from quietpager.model.text import clean
from quietpager.model.yaml import NotPlain, check_plain, load_documents, load_yaml

LARGEST_FILE: Final = 1 << 18
"""Bytes of a file that is looked into (256 KiB): ruamel.yaml is written in Python, and slow."""

MOST_TEXT: Final = 1 << 20
"""Bytes of all files that name the object, together (1 MiB), for the same reason: some tens of seconds."""

MOST_FILES: Final = 5000
"""Files that are looked into; a repository with more needs a `path` in the policy."""

_INDENTS: Final = ((2, 2, 0), (2, 4, 2), (4, 4, 0), (4, 6, 4), (4, 4, 2))
"""Ways to indent: mappings, sequences, and the dash within a sequence's."""

_BY_NAME: Final = frozenset({"containers", "initContainers", "env", "volumes"})
"""Lists whose items are known by `name`: in Git they may stand in another order."""

_SEVERAL: Final = "and the repository is for several; give this one an entry of its own in the policy."

Step = str | int | tuple[str]
"""One step into a document: a key, a place in a list, or (in a tuple) the name of a list's item."""


def _ruamel() -> Any:
    """Import it when it is needed first: a function starts in time that a person waits for."""
    import ruamel.yaml  # noqa: PLC0415

    return ruamel.yaml


@dataclass(frozen=True, slots=True)
class Field:
    """One field that changes; None: it is not there."""

    steps: tuple[Step, ...]
    had: Any
    gets: Any

    def __str__(self) -> str:
        """Write the path as a person would."""
        return ".".join(one[0] if isinstance(one, tuple) else str(one) for one in self.steps)


def fields_of(edits: Sequence[Edit], live: Mapping[str, Any]) -> tuple[Field, ...]:
    """Take edits apart into single fields, and name list items as the live object names them."""
    found: list[Field] = []
    for edit in edits:
        at: Any = live
        steps: list[Step] = []
        for part in edit.path.removeprefix("/").split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(at, list):
                item = at[int(key)] if key.isdecimal() and int(key) < len(at) else None
                named = steps and steps[-1] in _BY_NAME and isinstance(item, Mapping) and "name" in item
                steps.append((str(item["name"]),) if named and item is not None else int(key))
                at = item
            else:
                steps.append(key)
                at = at.get(key) if isinstance(at, Mapping) else None
        found += _leaves(tuple(steps), edit.had, edit.gets)
    return tuple(found)


def _leaves(steps: tuple[Step, ...], had: Any, gets: Any) -> Iterator[Field]:
    if had == gets:
        return
    if isinstance(had, Mapping) and isinstance(gets, Mapping):
        for key in dict.fromkeys((*had, *gets)):
            yield from _leaves((*steps, str(key)), had.get(key), gets.get(key))
        return
    if isinstance(had, list) and isinstance(gets, list) and steps[-1] in _BY_NAME:
        before, after = _named(had), _named(gets)
        if before is not None and after is not None and list(before) == list(after):
            for name, item in before.items():
                yield from _leaves((*steps, (name,)), item, after[name])
            return
    yield Field(steps, had, gets)


def _named(items: Sequence[Any]) -> dict[str, Any] | None:
    found = {str(i["name"]): i for i in items if isinstance(i, Mapping) and "name" in i}
    return found if len(found) == len(items) else None


# --- finding -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edited:
    """The one file that changes, relative to the root, and its new text."""

    file: str
    text: str


def edit_tree(
    root: Path, below: str, ref: ObjectRef, fields: Sequence[Field], *, alone: bool = True
) -> Edited:
    """Find the one manifest of an object and edit it; nothing is written.

    A manifest that names the namespace comes before one that leaves it to the tool that applies it. The
    latter counts where the repository, by the policy, is for this namespace `alone`: else it may be that of
    another namespace's object of the same name.

    Raises:
        Refused: there is none, or more than one, or it cannot be edited without a person.
    """
    exact: list[Path] = []
    bare: list[Path] = []
    broken: list[str] = []
    left = MOST_TEXT
    for path in _files(root, root / below):
        text = path.read_text(encoding="utf-8", errors="replace")
        if ref.name not in text or ref.kind not in text:
            continue
        name = path.relative_to(root).as_posix()
        left -= len(text)
        if left < 0:
            raise Refused(f"More than {MOST_TEXT} bytes of YAML name {ref}; name a `path` in the policy.")
        try:
            spaces = [one.namespace for one in _documents(text, ref)]
        except NotPlain as no:
            broken.append(f"{name} names it, but {_not_plain(no)}")
            continue
        except (_ruamel().error.YAMLError, yaml.YAMLError, ValueError, RecursionError):
            broken.append(f"{name} names it, but is no plain YAML (a template?).")
            continue
        if ref.namespace in spaces:
            exact.append(path)
        elif None in spaces and alone:
            bare.append(path)
        elif None in spaces:
            broken.append(f"{name} names it without a namespace, {_SEVERAL}")
    return _choose(root, exact or bare, broken, ref, fields)


def _choose(
    root: Path, paths: Sequence[Path], broken: Sequence[str], ref: ObjectRef, fields: Sequence[Field]
) -> Edited:
    if not paths:
        odd = f" {broken[0]}" if broken else ""
        raise Refused(f"No manifest of {ref} was found in Git.{odd}")
    done: list[Edited] = []
    refusals: list[str] = []
    for path in paths:
        name = path.relative_to(root).as_posix()
        try:
            done.append(Edited(name, edit_text(path.read_text(encoding="utf-8"), ref, fields)))
        except (Refused, UnicodeDecodeError) as no:
            refusals.append(f"{name}: {no}")
    if not done:
        raise Refused(clean(refusals[0], 400))
    if len(done) > 1:
        names = ", ".join(one.file for one in done[:3])
        raise Refused(f"{len(done)} files in Git describe {ref} ({names}); name a `path` in the policy.")
    return done[0]


def _files(root: Path, top: Path) -> Iterator[Path]:
    """Give the YAML files, links left out: a repository must not lead out of itself."""
    seen = 0
    if not top.resolve().is_relative_to(root.resolve()):
        raise Refused("The policy's `path` leads out of the repository.")
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in sorted(names):
            path = Path(folder) / name
            if not name.endswith((".yaml", ".yml")) or path.is_symlink() or not path.is_file():
                continue
            seen += 1
            if seen > MOST_FILES:
                raise Refused(f"The repository has more than {MOST_FILES} YAML files; name a `path`.")
            if path.stat().st_size <= LARGEST_FILE:
                yield path


@dataclass(frozen=True, slots=True)
class _Document:
    """A document of the wanted kind and name. `namespace` None: it names none. `offset`: where it begins."""

    namespace: str | None
    node: Any
    offset: int

    @property
    def place(self) -> tuple[int, int]:
        """Where its content begins and ends in the file."""
        return self.offset + self.node.start_mark.index, self.offset + self.node.end_mark.index


def _documents(text: str, ref: ObjectRef) -> Iterator[_Document]:
    """Find the documents with that kind and name; what names neither is not read."""
    for offset, part in _parts(text):
        if ref.name not in part or ref.kind not in part:
            continue
        check_plain(part)
        for node in _ruamel().YAML().compose_all(part):
            meta = _child(node, "metadata")
            if _plain(_child(node, "kind")) == ref.kind and _plain(_child(meta, "name")) == ref.name:
                yield _Document(_plain(_child(meta, "namespace")), node, offset)


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """Cut a file at its document markers: three dashes that begin a line are nothing else (YAML 1.2, 9.1)."""
    cuts = [
        0,
        *(found.start() for found in re.finditer(r"^---(?=\s|$)", text, re.MULTILINE) if found.start()),
    ]
    for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True):
        yield start, text[start:end]


def _child(node: Any, step: Step) -> Any:
    """Go one step down; None where there is nothing, or where it is not plain what there is."""
    if node is None or not isinstance(node.value, list):
        return None
    if isinstance(step, tuple):
        found = [item for item in node.value if _plain(_child(item, "name")) == step[0]]
    elif isinstance(step, int):
        found = node.value[step : step + 1]
    else:
        pairs = [pair for pair in node.value if isinstance(pair, tuple)]
        found = [value for key, value in pairs if key.value == step]
    return found[0] if len(found) == 1 else None


def _plain(node: Any) -> str | None:
    return node.value if node is not None and isinstance(node.value, str) else None


# --- editing -----------------------------------------------------------------------------------------


def edit_text(text: str, ref: ObjectRef, fields: Sequence[Field]) -> str:
    """Edit the object's fields in a file of one or more documents.

    Raises:
        Refused: a field is not there, has another value, or cannot be changed without a person.
    """
    before = text
    try:
        found = [one for one in _documents(text, ref) if one.namespace in (ref.namespace, None)]
        if len(found) != 1:
            raise Refused(f"it describes {ref} {len(found)} times.")
        [document] = found
        todo = [one for one in fields if not _is_so(document.node, one)]
        if not todo:
            raise Refused("Git has the wanted values already; the live object differs from it.")
        splices, rest = _splices(text, document, todo)
        start, end = document.place
        for at, until, value in sorted(splices, reverse=True):
            text = text[:at] + value + text[until:]
            end += len(value) - (until - at)
        if rest:
            text = text[:start] + _restructured(text[start:end], rest) + text[end:]
        _hold(before, text, ref, todo)
    except NotPlain as no:
        raise Refused(_not_plain(no)) from None
    except (_ruamel().error.YAMLError, yaml.YAMLError, ValueError, RecursionError) as wrong:
        raise Refused(f"it cannot be read as YAML ({type(wrong).__name__}).") from None
    return text


def _not_plain(why: NotPlain) -> str:
    return f"{why}. A person makes this change."


def _node_at(node: Any, steps: Sequence[Step]) -> Any:
    for step in steps:
        node = _child(node, step)
    return node


def _is_so(node: Any, field: Field) -> bool:
    at = _node_at(node, field.steps)
    return at is None if field.gets is None else _same(at, field.gets)


def _same(node: Any, value: Any) -> bool:
    return bool(_value(node) == value)


def _value(node: Any) -> Any:
    """Read a node as a value; None where there is none."""
    if node is None:
        return None
    out = StringIO()
    _ruamel().YAML().serialize(node, out)
    return load_yaml(out.getvalue())


def _splices(
    text: str, document: _Document, fields: Sequence[Field]
) -> tuple[list[tuple[int, int, str]], list[Field]]:
    """Give the places of single values with their new text, and the fields that need more than that."""
    places: list[tuple[int, int, str]] = []
    rest: list[Field] = []
    for field in fields:
        at = _node_at(document.node, field.steps)
        if not _same(at, field.had):
            there = "nothing" if at is None else clean(str(_value(at)), 80)
            raise Refused(f"{field} is {there} in Git and {clean(str(field.had), 80)} in the cluster.")
        simple = isinstance(field.gets, str | int | float | bool) and _plain(at) is not None
        if simple and at.style not in ("|", ">"):
            start, end = document.offset + at.start_mark.index, document.offset + at.end_mark.index
            places.append((start, end, _scalar(field.gets, text[start:end])))
        else:
            rest.append(field)
    return places, rest


def _scalar(value: Any, before: str) -> str:
    """Write a value, quoted as the one it replaces, or as it must be."""
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z0-9/][A-Za-z0-9_./:@+-]*", value) is not None
        if before.startswith("'") and "\n" not in value and value.isprintable():
            return "'" + value.replace("'", "''") + "'"
        if before.startswith('"') or not plain or load_yaml(value) != value:
            return json.dumps(value)
        return value
    return json.dumps(value)


def _restructured(text: str, fields: Sequence[Field]) -> str:
    for mapping, sequence, offset in _INDENTS:
        tool = _ruamel().YAML()
        tool.preserve_quotes = True
        tool.width = 1 << 16
        tool.indent(mapping=mapping, sequence=sequence, offset=offset)
        data = tool.load(text)
        if _dumped(tool, data).rstrip("\n") != text.rstrip("\n"):
            continue
        for field in fields:
            _set(data, field)
        return _dumped(tool, data)
    raise Refused(f"{fields[0]} cannot be changed there without laying out the whole file anew.")


def _dumped(tool: Any, data: Any) -> str:
    out = StringIO()
    tool.dump(data, out)
    return out.getvalue()


def _set(data: Any, field: Field) -> None:
    *way, last = field.steps
    at = data
    for step in way:
        if isinstance(step, str) and isinstance(at, dict) and step not in at:
            at[step] = {}
        at = _item(at, step)
    if isinstance(last, tuple):
        raise Refused(f"{field} is an item of a list.")
    if field.gets is None:
        del at[last]
    else:
        at[last] = deepcopy(field.gets)


def _item(at: Any, step: Step) -> Any:
    if not isinstance(step, tuple):
        return at[step]
    found = [one for one in at if one.get("name") == step[0]]
    if len(found) != 1:
        raise Refused(f"{step[0]} is there {len(found)} times.")
    return found[0]


def _hold(before: str, after: str, ref: ObjectRef, fields: Sequence[Field]) -> None:
    """Read the result once more: what was to change has changed, and nothing else in the file."""
    wanted = load_documents(before)
    for one in wanted:
        meta = one.get("metadata") if isinstance(one, dict) else None
        if isinstance(meta, dict) and one.get("kind") == ref.kind and meta.get("name") == ref.name:
            for field in fields if meta.get("namespace") in (ref.namespace, None) else ():
                _set(one, field)
    if load_documents(after) != wanted:
        raise Refused(f"{fields[0]} cannot be changed there without changing more.")
