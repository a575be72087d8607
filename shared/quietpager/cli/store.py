"""Opens the store for a person's command, and finds out which cluster the person means.

A store can hold several clusters. `QUIETPAGER_CLUSTER` names one. Without it, a person means the only one
that is there. A wrong name is refused: else `stop` would stop a cluster that does not exist, and say so.

Who calls it: every command that reads or writes records. A function does not: its deployment names its
cluster.
"""

import os

from quietpager.cli.exits import CannotBegin
from quietpager.model.store import Store, StoreUnavailable
from quietpager.runtime.connect import open_named
from quietpager.store.of_cluster import require_moved
from quietpager.store.opening import CLUSTER_NAME, of_cluster, open_back_end

_SIGNS = ("HEARTBEAT", "SWITCH")
"""Kinds of records that every cluster has as soon as something runs there, and few of them."""


def open_store() -> Store:
    """Open the part of the store that belongs to the cluster that is meant.

    Raises:
        Retry: no store is named, or the URL is none.
        StoreUnavailable: it cannot be reached, or must be migrated first.
        CannotBegin: the store holds other clusters than the named one, or several and none is named.
    """
    store = open_named(open_back_end)
    try:
        require_moved(store)
        return of_cluster(store, _meant(os.environ.get(CLUSTER_NAME, ""), clusters_in(store)))
    except ValueError as wrong:
        store.close()
        raise CannotBegin(str(wrong)) from wrong
    except (StoreUnavailable, CannotBegin):
        store.close()
        raise


def clusters_in(store: Store) -> list[str]:
    """Name the clusters that a back end has records of."""
    return sorted({record.key.split("#")[1] for kind in _SIGNS for record in store.scan(kind)})


def _meant(named: str, there: list[str]) -> str:
    if named and there and named not in there:
        raise CannotBegin(
            f"The store holds no cluster {named}. It holds: {', '.join(there)}. Correct {CLUSTER_NAME}; a "
            "cluster that was just installed is there as soon as its functions run. Nothing was done."
        )
    if not named and len(there) > 1:
        raise CannotBegin(
            f"The store holds several clusters: {', '.join(there)}. Set {CLUSTER_NAME} to the one that you "
            "mean. Nothing was done."
        )
    return named or "".join(there)
