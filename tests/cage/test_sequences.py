"""No sequence of writes that the cage admits leads outside the action's promise, on a real API server."""

import os
from random import Random

import pytest

from tests.apiserver import ApiServer
from tests.cage.conftest import ACTIONS
from tests.cage.requests import account, all_at_once
from tests.cage.sequences import Sequence

ROUNDS = int(os.environ.get("QUIETPAGER_SEQUENCES", "30"))
MOST = 120
"""Sequences within which a mutant must be found."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def played(server: ApiServer, action: str, seed: int, without: str = "") -> tuple[Sequence, list[str]]:
    name = f"seq-{action}-{without or 'whole'}-{seed}"
    one = Sequence(server, action, account(action, without), name, Random(f"{action} {seed}"))  # noqa: S311 (to be repeated)
    return one, one.play()


@pytest.mark.parametrize("action", ACTIONS)
def test_no_sequence_of_admitted_writes_breaks_the_promise(server: ApiServer, action: str) -> None:
    done = all_at_once(lambda seed: played(server, action, seed), range(ROUNDS))
    for one, wrong in done:
        assert not wrong, (one.name, wrong, one.told)
    # It is worth something only if much was admitted, undos and second acts among it.
    assert sum(one.admitted for one, _ in done) > ROUNDS / 2
    assert max(one.admitted for one, _ in done) >= 2


# The table finds `ceiling`: six acts from 256Mi do not reach it.
MUTANTS = [
    ("raise-memory", "undo"), ("raise-memory", "up"), ("raise-memory", "factor"),
    ("raise-memory", "container"), ("set-requests", "undo"), ("set-requests", "down"),
    ("set-requests", "least"),
    ("rollout-undo", "near"), ("rollout-undo", "image"), ("rollout-undo", "probe"), ("rollout-undo", "once"),
]  # fmt: skip


@pytest.mark.parametrize(("action", "rule"), MUTANTS)
def test_without_one_rule_a_sequence_breaks_the_promise(server: ApiServer, action: str, rule: str) -> None:
    for start in range(0, MOST, 8):
        done = all_at_once(lambda seed: played(server, action, seed, rule), range(start, start + 8))
        if any(wrong for _, wrong in done):
            return
    pytest.fail(f"{MOST} sequences found nothing, although {action} had no rule {rule}")
