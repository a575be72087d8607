"""The function govern-anchor: `new()` is what Knative's func calls."""

from quietpager.functions.govern.anchor.handler import handle
from quietpager.runtime.connect import function
from quietpager.runtime.edge import Function


def new() -> Function:
    """Make the function."""
    return function("govern-anchor", handle)
