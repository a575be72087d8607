"""Where text is masked: in the type of every field that holds text from outside, and on the way out.

    Event, status, log, a person's answer ─▶ a model's field of type `Told` ─▶ record, message
                                             free JSON (audit bodies) ─▶ `masked` ─▶ store, log, channel

A field is either `Told` or structural (an id, a name, a path, a digest, an edit that is to be written);
tests/attack/test_secrets_boundary.py lists the structural ones, so that a new field must be decided about.
Masking a structural one would break what the machine does; leaving a told one would show a secret.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, PlainSerializer

from quietpager.masking import mask as how


def told(text: str) -> str:
    """Mask one text; what `Told` calls, and whoever is about to show one."""
    return how.mask(text)


Told = Annotated[str, AfterValidator(told), PlainSerializer(told, when_used="json")]
"""Text from a cluster, a container or a person: masked when it is read in, and again when it is written out.

The second time is for `Data.but`, which validates nothing.
"""


def masked(value: Any) -> Any:
    """Mask every text in JSON-like data; keys stay, and so does what is beside the text.

    A name beside a value counts: `{"password": "x"}` is masked as the text `password: x` would be.
    """
    match value:
        case str():
            return told(value)
        case Mapping():
            return {key: _beside(str(key), one) for key, one in value.items()}
        case list() | tuple():
            return [masked(one) for one in value]
        case _:
            return value


def _beside(key: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_beside(key, one) for one in value]
    if not isinstance(value, str) or not value:
        return masked(value)
    led = f"{key}="
    whole = told(f"{led}{value}") if "\n" not in value else told(value)
    return whole.removeprefix(led) if whole.startswith(led) else told(value)
