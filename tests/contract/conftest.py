"""Counts what the contract suites compared, and says so at the end of a run.

A module with `CONTRACT = "broker"` runs its tests through a parametrised fixture called `broker`; its
parameter is the side. A test that ran on more than one side is one behaviour compared. `COMPARED`, where
a module has it, gives the sides' names in full.
"""

from collections import defaultdict

import pytest

PROPERTY = "contract"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note contract, side and behaviour on the report: it also comes back from xdist's workers."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return
    contract = getattr(item.module, "CONTRACT", None)
    side = item.callspec.params.get(contract) if contract else None
    if not isinstance(side, str):
        return
    rest = item.callspec.id.split("-")
    rest.remove(side)
    behaviour = f"{item.originalname}[{'-'.join(rest)}]"
    name = getattr(item.module, "COMPARED", {}).get(side, side)
    item.user_properties.append((PROPERTY, [contract, name, behaviour]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line for each contract that more than one side was held to."""
    ran: dict[str, dict[str, dict[str, bool]]] = defaultdict(lambda: defaultdict(dict))
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for key, value in getattr(report, "user_properties", ()):
                if key == PROPERTY and report.when == "call":
                    contract, side, behaviour = value
                    ran[contract][behaviour][side] = outcome == "passed"
    for contract, behaviours in ran.items():
        both = [sides for sides in behaviours.values() if len(sides) > 1]
        if not both:
            continue
        sides = " and ".join(dict.fromkeys(side for one in both for side in one))
        differ = sum(not all(one.values()) for one in both)
        end = f"; {differ} of them not as promised" if differ else ""
        terminalreporter.write_line(
            f"{contract} contract: {len(both)} behaviours compared on {sides}{end}", bold=True
        )
