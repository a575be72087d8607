"""No extra without a smoke test of its own, and none of an extra that is gone."""

import re

from infra.wheel import EXPECTS, ROOT, SMOKE


def test_each_extra_has_a_smoke_test() -> None:
    text = "".join((ROOT / "requirements" / name).read_text() for name in ("run.in", "local.in"))
    extras = set(re.findall(r"(?m)^# extra: (\w+)", text))
    assert extras == set(SMOKE) == set(EXPECTS)


def test_each_package_of_an_extra_says_how_large_it_is_and_why() -> None:
    for name in ("run.in", "local.in"):
        lines = (ROOT / "requirements" / name).read_text().splitlines()
        seen = set[str]()
        for line in lines:
            package = re.match(r"[A-Za-z][\w\[\],.-]*", line)
            if package is None or package[0] in {"hatchling", "editables"}:
                continue
            _, _, why = line.partition("#")
            assert why.strip(), f"{name}: {line}"
            seen.add(package[0])
        assert seen
