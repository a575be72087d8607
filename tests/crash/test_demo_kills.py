"""The unattended demo with five kills of the product's process: the same outcomes, no double write."""

import subprocess
import sys

import pytest


@pytest.mark.timeout(170)
def test_five_kills_of_the_product_change_no_outcome_and_write_nothing_twice() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli.main", "demo", "--once", "--kills", "5", "--seed", "7"],
        capture_output=True, text=True, timeout=160, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "The product was killed 5 times." in done.stdout
