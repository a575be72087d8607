"""The function detect-config: `new()` is what Knative's func calls."""

from quietpager.functions.detect.config.handler import handle
from quietpager.runtime.connect import function
from quietpager.runtime.edge import Function


def new() -> Function:
    """Make the function."""
    return function("detect-config", handle)
