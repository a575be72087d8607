"""The base of everything that is kept in the store or travels between layers, and how versions meet in it.

A rolling upgrade runs version N and N+1 at once, on one store. What is written says the version of its form
as `v` (`stamped`). N reads what N+1 wrote; the fields that it does not know stay in the object, through every
`but`, and are written back. What is newer than that it leaves alone, for a later delivery (`TooNew`).

    v absent or <= VERSION   read; a field that went out of use since is kept, and decides nothing
    v == VERSION + 1         read; `v` and all unknown fields are kept
    v >  VERSION + 1         TooNew: 503, delivered again when this function has been upgraded
"""

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from json import dumps
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, TypeAdapter, model_serializer

from quietpager.errors import BadMessage, TooNew

Json = dict[str, Any]

VERSION: Final = 2
"""Form of the records and messages that this version writes; 1 had no `v`. Raise it by one in a release that
adds or changes a field; a release may be rolled out over the one before it, not over an older one."""

MARK: Final = "v"
"""Name of the field that says the version; no model may have a field of this name."""


class Data(BaseModel):  # noqa: PLW1641 (pydantic makes the hash of what is frozen, from the same fields)
    """Frozen, strict about unknown fields where code makes it, written to and read from JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def to_json(self) -> Json:
        """Give the JSON form, as stored, with the fields of a newer version that it was read with."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, body: Json) -> Self:
        """Read the stored form.

        Raises:
            pydantic.ValidationError: a field that this version knows is missing or wrong.
            TooNew: it was written by a version that this one cannot follow.
        """
        return cls.model_validate(readable(body), extra="allow")

    def but(self, **changes: Any) -> Self:
        """Give a copy with some fields changed. The changes are validated, the other fields are not again.

        Raises:
            TypeError: there is no such field.
            pydantic.ValidationError: a value is not of its field's type; nothing is converted.
        """
        fields = type(self).model_fields
        for name in changes:
            if name not in fields:
                raise TypeError(f"{type(self).__name__} has no field {name}.")
        return self.model_copy(
            update={name: _field(type(self), name).validate_python(v) for name, v in changes.items()}
        )

    def __eq__(self, other: object) -> bool:
        """Compare what this version knows; what it does not know must not make two of one object."""
        return type(self) is type(other) and self.__dict__ == other.__dict__

    @model_serializer(mode="wrap")
    def _with_unknown(self, known: SerializerFunctionWrapHandler) -> Json:
        body: Json = known(self)
        return {**self.__pydantic_extra__, **body} if self.__pydantic_extra__ else body


@cache
def _field(of: type[Data], name: str) -> TypeAdapter[Any]:
    info = of.model_fields[name]
    kind: Any = info.annotation
    for one in info.metadata:
        kind = Annotated[kind, one]
    return TypeAdapter(kind, config=None if _is_model(kind) else ConfigDict(strict=True))


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def readable(body: Mapping[str, Any]) -> Json:
    """Give a body of this version or an older one without its mark, and one of the next version as it is.

    Raises:
        TooNew: it is newer than that.
        BadMessage: its mark is no version.
    """
    version = body.get(MARK, 1)
    if version == VERSION + 1:
        return dict(body)
    if not isinstance(version, int) or version < 1:
        raise BadMessage(f"Its {MARK} says no version: that is a whole number from 1 on.")
    if version > VERSION:
        raise TooNew(
            f"This was written in version {version} of the records; this function writes version {VERSION} "
            f"and reads up to {VERSION + 1}. It is delivered again: upgrade this function."
        )
    return {name: value for name, value in body.items() if name != MARK}


def stamped(body: Mapping[str, Any]) -> Json:
    """Give a body that says its version: the one that it was read with, if that is newer, else ours."""
    return {**body, MARK: body.get(MARK, VERSION)}


def digest(*parts: Any, length: int = 16) -> str:
    """Make a short stable id of JSON-like parts; used for identities that must not depend on time."""
    text = dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return sha256(text.encode()).hexdigest()[:length]
