"""What of a plan may be kept and shown: values where they cannot be secrets, else a name and a digest.

No action writes variables, arguments or commands, so nobody needs their values: they are not in records,
audit, chat, page or proposals. Who calls it: `rehearse`, on every plan, and `rollout-undo` for its sentence.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from quietpager.change.marks import escaped
from quietpager.model.incident import Edit
from quietpager.model.text import clean

_PLAIN: Final = re.compile(
    r"/spec/(replicas|template/spec/(initContainers|containers)/[0-9]+/"
    r"(image|resources(/.*)?|(liveness|readiness|startup)Probe(/.*)?))"
)
"""Fields whose values are kept."""
_NEVER: Final = frozenset({"exec", "httpHeaders", "command", "args", "env"})
"""What hides a value wherever in it, or on the way to it, one of these stands."""


def kept(edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """Give the edits as they may be stored and shown; a list of variables becomes an edit for each."""
    return tuple(one for edit in edits for one in _kept(edit))


def _kept(edit: Edit) -> Iterator[Edit]:
    parts = edit.path.split("/")
    plain = _PLAIN.fullmatch(edit.path) is not None and not _NEVER & {*parts}
    if edit.hidden or (plain and not _secretive(edit.had) and not _secretive(edit.gets)):
        yield edit
        return
    before, after = _named(edit.had), _named(edit.gets)
    names = [] if parts[-1] != "env" else [n for n in {**before, **after} if before.get(n) != after.get(n)]
    for name in names:
        yield _hidden(f"{edit.path}/{escaped(clean(name, 200))}", before.get(name), after.get(name))
    if not names:
        yield _hidden(edit.path, edit.had, edit.gets)


def _secretive(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(_NEVER & {*value}) or any(map(_secretive, value.values()))
    return isinstance(value, list) and any(map(_secretive, value))


def _named(items: Any) -> dict[str, Any]:
    found = [one for one in items or () if isinstance(one, Mapping)] if isinstance(items, list | None) else []
    return {str(one.get("name")): one for one in found}


def _hidden(path: str, had: Any, gets: Any) -> Edit:
    return Edit(path=path, had=digest_of(had), gets=digest_of(gets), hidden=True)


def digest_of(value: Any) -> str | None:
    """Give the digest of a value; of a literal variable that of its text.

    So a person can compare it: `printf %s "$VALUE" | sha256sum | cut -c1-12`.
    """
    if value is None:
        return None
    if isinstance(value, Mapping) and value.keys() <= {"name", "value"} and "name" in value:
        value = value.get("value", "")
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"sha256:{sha256(text.encode()).hexdigest()[:12]}"


def sentence_of(edits: Sequence[Edit]) -> str:
    """Say in one line what changes: `image shop:2 -> shop:1, env.TOKEN sha256:… -> sha256:…`."""
    return ", ".join(f"{_short(one.path)} {_text(one.had)} -> {_text(one.gets)}" for one in kept(edits))


def _short(path: str) -> str:
    tail = re.sub(r"^/spec/(template/(spec/(containers/[0-9]+/)?)?)?", "", path)
    return tail.replace("/", ".").replace("~1", "/").replace("~0", "~")


def _text(value: Any) -> str:
    if value is None:
        return "(not set)"
    return clean(value if isinstance(value, str) else json.dumps(value, sort_keys=True), 200)
