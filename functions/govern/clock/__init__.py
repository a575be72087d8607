"""The function govern-clock: `new()` is what Knative's func calls."""

from quietpager.functions.govern.clock.handler import handle
from quietpager.runtime.connect import function
from quietpager.runtime.edge import Function


def new() -> Function:
    """Make the function."""
    return function("govern-clock", handle, posts=True)
