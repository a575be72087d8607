"""What a function folder's own code makes of a recorded case: for the tests in the folders.

`quietpager replay` asks more, the whole way from the Event to what would be done. This asks one folder's pure
function, so that a test in a folder needs nothing above the functions.
"""

from datetime import UTC, datetime
from pathlib import Path

from quietpager.actions.plan import Planned
from quietpager.cluster.recorded import Recorded, case_event
from quietpager.errors import BadMessage
from quietpager.model.event import read_event
from quietpager.model.finding import Diagnosis
from quietpager.model.reference import ObjectRef
from quietpager.model.yaml import read_yaml
from quietpager.objects.live import Live
from quietpager.rules.judging import judge
from quietpager.runtime import loading

EPOCH = datetime.fromtimestamp(0, UTC)


def expected_of(case: Path) -> tuple[str, ...]:
    """Read which failure classes a case's expected.yaml accepts."""
    return tuple(read_yaml(case / "expected.yaml")["acceptable_classes"])


def found_in(case: Path, place: str) -> tuple[str, str]:
    """Let a detector judge a case; gives the failure class, or "", and why.

    Raises:
        ValueError: the folder has no `diagnose`, or the case has no Event that can be read.
    """
    diagnose = loading.diagnose(place)
    raw = case_event(case)
    if diagnose is None or raw is None:
        raise ValueError(f"{place} has no diagnose.py, or {case} has no event.json.")
    try:
        event = read_event(raw, received=EPOCH)
    except BadMessage as no:
        raise ValueError(f"{case}/event.json is no Event: {no}") from no
    signal = event.signal(loading.family_of(place))
    live = Live(Recorded(case), signal.target, now=event.last_seen, told=signal.event)
    verdict = judge(signal, live, diagnose)
    if isinstance(verdict, Diagnosis):
        return verdict.failure_class, verdict.evidence[0].text if verdict.evidence else ""
    return "", verdict.why


def planned_in(case: Path, place: str, params: dict[str, str | float]) -> Planned:
    """Let an action plan for the one Deployment of a case.

    Raises:
        ValueError: the folder has no `plan`, or the case not one Deployment.
        Refused: the plan says that there is nothing to do.
    """
    plan, reader = loading.plan(place), Recorded(case)
    found = reader.list("Deployment")
    if plan is None or len(found) != 1:
        raise ValueError(f"{place} has no plan.py, or {case} has not one Deployment.")
    meta = found[0]["metadata"]
    owner = ObjectRef(
        api_version="apps/v1", kind="Deployment", namespace=meta["namespace"], name=meta["name"],
        uid=meta["uid"],
    )  # fmt: skip
    return plan(Live(reader, owner), params)
