"""Lets a rule judge one signal, and passes on a signal of another family. Pure but for the reader.

Who calls it: the detectors (`runtime.detecting`, `runtime.rechecking`), replay and scan.
"""

from collections.abc import Callable

from quietpager.model.finding import Healthy, NotMine, Verdict
from quietpager.model.signal import MOST_HOPS, UNKNOWN_FAMILY, Signal
from quietpager.objects.live import Live
from quietpager.objects.table import known
from quietpager.rules.routing import RouteTable

Diagnose = Callable[[Signal, Live], Verdict]


def judge(signal: Signal, live: Live, diagnose: Diagnose) -> Verdict:
    """Let the rule judge, unless the target is gone."""
    if known(signal.target) is not None and live.raw_target is None:
        return Healthy(why=f"{signal.target} is gone, or has another uid by now")
    return diagnose(signal, live)


def forwarded(signal: Signal, verdict: NotMine, routes: RouteTable) -> Signal:
    """Send a signal on to another family, at most two hops, at last to `unknown`."""
    hops = signal.hops + 1
    known = verdict.family in routes.families and hops <= MOST_HOPS
    return signal.but(family=verdict.family if known else UNKNOWN_FAMILY, hops=min(hops, MOST_HOPS))
