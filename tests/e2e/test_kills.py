"""`kill -9` in mid-work: the same outcomes, and never two writes for one intent."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.deploy import store_url
from quietpager.model.incident import State
from tests.e2e.bed import NAMESPACE, Bed, apply_fault, kill, now, set_image
from tests.e2e.moments import moments
from tests.e2e.test_stories import check_writes, memory_limit

KNATIVE = "knative-eventing"
SEED = 41
pytestmark = [pytest.mark.timeout(400), pytest.mark.whole]

Killer = Callable[[threading.Event, Counter[str]], None]


def at_state(kind: str, state: str, victim: str) -> Killer:
    """Kill at the very moment a record reaches a state: the victim has just committed it."""

    def run(over: threading.Event, killed: Counter[str]) -> None:
        with moments(store_url()) as when:
            while not over.is_set() and killed[victim] < 1:
                try:
                    when.wait(kind, state, 1)
                except AssertionError:
                    continue
                killed[victim] += kill(victim)

    return run


def now_and_then(victim: str, namespace: str = NAMESPACE, *, pause: float = 6.0, times: int = 3) -> Killer:
    """Kill it a few times while work goes on; the kubelet takes longer each time to start it again."""

    def run(over: threading.Event, killed: Counter[str]) -> None:
        dice = random.Random(f"{SEED}/{victim}")  # noqa: S311 (a test's dice)
        while killed[victim] < times and not over.wait(dice.uniform(pause / 2, pause)):
            killed[victim] += kill(victim, namespace)

    return run


@pytest.mark.parametrize(
    "killers",
    [
        pytest.param(
            {"govern-decide": now_and_then("govern-decide"), "govern-clock": now_and_then("govern-clock")},
            id="decide and clock",
        ),
        pytest.param(
            {
                "remediate-raise-memory": at_state("INTENT", "CLAIMED", "remediate-raise-memory"),
                "remediate-rollout-undo": at_state("INTENT", "CLAIMED", "remediate-rollout-undo"),
            },
            id="each remediator, just after its claim",
        ),
        pytest.param({"imc-dispatcher": now_and_then("imc-dispatcher", KNATIVE)}, id="the dispatcher"),
        pytest.param({"postgres": now_and_then("postgres", pause=10.0, times=2)}, id="PostgreSQL"),
    ],
)
def test_same_outcomes(bed: Bed, killers: dict[str, Killer], capsys: pytest.CaptureFixture[str]) -> None:
    over, killed = threading.Event(), Counter[str]()
    with bed.team("kill-oom") as oom, bed.team("kill-tag") as tag, ThreadPoolExecutor() as pool:
        apply_fault("bad-tag", tag)
        bed.wait_healthy(tag, "web")
        begun, clock = now(), time.monotonic()
        running = [pool.submit(killer, over, killed) for killer in killers.values()]
        try:
            apply_fault("oom-bounded", oom)
            set_image(tag, "web", "web", "registry.example.com/good/app:missing")
            ends = [bed.ended(oom, 240), bed.ended(tag, 240)]
        finally:
            over.set()
        for one in running:
            one.result()
        assert set(killed) == set(killers), f"not every victim was killed: {killed}"
        for namespace, end in zip((oom, tag), ends, strict=True):
            assert (end.state, end.reason) == (State.CLOSED, "fixed"), bed.story(namespace)
        assert memory_limit(bed, oom, "cache") == "64Mi"
        writes = [check_writes(bed, namespace, begun) for namespace in (oom, tag)]
        with capsys.disabled():
            seconds = time.monotonic() - clock
            print(f"\nkilled {dict(killed)}: fixed and fixed after {seconds:.0f} s, writes {writes}")
