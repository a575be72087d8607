"""Which events a Trigger wants: the filter dialects of Knative's Trigger, as pure functions.

Who calls it: `shared/quietpager/local/trigger.py`. Where the rules come from (knative/eventing v0.49.2):
- each dialect's meaning: pkg/eventfilter/subscriptionsapi/{exact,prefix,suffix,all,any,not,cesql}_filter.go;
- the legacy `filter.attributes`, where "" means any value: pkg/eventfilter/attributes/filter.go;
- what the webhook refuses: pkg/apis/eventing/v1/trigger_validation.go.

Two differences, both on purpose. A filter with an empty value is refused here; Knative leaves it out, so
that such a Trigger gets more than its author wrote. `time` is compared as the RFC 3339 text it was sent
as; Knative's `exact`, `prefix` and `suffix` compare it with Go's own format of a time.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from quietpager.local.cesql import CesqlError, Expression, InvalidExpression, parse

Attributes = Mapping[str, Any]
"""An event's attributes, extensions included; values as text."""

MOST_NESTED: Final = 32
"""How deep `all`, `any` and `not` may nest."""

_NAME: Final = re.compile(r"[a-z][a-z0-9]*")
"""What an attribute may be called (validAttributeName in trigger_validation.go)."""


class InvalidFilter(ValueError):  # noqa: N818 (it names what is wrong with the file)
    """A filter that cannot be followed; the text says why, and is a sentence."""


class Filter(Protocol):
    """Tells which events are wanted."""

    def matches(self, attributes: Attributes) -> bool:
        """Tell whether an event with these attributes is wanted."""
        ...


@dataclass(frozen=True, slots=True)
class Exact:
    """Every named attribute has exactly this value; "" (legacy filters only): any value but none."""

    wanted: Mapping[str, str]

    def matches(self, attributes: Attributes) -> bool:
        """See `Filter`."""
        return all(
            attributes.get(name) == value if value else bool(attributes.get(name))
            for name, value in self.wanted.items()
        )


@dataclass(frozen=True, slots=True)
class Prefix:
    """Every named attribute begins with this text."""

    wanted: Mapping[str, str]

    def matches(self, attributes: Attributes) -> bool:
        """See `Filter`."""
        return all(str(attributes.get(name, "")).startswith(value) for name, value in self.wanted.items())


@dataclass(frozen=True, slots=True)
class Suffix:
    """Every named attribute ends with this text."""

    wanted: Mapping[str, str]

    def matches(self, attributes: Attributes) -> bool:
        """See `Filter`."""
        return all(str(attributes.get(name, "")).endswith(value) for name, value in self.wanted.items())


@dataclass(frozen=True, slots=True)
class Every:
    """`all`: every one of them matches."""

    filters: tuple[Filter, ...]

    def matches(self, attributes: Attributes) -> bool:
        """See `Filter`."""
        return all(one.matches(attributes) for one in self.filters)


@dataclass(frozen=True, slots=True)
class Some:
    """`any`: at least one of them matches."""

    filters: tuple[Filter, ...]

    def matches(self, attributes: Attributes) -> bool:
        """See `Filter`."""
        return any(one.matches(attributes) for one in self.filters)


@dataclass(frozen=True, slots=True)
class Not:
    """`not`: the one inside does not match."""

    inner: Filter

    def matches(self, attributes: Attributes) -> bool:
        """See `Filter`."""
        return not self.inner.matches(attributes)


@dataclass(frozen=True, slots=True)
class Cesql:
    """`cesql`: the expression is true. An error while it is worked out means no (cesql_filter.go)."""

    expression: Expression

    def matches(self, attributes: Attributes) -> bool:
        """See `Filter`."""
        try:
            return self.expression.value(attributes) is True
        except CesqlError:
            return False


EVERYTHING: Final[Filter] = Every(())
"""What a Trigger without a filter wants."""


def read_filter(spec: Mapping[str, Any]) -> Filter:
    """Read a Trigger's `filters`, or else its legacy `filter`, which `filters` overrides.

    Raises:
        InvalidFilter: it cannot be followed, or no event can ever match it.
    """
    stated = spec.get("filters") or []
    if not stated:
        return _legacy(spec)
    filters = _list("filters", stated, 0)
    exact: dict[str, str] = {}
    for one in filters:
        for name, value in one.wanted.items() if isinstance(one, Exact) else ():
            if exact.setdefault(name, value) != value:
                raise InvalidFilter(
                    f"no event can match: {name} would have to be both {exact[name]!r} and {value!r}."
                )
    return filters[0] if len(filters) == 1 else Every(filters)


def _legacy(spec: Mapping[str, Any]) -> Filter:
    wanted = (spec.get("filter") or {}).get("attributes") or {}
    return Exact({str(name): str(value) for name, value in wanted.items()}) if wanted else EVERYTHING


def _list(where: str, stated: object, depth: int) -> tuple[Filter, ...]:
    if not isinstance(stated, Sequence) or isinstance(stated, str) or not stated:
        raise InvalidFilter(f"{where} must be a list of at least one filter.")
    return tuple(_one(f"{where}[{number}]", one, depth + 1) for number, one in enumerate(stated))


def _one(where: str, stated: object, depth: int) -> Filter:
    if depth > MOST_NESTED:
        raise InvalidFilter(f"filters are nested deeper than {MOST_NESTED} levels.")
    if not isinstance(stated, Mapping) or len(stated) != 1:
        kinds = ", ".join(sorted(map(str, stated))) if isinstance(stated, Mapping) and stated else "nothing"
        raise InvalidFilter(f"{where} has {kinds}; it must have one dialect of {', '.join(_DIALECTS)}.")
    ((dialect, value),) = stated.items()
    reader = _DIALECTS.get(str(dialect))
    if reader is None:
        raise InvalidFilter(f"{where} has {dialect}; a filter is one of {', '.join(_DIALECTS)}.")
    return reader(f"{where}.{dialect}", value, depth)


def _pairs(where: str, stated: object) -> dict[str, str]:
    if not isinstance(stated, Mapping) or not stated:
        raise InvalidFilter(f"{where} must name at least one attribute and its value.")
    for name, value in stated.items():
        if not _NAME.fullmatch(str(name)):
            raise InvalidFilter(
                f"{where} names {str(name)!r}; an attribute's name has lower-case letters and digits only."
            )
        if not isinstance(value, str) or not value:
            raise InvalidFilter(f"{where}.{name} must be a text that is not empty.")
    return dict(stated)


def _cesql(where: str, stated: object) -> Filter:
    if not isinstance(stated, str) or not stated.strip():
        raise InvalidFilter(f"{where} must be an expression.")
    try:
        return Cesql(parse(stated))
    except InvalidExpression as wrong:
        raise InvalidFilter(f"{where} cannot be read: {wrong}") from None


_DIALECTS: Final[Mapping[str, Callable[[str, object, int], Filter]]] = {
    "exact": lambda where, stated, _: Exact(_pairs(where, stated)),
    "prefix": lambda where, stated, _: Prefix(_pairs(where, stated)),
    "suffix": lambda where, stated, _: Suffix(_pairs(where, stated)),
    "all": lambda where, stated, depth: Every(_list(where, stated, depth)),
    "any": lambda where, stated, depth: Some(_list(where, stated, depth)),
    "not": lambda where, stated, depth: Not(_one(where, stated, depth + 1)),
    "cesql": lambda where, stated, _: _cesql(where, stated),
}
