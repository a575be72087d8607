"""The test bed gives back what it took: after a normal stop, and after its starter was killed.

Run by `make e2e`, last: it stops the cluster, and leaves it stopped.
"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import sleep

import pytest

from infra.testbed import layout, machine

SEED = 4
KILLS = (0.4, 3.0, 9.0)
"""Seconds after which a starter is killed: while it takes things, while pods come up, near the end."""

pytestmark = pytest.mark.timeout(300)


def bring(*arguments: str) -> None:
    subprocess.run((sys.executable, "-m", "infra.testbed", *arguments), check=True, capture_output=True)


def footprint() -> dict[str, object]:
    """Say everything the test bed could leave behind, in a form that can be compared."""
    sysctls = Path("/proc/sys")
    names = [*machine.SETTINGS, *machine.INNER_SETTINGS, "net/netfilter/nf_conntrack_max"]
    rules = machine.run("iptables-save", check=False).stdout
    return {
        "processes": sorted(ours()),
        "mounts": sorted(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()),
        "network namespaces": sorted(p.name for p in Path("/run/netns").glob("*")),
        "links": [line.split()[1] for line in machine.run("ip", "-oneline", "link").stdout.splitlines()],
        "routes": machine.run("ip", "route").stdout.splitlines(),
        "iptables": [line for line in rules.splitlines() if not line.startswith(("#", ":"))],
        "cgroups": [str(p) for p in Path("/sys/fs/cgroup").glob("**/") if machine.CGROUP in p.name],
        "sysctls": {name: (sysctls / name).read_text() for name in names if (sysctls / name).exists()},
    }


def ours() -> Iterator[str]:
    """Give every living process that runs from the test bed's folders."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(layout.HOME) in command:  # a zombie has no command line
            yield command


@pytest.fixture(scope="module")
def before() -> dict[str, object]:
    """Stop whatever runs, and take that as the measure: `test_a_stopped_...` looks at it absolutely."""
    bring("stop")
    return footprint()


def test_a_stopped_test_bed_has_nothing_left(before: dict[str, object]) -> None:
    assert before["processes"] == []
    assert layout.NETNS not in str(before["network namespaces"])
    assert machine.HOST_LINK not in str(before["links"])
    assert layout.LINK_ADDRESS not in str(before["routes"])
    assert before["cgroups"] == []
    assert str(layout.CLUSTER) not in str(before["mounts"])


def test_a_running_one_shows_in_every_part(before: dict[str, object]) -> None:
    """The measure must see what it is to miss: else the tests below could not fail."""
    bring("start", "--no-knative")
    during = footprint()
    same = {part for part in before if during[part] == before[part]}
    assert same <= {"iptables"}  # its rules are all in its own namespace
    assert "KUBE-SERVICES" in machine.run(*machine.inside("iptables-save")).stdout
    bring("stop")
    assert footprint() == before


@pytest.mark.parametrize("seconds", KILLS)
def test_a_killed_starter_leaves_nothing_after_stop(before: dict[str, object], seconds: float) -> None:
    jitter = random.Random(f"{SEED}/{seconds}").uniform(0, seconds / 2)  # noqa: S311 (a test's dice)
    starter = subprocess.Popen((sys.executable, "-m", "infra.testbed", "start"), stdout=subprocess.DEVNULL)
    sleep(seconds + jitter)
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    assert machine.members(), "it was killed before it had begun"
    bring("stop")
    assert footprint() == before


def test_a_start_after_a_killed_one_comes_up(before: dict[str, object]) -> None:
    starter = subprocess.Popen((sys.executable, "-m", "infra.testbed", "start"), stdout=subprocess.DEVNULL)
    sleep(2)
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    bring("start")
    bring("stop")
    assert footprint() == before
