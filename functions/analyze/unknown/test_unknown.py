"""The recorded case and its twin, judged by the code that runs in the function; and the dwell."""

from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path

import pytest

from quietpager.analysis.analyse import analyse
from quietpager.cluster.recorded import Recorded, case_event
from quietpager.model.event import read_event
from quietpager.model.finding import Diagnosis, Healthy, NotYet
from quietpager.model.yaml import read_yaml
from quietpager.objects.live import Live

CASES = sorted((Path(__file__).parent / "cases").iterdir())
[TWIN, UNWELL] = CASES
BEGAN = datetime.fromisoformat("2026-11-22T19:25:47Z")

# By name, for a function may not depend on infra; only its test asks replay.
replay = import_module("quietpager.cli.replay").replay


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_is_judged_as_expected_and_nothing_is_done(case: Path) -> None:
    expected = read_yaml(case / "expected.yaml")
    [answer] = replay([case])
    assert answer["failure_class"] in expected["acceptable_classes"]
    assert answer["remedies"] == answer["would_act"] == []


def test_replay_shows_the_page() -> None:
    [answer] = replay([UNWELL])
    page = answer["page"]
    assert page["summary"] == answer["why"]
    assert {"killed for memory", "a crash", "the node"} <= {one["what"] for one in page["ruled_out"]}
    assert any("25 times" in one["source"] for one in page["facts"])


@pytest.mark.parametrize(("after", "expected"), [(59, NotYet), (60, Diagnosis), (100_000, Diagnosis)])
def test_before_the_dwell_is_over_it_is_looked_at_again_when_it_is(after: int, expected: type) -> None:
    reader = Recorded(UNWELL)
    now = BEGAN + timedelta(seconds=after)
    signal = read_event(case_event(UNWELL), received=now).signal("unknown")
    live = Live(reader, signal.target, now=now, told=signal.event)
    verdict = analyse(signal, live, reader, now, dwell=60.0)
    assert isinstance(verdict, expected)
    if isinstance(verdict, NotYet):
        assert verdict.again_in == 1.0


def test_a_workload_that_is_well_is_nothing_however_old_the_warning() -> None:
    reader = Recorded(TWIN)
    now = BEGAN + timedelta(days=1)
    signal = read_event(case_event(TWIN), received=now).signal("unknown")
    live = Live(reader, signal.target, now=now, told=signal.event)
    assert isinstance(analyse(signal, live, reader, now, dwell=0.0), Healthy)
