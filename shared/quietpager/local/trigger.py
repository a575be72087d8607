"""Triggers, read as Knative reads them: whom an event goes to, how often, and where it ends.

Who calls it: the local host and the tests; `shared/quietpager/local/broker.py` follows what is here.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import structlog

from quietpager.local.filters import EVERYTHING, Filter, InvalidFilter, read_filter

log = structlog.get_logger()


class InvalidTrigger(ValueError):  # noqa: N818 (it names what is wrong with the file)
    """A Trigger manifest that this broker cannot follow; the text says why."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """One subscription. `filter` says which events it wants; without one, all.

    `retry` counts tries after the first; `delay` and `timeout` are seconds (`None`: no limit).
    The defaults are those of Knative's own Broker: retry 10, exponential, PT0.2S.
    """

    name: str
    subscriber: str
    filter: Filter = EVERYTHING
    retry: int = 10
    policy: str = "exponential"
    delay: float = 0.2
    timeout: float | None = None
    dead_letter: str | None = None

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any], inherited: Mapping[str, Any] | None = None) -> Self:
        """Read an `eventing.knative.dev/v1` Trigger.

        Subscriber and dead letter are named by `ref.name`, or else by `uri`. `inherited`: the
        Broker's own `delivery`, for a Trigger that states none. One that states a `delivery` states
        all of it: what is left out is "none", but for the dead letter sink, which then still is the
        Broker's (observed with v0.49.2).
        Raises `InvalidTrigger`.
        """
        name = str((manifest.get("metadata") or {}).get("name") or "")
        if manifest.get("apiVersion") != "eventing.knative.dev/v1" or manifest.get("kind") != "Trigger":
            raise InvalidTrigger(f"{name or 'A manifest'} is no Trigger of eventing.knative.dev/v1.")
        if not name:
            raise InvalidTrigger("A Trigger has no name.")
        spec = manifest.get("spec") or {}
        subscriber = _destination(spec.get("subscriber"))
        if subscriber is None:
            raise InvalidTrigger(f"Trigger {name} has no subscriber with a ref.name or a uri.")
        try:
            wanted = read_filter(spec)
        except InvalidFilter as wrong:
            raise InvalidTrigger(f"Trigger {name}: {wrong}") from None
        stated = spec.get("delivery")
        if stated is None:
            stated = inherited
        if stated is None:
            return cls(name, subscriber, wanted)
        unknown = set(stated) - {
            "retry",
            "backoffPolicy",
            "backoffDelay",
            "timeout",
            "deadLetterSink",
        }
        if unknown:
            raise InvalidTrigger(f"Trigger {name}: the local broker knows no delivery.{min(unknown)}.")
        policy = stated.get("backoffPolicy")
        if policy not in (None, "exponential", "linear"):
            raise InvalidTrigger(f"Trigger {name}: backoffPolicy {policy!r} is not exponential or linear.")
        retry = stated.get("retry") or 0
        if not isinstance(retry, int) or retry < 0:
            raise InvalidTrigger(f"Trigger {name}: retry {retry!r} is no count.")
        delay = stated.get("backoffDelay")
        timeout = stated.get("timeout")
        return cls(
            name,
            subscriber,
            wanted,
            retry=retry,
            policy=policy or "linear",
            # Knative backs off only if both policy and delay are stated; else it retries at once.
            delay=_seconds(name, delay) if policy and delay else 0.0,
            timeout=(_seconds(name, timeout) or None) if timeout else None,
            dead_letter=_destination(stated.get("deadLetterSink") or (inherited or {}).get("deadLetterSink")),
        )

    def matches(self, attributes: Mapping[str, Any]) -> bool:
        """Tell whether an event with these attributes is wanted."""
        return self.filter.matches(attributes)

    def pause(self, attempt: int) -> float:
        """Give the seconds to wait after that attempt (the first is 0) before the next."""
        return self.delay * (2**attempt if self.policy == "exponential" else attempt)


def _destination(destination: Mapping[str, Any] | None) -> str | None:
    destination = destination or {}
    name = (destination.get("ref") or {}).get("name") or destination.get("uri")
    return str(name) if name else None


_DURATION: Final = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?")


def _seconds(name: str, text: object) -> float:
    found = _DURATION.fullmatch(str(text))
    if found is None or not any(found.groups()):
        raise InvalidTrigger(f"Trigger {name}: {text!r} is no duration like PT0.5S or PT1M.")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def read_triggers(
    manifests: Iterable[Mapping[str, Any]], inherited: Mapping[str, Any] | None = None
) -> tuple[list[Trigger], dict[str, str]]:
    """Read all Triggers; gives those that are ready, and of the others name → why not, as a sentence.

    One that cannot be followed gets no events, and does not keep the others from theirs: as on Knative,
    where it is refused by the webhook or is not Ready.
    """
    ready: list[Trigger] = []
    not_ready: dict[str, str] = {}
    for number, manifest in enumerate(manifests):
        try:
            ready.append(Trigger.from_manifest(manifest, inherited))
        except InvalidTrigger as wrong:
            name = str((manifest.get("metadata") or {}).get("name") or f"number {number + 1}")
            not_ready[name] = str(wrong)
            log.error("A Trigger is not ready; it gets no events.", trigger=name, why=str(wrong))  # noqa: TRY400
    return ready, not_ready
