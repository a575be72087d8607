"""ingest/sweep: lists what is, and finds what never had an Event (an OOM kill, a lost message).

What it looks for is in `runtime.sweeping`. A signal says which pod and which family, nothing of what was
seen: the detector finds that anew. A failure that still stands is said again with each sweep, and the
detector knows what it has told already.
"""

from quietpager.errors import Retry
from quietpager.model.cluster import ClusterUnavailable, Rejected
from quietpager.model.message import Message
from quietpager.runtime.beat import beat, canary, compare_source
from quietpager.runtime.context import Context
from quietpager.runtime.sweeping import find


def handle(_message: Message, ctx: Context) -> list[Message]:
    """Sweep once; the signals found are the answers, and a heartbeat that shows that the broker lives.

    A tick that comes while a sweep is under way in this process finds nothing to do: what a look takes in
    memory it takes once, however many ticks somebody sends.

    Raises:
        Retry: the cluster cannot be read just now.
    """
    if not ctx.lazy.turn.acquire(blocking=False):
        return []
    try:
        return _sweep(ctx)
    finally:
        ctx.lazy.turn.release()


def _sweep(ctx: Context) -> list[Message]:
    try:
        found = [one.to_message() for one in find(ctx.cluster, ctx.routes, ctx.clock())]
    except (ClusterUnavailable, Rejected) as away:
        raise Retry(f"the pods cannot be listed: {away}") from away
    compare_source(ctx)
    beat(ctx, "sweep")
    return [*found, canary(ctx)]
