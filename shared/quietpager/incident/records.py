"""Names of the records in the state table, in one place."""

from quietpager.model.incident import Incident

SWITCH = "SWITCH#writes"
"""The kill switch: body {stopped: bool, by, at}. Absent means stopped: a new install writes nothing."""


def incident(name: str) -> str:
    """Record of one incident."""
    return f"INCIDENT#{name}"


def cause(key: str) -> str:
    """The lock on a cause: body {incident, episode}."""
    return f"CAUSE#{key}"


def finding(name: str) -> str:
    """Record of one look."""
    return f"FINDING#{name}"


def rehearsal(name: str) -> str:
    """Record of one plan."""
    return f"REHEARSAL#{name}"


def intent(name: str) -> str:
    """Record of one permission to write."""
    return f"INTENT#{name}"


def approval(name: str) -> str:
    """Record of one question to a person."""
    return f"APPROVAL#{name}"


def breaker(of: Incident) -> str:
    """Open breaker of a failure class on a target: body {until}."""
    return f"BREAKER#{of.failure_class}#{of.owner.identity}"


def target(of: Incident) -> str:
    """When a target was last acted on: body {at}."""
    return f"TARGET#{of.owner.identity}"


def slot(scope: str, number: int) -> str:
    """One budget slot: body {at, holder}."""
    return f"SLOT#{scope}#{number}"


def opening(ring: str, number: int) -> str:
    """One of the newest openings of incidents, which the storm brake counts: body {at, incident, namespace}.

    `ring`: `named`, of namespaces that may be written to, or `other`.
    """
    return f"OPENING#{ring}#{number}"


def opened_in(namespace: str) -> str:
    """The newest openings in one namespace: body {opened: [{at, incident}, …]}, oldest first."""
    return f"OPENING#in#{namespace}"


STORM = "STORM#told"
"""When people were last told of a storm in the cluster: body {at, incident}."""


def storm_in(namespace: str) -> str:
    """When people were last told of a storm in one namespace: body {at, incident}."""
    return f"STORM#in#{namespace}"


def spoke(namespace: str) -> str:
    """When one namespace last spoke in a storm of the cluster: body {at, incident}."""
    return f"STORM#spoke#{namespace}"


def heartbeat(part: str) -> str:
    """When a part last showed that it lives: body {at}."""
    return f"HEARTBEAT#{part}"


def ledger(failure_class: str, action: str) -> str:
    """What an action did for a failure class, over all closed incidents."""
    return f"LEDGER#{failure_class}#{action}"


def past(name: str) -> str:
    """What is remembered of one closed incident."""
    return f"PAST#{name}"


def talk(of: str) -> str:
    """Due item of what must next be said about a finding, rehearsal or intent."""
    return f"talk/{of}"


def look_again(place: str) -> str:
    """Due item of the second look that has a place, named by that place's key."""
    return place.lower().replace("#", "/")


def recheck(of: str) -> str:
    """Due item of an incident's next look."""
    return f"{of}/recheck"


def deadline(of: str) -> str:
    """Due item of an incident's deadline."""
    return f"{of}/deadline"


def refused(who: str, kind: str) -> str:
    """How many messages of a kind a function refused in an hour."""
    return f"REFUSED#{who}#{kind}"


def place(origin: str, number: int) -> str:
    """One place among the targets of an origin that are looked at again: body {target, looks, at, event}."""
    return f"AGAIN#{origin}#{number}"


EPISODES = "EPISODES#purged"
"""The highest episode of any cause whose lock was purged: body {episode}. Later incidents begin after it."""

PURGE = "PURGE#walk"
"""Where the purge stands: body {kind, after, at}."""


def tell(name: str) -> str:
    """One message to people that has not been told yet: body {what, text}."""
    return f"TELL#{name}"


SESSION = "SESSION"
"""Kind of the console's sessions; see `session`."""


def session(digest: str) -> str:
    """Session of a person at the console, by its id's hash: body {account, …, expires}; then it may go."""
    return f"SESSION#{digest}"


def tries(kind: str, number: int) -> str:
    """One of a fixed number of buckets that count attempts to sign in: body {empty}; never deleted."""
    return f"TRIES#{kind}-{number:04d}"


def told_of(name: str) -> str:
    """Name the incident that a message to people is about: `<incident>.<version>.<number>` is its name."""
    return name.rsplit(".", 2)[0]
