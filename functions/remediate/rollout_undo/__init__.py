"""The function remediate-rollout-undo: `new()` is what Knative's func calls."""

from quietpager.functions.remediate.rollout_undo.handler import handle
from quietpager.runtime.connect import function
from quietpager.runtime.edge import Function


def new() -> Function:
    """Make the function."""
    return function("remediate-rollout-undo", handle)
