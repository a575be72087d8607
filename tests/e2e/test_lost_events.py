"""Events that are lost: the source's adapter is dead while a fault happens, and the sweep finds it."""

import json
import threading
import time

import pytest

from infra.testbed.addons import kubectl
from tests.e2e.bed import NAMESPACE, Bed, apply_fault, kill, now, pods, set_image, until

LATEST = 60.0
"""Seconds in which the sweep must have found it (promised)."""

pytestmark = [pytest.mark.timeout(400), pytest.mark.whole]


def adapter() -> str:
    """Find the Deployment that Knative made for our ApiServerSource."""
    found = json.loads(kubectl("-n", NAMESPACE, "get", "deployments", "-o", "json").stdout)["items"]
    names = [str(one["metadata"]["name"]) for one in found]
    return next(name for name in names if name.startswith("apiserversource-"))


def is_in_a_long_back_off() -> bool:
    """Tell whether the adapter has been killed so often that it stays away for 40 seconds."""
    found = [one for pod in pods(adapter()) for one in pod["status"].get("containerStatuses", ())]
    return bool(found) and all("waiting" in one["state"] and one["restartCount"] >= 3 for one in found)


def test_the_sweep_finds_what_the_source_lost(bed: Bed, capsys: pytest.CaptureFixture[str]) -> None:
    over = threading.Event()

    def keep_dead() -> None:
        while not over.is_set():
            kill(adapter())
            time.sleep(0.2)

    with bed.team("lost") as namespace:
        apply_fault("bad-tag", namespace)
        bed.wait_healthy(namespace, "web")
        killer = threading.Thread(target=keep_dead)
        killer.start()
        try:
            # The kubelet starts it again: at once, after 10 s, after 20 s, after 40 s.
            until("the adapter's long death", is_in_a_long_back_off, 90)
            begun = now()
            set_image(namespace, "web", "web", "registry.example.com/good/app:missing")
            until("an incident", lambda: bed.incidents(namespace), LATEST)
            seconds = (bed.incidents(namespace)[0].opened_at - begun).total_seconds()
        finally:
            over.set()
            killer.join()
        mine = [
            m for m in bed.spy.messages() if m["at"] > begun.timestamp() and m.get("namespace") == namespace
        ]
        signals = [json.loads(m["data"]) for m in mine if m["type"] == "dev.quietpager.signal"]
        assert signals[0]["origin"] == "sweep"
        with capsys.disabled():
            print(f"\nlost events: found by the sweep after {seconds:.1f} s (promised: {LATEST:.0f} s)")
        assert seconds <= LATEST
        bed.ended(namespace)
