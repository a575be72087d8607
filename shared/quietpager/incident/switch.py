"""The store's kill switch, as a person sets it: who and when, in the same transaction as the audit.

Every worker reads it in the transaction in which it acts. The API server's half, the write bindings, is
`shared/quietpager/cli/switch.py`'s. Who calls it: that command, and the console, which may stop only.
"""

from datetime import datetime
from typing import Final

from quietpager.incident import records
from quietpager.model.store import ABSENT, Audit, Conflict, Put, Store
from quietpager.model.time import to_text

CHAIN: Final = "switch"
"""The audit chain of stop and resume."""

TRIES: Final = 5


def set_switch(store: Store, *, stopped: bool, by: str, now: datetime) -> str:
    """Set the switch; somebody else's change at the same moment is read anew. Gives the sentence.

    Raises:
        RuntimeError: others were faster, again and again.
    """
    word = "stopped" if stopped else "resumed"
    for _ in range(TRIES):
        before = store.get(records.SWITCH)
        body = {"stopped": stopped, "by": by, "at": to_text(now)}
        version = ABSENT if before is None else before.version
        try:
            store.transact([Put(records.SWITCH, body, version), Audit(CHAIN, now, word, by)])
        except Conflict:
            continue
        return f"Writing is {word} by {by}."
    raise RuntimeError(f"others set it at the same moment, {TRIES} times; look, and try again")
