"""The kill switch, thrown while a remediator stands between its last look and its write."""

import time
from datetime import datetime
from functools import partial

import pytest

from infra.deploy import store_url
from quietpager.model.incident import IntentState
from tests.e2e.bed import Bed, Write, api_writes, apply_fault, frozen, now, process_ids, quietpager, until
from tests.e2e.moments import moments
from tests.e2e.test_stories import memory_limit

TRIES = 4
"""The stop must fall into the few milliseconds between claim and write; a miss is tried anew."""

pytestmark = pytest.mark.timeout(400)


def test_stopped_between_check_and_write_is_refused_by_the_api_server(
    bed: Bed, capsys: pytest.CaptureFixture[str]
) -> None:
    for attempt in range(1, TRIES + 1):
        with bed.team("stop") as namespace:
            begun = now()
            apply_fault("oom-bounded", namespace)
            pids = process_ids("remediate-raise-memory")
            with moments(store_url()) as when:
                intent = when.wait("INTENT", "CLAIMED", 120)
                with frozen(pids):
                    time.sleep(0.3)
                    early = real_writes(namespace, begun)
                    stopped_at = now()
                    printed = quietpager("stop")
            if early:  # it had written already
                quietpager("resume")
                continue
            woken = now()
            try:
                write = until("the refusal", partial(real_writes, namespace, begun), 15)[0]
            except AssertionError:
                continue  # it woke after its act deadline, as on a busy machine, and sent nothing
            finally:
                print(quietpager("resume"))
            assert write.code == 403
            assert write.actor == "remediate-raise-memory"
            assert memory_limit(bed, namespace, "cache") == "32Mi"
            refused = next(i for i in bed.intents(namespace) if i.id == intent)
            assert refused.state is IntentState.REFUSED
            assert "403 Forbidden" in refused.result
            with capsys.disabled():
                print(f"\nstop: {printed.strip()}")
                print(
                    f"stop → refusal: {(write.at - stopped_at).total_seconds():.3f} s "
                    f"({(write.at - woken).total_seconds() * 1000:.0f} ms after it woke), try {attempt}"
                )
            return
    pytest.fail(f"in {TRIES} tries the remediator was never caught between its look and its write")


def real_writes(namespace: str, since: datetime) -> list[Write]:
    return [w for w in api_writes(since) if w.namespace == namespace and not w.dry_run]
