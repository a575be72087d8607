"""The base of everything that is kept in the store or travels between layers."""

from hashlib import sha256
from json import dumps
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

Json = dict[str, Any]


class Data(BaseModel):
    """Frozen, strict about unknown fields, written to and read from JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def to_json(self) -> Json:
        """Give the JSON form, as stored."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, body: Json) -> Self:
        """Read the stored form; raises pydantic.ValidationError."""
        return cls.model_validate(body)

    def but(self, **changes: Any) -> Self:
        """Give a copy with some fields changed, without validating the others again."""
        return self.model_copy(update=changes)


def digest(*parts: Any, length: int = 16) -> str:
    """Make a short stable id of JSON-like parts; used for identities that must not depend on time."""
    text = dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return sha256(text.encode()).hexdigest()[:length]
