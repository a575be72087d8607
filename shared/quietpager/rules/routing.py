"""The route table: which family a signal goes to. Rendered from all rules, pure, total."""

from itertools import combinations
from pathlib import Path

from yaml import YAMLError

from quietpager.model.data import Data
from quietpager.model.event import Event
from quietpager.model.signal import UNKNOWN_FAMILY, Origin
from quietpager.model.yaml import read_yaml
from quietpager.rules import patterns
from quietpager.rules.looking import Look
from quietpager.rules.schema import Route, Rule


class Observation(Data):
    """What a route may look at. It exists where an Event, or a status, is at hand, and is never sent on."""

    kind: str
    reason: str
    component: str = ""
    type: str = "Warning"
    message: str = ""
    origin: Origin = "event"

    @classmethod
    def of(cls, event: Event) -> "Observation":
        """Take from an Event what routes look at."""
        return cls(
            kind=event.target.kind, reason=event.reason, component=event.component, type=event.type,
            message=event.message,
        )  # fmt: skip


class TableRow(Data):
    """One route with the family it leads to; no family means benign: drop it."""

    route: Route
    family: str | None


class LookRow(Data):
    """One thing that the sweep looks for, with the family that judges it."""

    look: Look
    family: str


class RouteTable(Data):
    """All routes, highest priority first, and all that the sweep looks for."""

    rows: tuple[TableRow, ...]
    looks: tuple[LookRow, ...] = ()
    families: frozenset[str]

    def family_of(self, seen: Observation) -> str | None:
        """Tell the family, `unknown` for a Warning nobody routes, None for what may be dropped."""
        for row in self.rows:
            if _matches(row.route, seen):
                return row.family
        return None if seen.type == "Normal" else UNKNOWN_FAMILY


def _matches(route: Route, seen: Observation) -> bool:
    return (
        route.kind in ("", seen.kind)
        and (not route.reason or seen.reason in route.reason)
        and route.type in ("", seen.type)
        and route.origin in ("", seen.origin)
        and (not route.component or seen.component in route.component)
        and (not route.message or patterns.matches(route.message, seen.message))
    )


def _overlap(one: Route, two: Route) -> bool:
    """Tell whether something seen could match both."""

    def meet(a: tuple[str, ...] | str, b: tuple[str, ...] | str) -> bool:
        return (
            not a
            or not b
            or bool({*([a] if isinstance(a, str) else a)} & {*([b] if isinstance(b, str) else b)})
        )

    return (
        meet(one.kind, two.kind)
        and meet(one.reason, two.reason)
        and meet(one.type, two.type)
        and meet(one.origin, two.origin)
        and meet(one.component, two.component)
        and (not one.message or not two.message or patterns.meet(one.message, two.message))
    )


def render_routes(rules: tuple[Rule, ...], files: tuple[str, ...] = ()) -> RouteTable:
    """Make the one table of all rules.

    Args:
        rules: in path order.
        files: what to call each rule in an error; without them the families are named.

    Raises:
        ValueError: two rules of equal priority overlap; the text names both.
    """
    # A rule without classes diagnoses nothing: its routes only say that a Normal Event is bad news.
    rows = [
        TableRow(route=r, family=rule.family if rule.classes else UNKNOWN_FAMILY)
        for rule in rules
        for r in rule.routes
    ]
    rows += [TableRow(route=r, family=None) for rule in rules for r in rule.benign]
    names = files or tuple(rule.family for rule in rules)
    homes = [name for name, rule in zip(names, rules, strict=True) for _ in rule.routes]
    homes += [name for name, rule in zip(names, rules, strict=True) for _ in rule.benign]
    for (one, home), (two, other) in combinations(zip(rows, homes, strict=True), 2):
        if (
            one.family != two.family
            and one.route.priority == two.route.priority
            and _overlap(one.route, two.route)
        ):
            raise ValueError(
                f"{_said(one, home, files)} and {_said(two, other, files)} overlap at priority "
                f"{one.route.priority}: {_brief(one.route)} and {_brief(two.route)}. Give one of "
                "them a higher `priority`, or narrow its `reason`, `origin` or `message`."
            )
    rows.sort(key=lambda row: -row.route.priority)
    looks = tuple(LookRow(look=one, family=rule.family) for rule in rules for one in rule.sweep)
    return RouteTable(
        rows=tuple(rows), looks=looks, families=frozenset(rule.family for rule in rules if rule.classes)
    )


def _said(row: TableRow, home: str, files: tuple[str, ...]) -> str:
    """Name a route by its family, or the benign list, and by its file where that is known."""
    name = row.family or "the benign list"
    return f"{name} ({home})" if files else name


def _brief(route: Route) -> str:
    said = route.model_dump(exclude_defaults=True, exclude={"priority"})
    return ", ".join(f"{k} {'/'.join(v) if isinstance(v, tuple) else v}" for k, v in said.items())


def load_routes(path: Path) -> RouteTable:
    """Read a rendered route table.

    Raises:
        ValueError: it is none; the text names the file and what to do.
    """
    try:
        return RouteTable.model_validate(read_yaml(path))
    except (OSError, ValueError, YAMLError) as wrong:
        raise ValueError(
            f"{path} holds no route table; `quietpager render` makes one, and whoever deploys mounts "
            f"it: {wrong}"
        ) from wrong
