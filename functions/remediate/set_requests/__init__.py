"""The function remediate-set-requests: `new()` is what Knative's func calls."""

from quietpager.functions.remediate.set_requests.handler import handle
from quietpager.runtime.connect import function
from quietpager.runtime.edge import Function


def new() -> Function:
    """Make the function."""
    return function("remediate-set-requests", handle)
