"""The function analyze-unknown: `new()` is what Knative's func calls."""

from quietpager.functions.analyze.unknown.handler import handle
from quietpager.runtime.connect import function
from quietpager.runtime.edge import Function


def new() -> Function:
    """Make the function."""
    return function("analyze-unknown", handle)
