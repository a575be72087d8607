"""What a rule's `sweep:` looks for where no Event tells: typed conditions over the objects of one kind.

    sweep:
      - kind: Pod
        where: {metadata.deletionTimestamp: {older_than: 600}}
      - kind: Pod
        each: status.conditions           # all conditions hold for one and the same item of this list
        where: {type: Ready, status: ["False", Unknown], lastTransitionTime: {older_than: 30}}

A field is a path of names with dots. A value means that the field is equal to it, a list that it is one of
them, and a map says more: `exists`, `at_least`, `at_most` (numbers and Kubernetes quantities), `older_than`
(seconds since a time). All conditions must hold. A field that is not there meets only `exists: no`.

Pure and total: an object is what an API server, or a tenant, has made of it, so a value of another type than
the condition asks for does not meet it.

Who calls it: the sweep, and `quietpager scan` through the same code; the detector then judges the live
object.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from quietpager.model.data import Data
from quietpager.model.quantity import quantity
from quietpager.objects.table import targets

Scalar = str | bool | int | float


def listed() -> tuple[str, ...]:
    """Name the kinds that a rule may look at; the sweep gets the right to list those that some rule does."""
    return tuple(kind.name for kind in targets())


class Bounds(Data):
    """What a field must meet beside being equal to something."""

    exists: bool | None = None
    at_least: float | str | None = None
    at_most: float | str | None = None
    older_than: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("say at least one of exists, at_least, at_most, older_than")
        return self

    @field_validator("at_least", "at_most")
    @classmethod
    def _is_an_amount(cls, value: float | str | None) -> float | str | None:
        if value is not None:
            quantity(value)
        return value

    def met_by(self, value: Any, now: datetime) -> bool:
        """Tell whether a field's value, None where it is not there, is as it must be."""
        if self.exists is not None and self.exists is (value is None):
            return False
        if self.older_than is not None and not _is_older(value, self.older_than, now):
            return False
        return _within(value, self.at_least, self.at_most)


Condition = Bounds | Scalar | tuple[Scalar, ...]


class Look(Data):
    """One thing to look for: objects of a kind for which all conditions hold."""

    kind: str
    each: str = ""
    where: dict[str, Condition] = Field(min_length=1)

    @field_validator("where")
    @classmethod
    def _names_fields(cls, where: dict[str, Condition]) -> dict[str, Condition]:
        for path, wanted in where.items():
            if not all(path.split(".")):
                raise ValueError(f"{path!r} is no field; a field is a path of names, such as status.phase")
            if wanted == ():
                raise ValueError(f"{path} is one of nothing; name at least one value")
        return where

    def found_in(self, raw: Mapping[str, Any], now: datetime) -> bool:
        """Tell whether an object, as the API server gives it, is what is looked for."""
        return any(
            all(_meets(_field(one, path), wanted, now) for path, wanted in self.where.items())
            for one in self._items(raw)
        )

    def _items(self, raw: Mapping[str, Any]) -> Iterator[Any]:
        if not self.each:
            yield raw
            return
        found = _field(raw, self.each)
        yield from found if isinstance(found, list) else ()


def _field(one: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(one, Mapping):
            return None
        one = one.get(name)
    return one


def _meets(value: Any, wanted: Condition, now: datetime) -> bool:
    if isinstance(wanted, Bounds):
        return wanted.met_by(value, now)
    return any(_equal(value, one) for one in (wanted if isinstance(wanted, tuple) else (wanted,)))


def _equal(value: Any, wanted: Scalar) -> bool:
    """Compare; True is not 1."""
    return isinstance(value, bool) is isinstance(wanted, bool) and bool(value == wanted)


def _is_older(value: Any, seconds: float, now: datetime) -> bool:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return moment.tzinfo is not None and (now - moment).total_seconds() >= seconds


def _within(value: Any, least: float | str | None, most: float | str | None) -> bool:
    if least is None and most is None:
        return True
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    try:
        amount = quantity(value)
    except (ValueError, ArithmeticError):
        return False
    return (least is None or amount >= quantity(least)) and (most is None or amount <= quantity(most))
