"""A story with kills as pods, with DynamoDB as the store; dynoxide in a pod is the DynamoDB.

Skipped by `make e2e`, whose bed has PostgreSQL. By itself:

    make deploy ARGS="--store dynamodb"
    QUIETPAGER_E2E=1 .venv/bin/pytest -q tests/e2e/test_dynamodb.py
    make deploy
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.deploy import on_dynamodb, store_url
from infra.testbed.addons import kubectl
from quietpager.model.incident import State
from quietpager.store.audit import verify_all
from quietpager.store.opening import open_store
from tests.e2e.bed import NAMESPACE, Bed, admin, apply_fault, now, quietpager, spying
from tests.e2e.test_kills import Killer, now_and_then
from tests.e2e.test_stories import check_writes, memory_limit

pytestmark = pytest.mark.timeout(400)

VICTIMS: dict[str, Killer] = {
    "govern-decide": now_and_then("govern-decide"),
    "govern-clock": now_and_then("govern-clock"),
    "remediate-raise-memory": now_and_then("remediate-raise-memory", pause=3.0, times=2),
}


@pytest.fixture
def dynamodb_bed(tmp_path: Path) -> Iterator[Bed]:
    if not on_dynamodb():
        pytest.skip("the bed's store is PostgreSQL: make deploy ARGS='--store dynamodb'")
    kubectl("-n", NAMESPACE, "rollout", "status", "deployments", "--timeout=120s", check=False)
    store = open_store(store_url())
    print(quietpager("resume"))
    with spying(tmp_path / "messages.jsonl") as spy:
        yield Bed(admin(), store, spy)
    print(quietpager("stop"))
    assert verify_all(store) == []
    store.close()


def test_a_workload_heals_while_those_who_heal_it_are_killed(
    dynamodb_bed: Bed, capsys: pytest.CaptureFixture[str]
) -> None:
    bed, over, killed = dynamodb_bed, threading.Event(), Counter[str]()
    with bed.team("dynamodb-oom") as namespace, ThreadPoolExecutor() as pool:
        begun, clock = now(), time.monotonic()
        running = [pool.submit(killer, over, killed) for killer in VICTIMS.values()]
        try:
            apply_fault("oom-bounded", namespace)
            end = bed.ended(namespace, 240)
        finally:
            over.set()
        for one in running:
            one.result()
        assert set(killed) == set(VICTIMS), f"not every victim was killed: {killed}"
        assert (end.state, end.reason) == (State.CLOSED, "fixed"), bed.story(namespace)
        assert memory_limit(bed, namespace, "cache") == "64Mi"
        writes = check_writes(bed, namespace, begun)
        with capsys.disabled():
            seconds = time.monotonic() - clock
            print(f"\non DynamoDB, killed {dict(killed)}: fixed after {seconds:.0f} s, writes {writes}")
