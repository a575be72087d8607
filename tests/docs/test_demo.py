"""What the README shows of the demo is what an unattended run prints, but for times, ports and counts."""

import re
import subprocess
import sys

import pytest

from infra.docs import ROOT
from tests.docs.test_readme import BLOCK, README

PATIENCE = 160
VARIES = re.compile(r"(?<=this once: )\S+|\b\d+(\.\d+)?\b|(?<= ) +")
"""A password, figures, and the blanks of a table whose columns have other widths."""


def shown() -> list[str]:
    section = README.split("## Try it\n")[1].split("\n## ")[0]
    [body] = [body for _, body in BLOCK.findall(section) if body.startswith("$ make demo")]
    return [line for line in body.splitlines()[1:] if line != "..."]


NOT_PROVEN = re.compile(r"not proven: .*?(?=\s+closed)")
"""What is said instead where the noise, which heals by itself, did so just after the change."""


def comparable(line: str) -> str:
    return VARIES.sub("", NOT_PROVEN.sub("verified: it helped", line)).strip()


@pytest.mark.timeout(PATIENCE + 10)
def test_the_readmes_demo_is_what_is_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "quietpager.cli.main", "demo", "--once"], cwd=ROOT,
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    printed = [comparable(line) for line in done.stdout.splitlines()]
    wanted = [comparable(line) for line in shown()]
    assert [line for line in wanted if line not in printed] == []
    start = next(n for n, line in enumerate(wanted) if line.startswith("incident failure class"))
    end = printed.index(wanted[start])
    assert printed[end : end + len(wanted) - start] == wanted[start:]
