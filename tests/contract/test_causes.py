"""Each failure class declares one kind of cause; what its detector finds in recorded cases keeps to it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from quietpager.cluster.recorded import Recorded, case_event
from quietpager.model.event import read_event
from quietpager.model.finding import Diagnosis, NotMine
from quietpager.objects.live import Live
from quietpager.rules.judging import judge
from quietpager.rules.schema import load_rules
from quietpager.runtime import loading
from quietpager.runtime.context import functions_folder

FOLDER = functions_folder()
RULES = {rule.family: rule for rule in load_rules(FOLDER)}
CASES = sorted(FOLDER.glob("detect/*/cases/*"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_cause_key_is_of_the_kind_that_the_class_declares(case: Path) -> None:
    family = case.parents[1].name
    event = read_event(case_event(case), received=datetime(2026, 11, 25, tzinfo=UTC))
    signal = event.signal(family)
    diagnose = loading.diagnose(f"detect/{family}")
    assert diagnose is not None
    verdict = judge(
        signal, Live(Recorded(case), signal.target, now=event.last_seen, told=signal.event), diagnose
    )
    assert not isinstance(verdict, NotMine)
    if isinstance(verdict, Diagnosis):
        declared = RULES[family].classes[verdict.failure_class].cause
        assert verdict.cause.partition(":")[0] == declared
