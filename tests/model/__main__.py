"""`make model`: walk further than the tests do, and print what was seen and what every mutant breaks."""

import sys
import time

from tests.model.explorer import Result, explore
from tests.model.invariants import INVARIANTS
from tests.model.mutants import MUTANTS, Mutant
from tests.model.scenarios import SCENARIOS, Scenario

MOST = 60_000
"""States for each scenario."""

MOST_FOR_A_MUTANT = 30_000


def walk(scenario: Scenario, most: int, end_every: int = 50) -> Result:
    """Walk through one scenario of the product as it is shipped."""
    moves = scenario.moves()
    return explore(moves, scenario.start(moves), most=most, end_every=end_every)


def hunt(mutant: Mutant, most: int = MOST_FOR_A_MUTANT) -> Result:
    """Walk through a mutant's scenario until something breaks."""
    with mutant.without():
        moves = mutant.scenario.moves()
        return explore(moves, mutant.scenario.start(moves), most=most, end_every=10)


def say(line: str) -> None:
    """Print one line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Print it all; gives the process's exit code: 0 when the product held and no mutant survived."""
    failed, states, begun = 0, 0, time.monotonic()
    for scenario in SCENARIOS:
        at = time.monotonic()
        found = walk(scenario, MOST)
        states += found.states
        word = "all of them" if found.complete else "the nearest"
        say(
            f"{scenario.name}: {found.states:,} states ({word}), {found.moves:,} moves, {found.ends:,} ends, "
            f"{time.monotonic() - at:.0f} s"
        )
        if found.broken is not None:
            failed += 1
            say(f"BROKEN {found.broken}")
    say(f"\n{states:,} states, {len(INVARIANTS) + 1} invariants, {time.monotonic() - begun:.0f} s\n")
    for mutant in MUTANTS:
        found = hunt(mutant)
        say(f"Without {mutant.mechanism} ({found.states:,} states):")
        if found.broken is None:
            failed += 1
            say("  SURVIVED: an invariant is missing")
        else:
            say("  " + str(found.broken).replace("\n", "\n  "))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
