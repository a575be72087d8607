"""The rules, routes, actions, detectors and planners of the functions folder, and a verdict on one signal.

Who calls it: `quietpager replay` and `quietpager scan`, which run the functions' own pure code without
the functions around it.
"""

from datetime import datetime
from functools import cache

import click

from quietpager.actions.plan import Planner
from quietpager.actions.schema import Action, load_actions
from quietpager.model.cluster import Reader
from quietpager.model.finding import NotMine, Verdict
from quietpager.model.signal import UNKNOWN_FAMILY, Signal
from quietpager.objects.live import Live
from quietpager.rules.judging import Diagnose, forwarded, judge
from quietpager.rules.routing import RouteTable, render_routes
from quietpager.rules.schema import Rule, load_rules
from quietpager.runtime import loading
from quietpager.runtime.checking import check
from quietpager.runtime.context import function_roots


class FoldersAreWrong(click.ClickException):
    """A rule or an action cannot be used; nothing is looked at before it is mended."""

    exit_code = 2


@cache
def rules() -> tuple[Rule, ...]:
    """Read every rule, and hold all of them against the actions and the code that they name.

    Raises:
        FoldersAreWrong: one is wrong; each command then ends with the sentence.
    """
    try:
        check(function_roots())
        return load_rules(function_roots())
    except ValueError as wrong:
        raise FoldersAreWrong(str(wrong)) from wrong


def rule(family: str) -> Rule:
    """Find the rule of a family."""
    return next(one for one in rules() if one.family == family)


@cache
def routes() -> RouteTable:
    """Render the route table."""
    return render_routes(rules())


@cache
def actions() -> dict[str, Action]:
    """Read every action."""
    return load_actions(function_roots())


@cache
def detector(family: str) -> Diagnose | None:
    """Find a family's `diagnose`; None for a family that has none."""
    return loading.diagnose(f"detect/{family.replace('-', '_')}")


@cache
def planner(action: str) -> Planner | None:
    """Find an action's `plan`; None for an action that has none."""
    return loading.plan(f"remediate/{action.replace('-', '_')}")


def verdict_on(signal: Signal, reader: Reader, now: datetime) -> tuple[Signal, Verdict | None]:
    """Let the family judge, as of `now`.

    "Not mine" goes on, at most two hops, at last to `unknown`: no verdict.
    """
    while True:
        diagnose = detector(signal.family)
        if diagnose is None:
            return signal.but(family=UNKNOWN_FAMILY), None
        verdict = judge(signal, Live(reader, signal.target, now=now, told=signal.event), diagnose)
        if not isinstance(verdict, NotMine):
            return signal, verdict
        signal = forwarded(signal, verdict, routes())
