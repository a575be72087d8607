"""How what was tried went, and what a person is told of it.

Who uses it: `incident.machine`, which notes it; `learning`, which counts; the tests of both.
"""

from quietpager.model.incident import How, Incident, Tried


def not_proven(untouched: int) -> str:
    """Say that time alone may have done it. It is well, so nothing is undone for that reason."""
    others = "one untouched sibling" if untouched == 1 else f"{untouched} untouched siblings"
    return f"it healed, but so did {others} with the same failure"


def figures(incident: Incident, how: str) -> str:
    """Say why a change did not help, in figures of before and after it."""
    pods, restarts = incident.available_after, incident.restarts_after
    text = f"It was {how}: available pods {incident.available_before} before the change, "
    text += "not known after it" if pods is None else f"{pods} after it"
    if restarts is not None and (restarts or incident.restarts_before):
        text += f"; restarts {incident.restarts_before} before, {restarts} of the pods after it"
    return f"{text}."


def note_result(incident: Incident, how: How, detail: str = "", seen: str | None = None) -> Incident:
    """Note how the newest attempt went, and in `seen` the figures that say so."""
    if not incident.tried:
        return incident
    last = incident.tried[-1]
    last = last.but(how=how, detail=detail, seen=last.seen if seen is None else seen)
    return incident.but(tried=(*incident.tried[:-1], last))


def story(incident: Incident) -> str:
    """Tell what failed and all that was tried, for the message to a person."""
    tried = "; ".join(
        f"{t.action} {' '.join(f'{k}={v}' for k, v in t.params.items())}: {_result(t)}"
        for t in incident.tried
    )
    return f"{incident.failure_class} on {incident.owner}. Tried: {tried or 'nothing'}"


def _result(one: Tried) -> str:
    return f"{one.result.rstrip('.')}. {one.seen}" if one.seen else one.result
