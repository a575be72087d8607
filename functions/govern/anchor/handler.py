"""govern/anchor: keeps the heads of all audit chains where the store's writers cannot reach.

It stands with decide and clock, because it governs the record of what they did; it learns nothing, needs
no rule, and touches no cluster. Where no place is named, the anchors are lines of its standard output, which
the cluster's logs keep.
"""

import os
from collections.abc import Callable
from pathlib import Path

import structlog

from quietpager.errors import BadMessage, Retry
from quietpager.model.message import PING, Message
from quietpager.runtime.context import Context
from quietpager.store.anchor import Anchor, AnchorUnavailable, Snapshot, heads_of, retreats
from quietpager.store.anchors import PLACE, open_anchor

log = structlog.get_logger()


def handle(message: Message, ctx: Context) -> list[Message]:
    """Anchor once. A tick that comes twice, or finds nothing new, writes nothing.

    Raises:
        BadMessage: it is no tick.
        Retry: the place cannot be read or written, or a head is damaged; the text says which.
    """
    if message.type != PING:
        raise BadMessage(f"anchor wakes by a tick, not by {message.type[:100]}.")
    place = os.environ.get(PLACE)
    try:
        now = Snapshot.of(heads_of(ctx.store), ctx.clock())
        kept = _keep(open_anchor(Path(place)) if place else ctx.lazy.log_anchor, now, log.error)
    except (AnchorUnavailable, ValueError) as no:
        raise Retry(f"The audit was not anchored: {no}") from no
    log.info("anchor", root=now.root, chains=now.chains, kept=kept, place=place or "standard output")
    return []


def _keep(to: Anchor, now: Snapshot, cry: Callable[..., object]) -> bool:
    """Keep it, also where chains have shrunk: the anchors before it stay, and tell what there was."""
    for sentence in retreats(to.newest(), now):
        cry("the audit was tampered with", what=sentence, do="quietpager audit verify --anchor")
    return to.keep(now)
