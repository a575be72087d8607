"""Each failure class declares one kind of cause; what its detector finds in recorded cases keeps to it."""

from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import pytest

from quietpager.model.event import signal_from_event
from quietpager.model.finding import Diagnosis, NotMine
from quietpager.rules.live import Live
from quietpager.rules.recorded import Recorded, read_json
from quietpager.rules.schema import load_rules
from quietpager.runtime.context import functions_folder
from quietpager.runtime.detecting import judge

FOLDER = functions_folder()
RULES = {rule.family: rule for rule in load_rules(FOLDER)}
CASES = sorted(FOLDER.glob("detect/*/cases/*"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_cause_key_is_of_the_kind_that_the_class_declares(case: Path) -> None:
    family = case.parents[1].name
    raw = read_json(case / "event.json")
    signal = signal_from_event(raw, cluster="test", received=datetime(2026, 11, 25, tzinfo=UTC))
    diagnose = import_module(f"quietpager.functions.detect.{family}.diagnose").diagnose
    verdict = judge(signal, Live(Recorded(case), signal.target), diagnose)
    assert not isinstance(verdict, NotMine)
    if isinstance(verdict, Diagnosis):
        declared = RULES[family].classes[verdict.failure_class].cause
        assert verdict.cause.partition(":")[0] == declared
