"""CEL as text: the pieces of which the rules of the cage are made. Called by `cage` and `promises`."""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Final

from quietpager.change.promise import POD
from quietpager.change.rule import text

NEW: Final = f"object.{POD}.containers"
OLD: Final = f"oldObject.{POD}.containers"


def of_each(condition: str) -> str:
    """Render: the condition on every container, new (`c`) and old (`o`)."""
    return f"{NEW}.all(c, {OLD}.filter(o, o.name == c.name).all(o, {condition}))"


def each_amount(paths: Iterable[str], condition: Callable[[str, str, str], str]) -> str:
    """Render: for every container, and each allowed amount of it, the condition on new and old value.

    An amount that is equal needs no condition; one that is only there before or after fails `present`.
    """
    parts = []
    for path in paths:
        _, kind, name = path.split(".")
        new, old = amount("c", kind, name), amount("o", kind, name)
        says = condition(f"quantity({new}.value())", f"quantity({old}.value())", name)
        parts.append(f"({new} == {old} || !{new}.hasValue() || !{old}.hasValue() || ({says}))")
    return of_each(" && ".join(parts))


def amount(of: str, kind: str, name: str) -> str:
    """Render one amount of a container, as an optional."""
    return f"{of}.?resources.?{kind}[?{text(name)}]"


def named(lists: str, separator: str = ", ", end: str = "") -> str:
    """Render: for every container, the strings in these lists, with the container's name before each."""
    return (
        f"{NEW}.map(c, {OLD}.filter(o, o.name == c.name).map(o, "
        f"({lists}).map(f, c.name + '.' + f).join({text(separator)})).join({text(separator)}))"
        f".filter(s, s != '').join({text(separator)}){end}"
    )


def without(names: Iterable[str], excluded: Iterable[str]) -> list[str]:
    """Leave names out."""
    some = set(excluded)
    return [name for name in names if name not in some]


def quantity(value: Decimal) -> str:
    """Write a quantity."""
    return f"quantity('{value:f}')"


def double(value: Decimal) -> str:
    """Write a number with a fraction."""
    return f"double('{value:f}')"


def either(conditions: Sequence[str]) -> str:
    """Join conditions of which one must hold; a single one stays as it is."""
    return conditions[0] if len(conditions) == 1 else f"({' || '.join(f'({one})' for one in conditions)})"
