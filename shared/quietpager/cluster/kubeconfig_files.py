"""Reads kubeconfig files as kubectl does: which files count, how they are merged, which entries are meant.

Who calls it: `client.connect`, for whoever names a kubeconfig. Nothing is connected here.

The official Python client's loader is not used. Of several files its last `current-context` counts and not
the first; a user that does not exist, a plugin that fails and the text "false" for
`insecure-skip-tls-verify` all lead to a call that the person did not ask for. What kubectl does is in
client-go, `tools/clientcmd` (loader.go, validation.go); `tests/contract/test_kubectl_parity.py` compares.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from quietpager.model.cluster import ClusterUnavailable
from quietpager.model.yaml import NotPlain, read_yaml

Entry = Mapping[str, Any]

_LISTS: Final = {"clusters": "cluster", "contexts": "context", "users": "user"}


@dataclass(frozen=True, slots=True)
class Part:
    """One cluster or user entry, and the folder of its file, which its relative paths start from."""

    name: str
    fields: Entry
    folder: Path

    def text(self, key: str) -> str:
        """Give a text field; empty where it is not set.

        Raises:
            ClusterUnavailable: it holds something else than text.
        """
        value = self.fields.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise ClusterUnavailable(f"{key} of {self.name} is not text; put it in quotes")
        return value

    def flag(self, key: str) -> bool:
        """Give a field that is true or false; false where it is not set.

        Raises:
            ClusterUnavailable: it holds something else, such as "false" in quotes.
        """
        value = self.fields.get(key)
        if value is not None and not isinstance(value, bool):
            raise ClusterUnavailable(f"{key} of {self.name} must be true or false, without quotes")
        return bool(value)

    def path(self, key: str) -> Path | None:
        """Give the path that a field names, from the kubeconfig's folder on; None where it is not set."""
        named = self.text(key)
        return self.folder / named if named else None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The two entries that a context names."""

    cluster: Part
    user: Part | None
    """None: the context names no user."""


def choose(kubeconfig: str | os.PathLike[str], context: str | None) -> Chosen:
    """Read one file, or several with the path separator between them, and find what the context names.

    Of several files the first that sets something counts, and one that does not exist is passed over
    (client-go, `ClientConfigLoadingRules.Load`).

    Raises:
        ClusterUnavailable: there is no such file, it is none, or a name in it leads nowhere.
    """
    paths = [Path(one).expanduser() for one in os.fspath(kubeconfig).split(os.pathsep) if one]
    there = [path for path in paths if path.exists()]
    if not there:
        names = ", ".join(map(str, paths)) or "the empty name"
        raise ClusterUnavailable(f"the kubeconfig {names} cannot be used: there is no such file")
    merged: dict[str, dict[str, Part]] = {kind: {} for kind in _LISTS}
    current = ""
    for path in there:
        found = _read(path)
        current = current or Part(str(path), found, path.parent).text("current-context")
        for kind in _LISTS:
            merged[kind] = _entries(path, found, kind) | merged[kind]
    wanted = context or current
    if not wanted:
        raise ClusterUnavailable(
            "the kubeconfig has no current-context; name one of its contexts with --context"
        )
    if wanted not in merged["contexts"]:
        known = ", ".join(sorted(merged["contexts"])[:10]) or "none"
        raise ClusterUnavailable(f"the kubeconfig has no context {wanted}; it has: {known}")
    meant = merged["contexts"][wanted]
    cluster, user = meant.text("cluster"), meant.text("user")
    if cluster not in merged["clusters"]:
        raise ClusterUnavailable(f"the context {wanted} names the cluster {cluster!r}, which is not there")
    if user and user not in merged["users"]:
        raise ClusterUnavailable(f"the context {wanted} names the user {user!r}, which is not there")
    return Chosen(merged["clusters"][cluster], merged["users"][user] if user else None)


def _read(path: Path) -> Entry:
    try:
        found = read_yaml(path)
    except (OSError, UnicodeDecodeError) as no:
        why = getattr(no, "strerror", None) or "it is not text"
        raise ClusterUnavailable(f"the kubeconfig {path} cannot be read: {why}") from no
    except NotPlain as no:
        raise ClusterUnavailable(f"the kubeconfig {path} cannot be used: {no}") from no
    except yaml.YAMLError as no:
        raise ClusterUnavailable(f"{path} is no kubeconfig: it is not YAML") from no
    if found is None:
        return {}  # an empty file among several says nothing, and is no fault
    if not isinstance(found, dict):
        raise ClusterUnavailable(f"{path} is no kubeconfig: it holds no fields")
    return found


def _entries(path: Path, found: Entry, kind: str) -> dict[str, Part]:
    """Give a file's entries of one kind by name."""
    listed, parts = found.get(kind) or [], dict[str, Part]()
    if not isinstance(listed, list):
        raise ClusterUnavailable(f"{path} is no kubeconfig: its {kind} are no list")
    for one in listed:
        fields = one.get(_LISTS[kind]) if isinstance(one, dict) else None
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str) or not isinstance(fields, dict | None):
            raise ClusterUnavailable(
                f"{path} is no kubeconfig: an entry of its {kind} has no name, or no fields"
            )
        if name in parts:
            raise ClusterUnavailable(f"the kubeconfig {path} has two {kind} with the name {name}")
        parts[name] = Part(f"the {_LISTS[kind]} {name}", fields or {}, path.absolute().parent)
    return parts
