"""The function remediate-raise-memory: `new()` is what Knative's func calls."""

from quietpager.functions.remediate.raise_memory.handler import handle
from quietpager.runtime.connect import function
from quietpager.runtime.edge import Function


def new() -> Function:
    """Make the function."""
    return function("remediate-raise-memory", handle)
