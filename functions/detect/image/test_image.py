"""The recorded cases of this family, judged by the code that runs in the functions."""

from pathlib import Path

import pytest

from tests.cases import judged_as_expected

CASES = sorted((Path(__file__).parent / "cases").iterdir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_recorded_case_is_judged_as_expected(case: Path) -> None:
    answer = judged_as_expected(case)
    assert answer["evidence"] or answer["failure_class"] == "benign_no_action"
