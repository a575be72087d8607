"""How a record's key names its cluster, and which records are one for the whole store.

    KIND#rest  ──▶  KIND#<cluster>#rest          due item `rest`  ──▶  `<cluster>/rest`

`incident.records` makes the part after the cluster. Who calls it: `store.of_cluster` and `store.rekey`.
"""

import re
from typing import Final

STORE_WIDE: Final = {
    "CHAIN": "the head of an audit chain: the audit is one for the store, and each entry names its cluster",
    "KEYS": "which form the keys have",
    "SESSION": "a person's session: accounts are those of the console, whatever it shows",
    "TRIES": "attempts to sign in, which are counted for all consoles together",
    "LEDGER": "what an action did for a failure class: what helped in one cluster is worth knowing in all",
    "PAST": "what is remembered of a closed incident, for the same reason; its id is unique in the store",
}
"""Kinds whose keys name no cluster, and why."""

OF_CLUSTER: Final = (
    "SWITCH", "INCIDENT", "CAUSE", "FINDING", "REHEARSAL", "INTENT", "APPROVAL", "BREAKER", "TARGET", "SLOT",
    "OPENING", "STORM", "HEARTBEAT", "REFUSED", "AGAIN", "EPISODES", "PURGE", "TELL",
)  # fmt: skip
"""All other kinds."""

FORM: Final = "KEYS#form"
"""Which form the keys have: body {form}. Absent: the form without cluster, or an empty store."""

WITH_CLUSTER: Final = 2

_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")


def cluster_name(name: str) -> str:
    """Give a cluster's name back.

    Raises:
        ValueError: it cannot be part of a key.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name[:80]!r} cannot be a cluster's name: that has 1 to 63 letters, digits, dots or hyphens."
        )
    return name


def in_cluster(key: str, cluster: str) -> str:
    """Put the cluster into a key."""
    kind, cut, rest = key.partition("#")
    return key if kind in STORE_WIDE or not cut else f"{kind}#{cluster}#{rest}"


def without_cluster(key: str, cluster: str) -> str:
    """Take the cluster out of a key again."""
    kind, cut, rest = key.partition("#")
    return key if kind in STORE_WIDE or not cut else f"{kind}#{rest.removeprefix(f'{cluster}#')}"


def due_in_cluster(id_: str, cluster: str) -> str:
    """Put the cluster into a due item's id."""
    return f"{cluster}/{id_}"
