"""The unattended demo while the product's process is killed: the same six outcomes, no double write.

Five kills, or as many as QUIETPAGER_KILLS says (`make crash`: 50). The person's answers are given through
the console meanwhile, which is another process, and must reach the product all the same. The demo itself
judges the outcomes, joins the cluster's log of writes to the intents, and verifies the audit.
"""

import os
import subprocess
import sys

import pytest

from quietpager.local import dynoxide

KILLS = int(os.environ.get("QUIETPAGER_KILLS", "5"))
PATIENCE = 160 + 10 * KILLS
"""Seconds; a kill costs a start, which is slow on a busy machine."""


@pytest.mark.timeout(PATIENCE + 10)
@pytest.mark.slow
@pytest.mark.parametrize("store", ["postgres", "dynamodb"])
def test_kills_of_the_product_change_no_outcome_and_write_nothing_twice(store: str) -> None:
    if store == "dynamodb" and dynoxide.find() is None:
        pytest.skip(dynoxide.MISSING)
    where = ["--store", "dynamodb"] if store == "dynamodb" else []
    kills = ["--kills", str(KILLS), "--seed", "7"]
    done = subprocess.run(
        [sys.executable, "-m", "quietpager.cli.main", "demo", "--once", *kills, *where],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert f"The product was killed {KILLS} times." in done.stdout
    assert "demo at the console, modify: set-requests memory=256Mi" in done.stdout
