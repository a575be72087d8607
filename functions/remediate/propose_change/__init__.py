"""The function remediate-propose-change: `new()` is what Knative's func calls."""

from quietpager.functions.remediate.propose_change.handler import handle
from quietpager.runtime.connect import function
from quietpager.runtime.edge import Function


def new() -> Function:
    """Make the function."""
    return function("remediate-propose-change", handle)
