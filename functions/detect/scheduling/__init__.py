"""The function detect-scheduling: `new()` is what Knative's func calls."""

from quietpager.functions.detect.scheduling.handler import handle
from quietpager.runtime.connect import function
from quietpager.runtime.edge import Function


def new() -> Function:
    """Make the function."""
    return function("detect-scheduling", handle)
