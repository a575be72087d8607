"""Is anything wrong with the target of a signal that no family knows?

For replay, until `analyze/unknown` judges it. It errs towards "something is wrong".
"""

from pydantic import ValidationError

from quietpager.cluster.port import Reader
from quietpager.model.signal import Signal
from quietpager.rules.health import health_of
from quietpager.rules.live import READABLE, Live


def unwell(signal: Signal, reader: Reader) -> str | None:
    """Say what is wrong with the target or its owner; None where it is well, or gone."""
    kind = signal.target.kind
    if kind not in READABLE:
        return f"{signal.reason or 'an Event'} about {signal.target}, which nothing here can judge"
    live = Live(reader, signal.target)
    try:
        return _judged(live, kind)
    except ValidationError:
        return f"{signal.target} cannot be read"


def _judged(live: Live, kind: str) -> str | None:
    if live.raw_target is None:
        return None
    if kind == "Node":
        return None if live.node is not None and live.node.ready else "the node is not ready"
    if kind == "Namespace":
        return "a namespace cannot be judged here"
    health = health_of(live, None)
    return None if health.healthy else health.why
