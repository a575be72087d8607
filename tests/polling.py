"""Waits for what a test set going. Who calls it: the sandbox's tests, and the tests' DynamoDB."""

import time
from collections.abc import Callable
from typing import Any

DEADLINE = 20.0


def until(ask: Callable[[], Any]) -> Any:
    """Poll until the answer is true; the deadline is generous, machines are slow."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if answer := ask():
            return answer
        time.sleep(0.02)
    raise AssertionError("it never came true")
