"""The function learn-codify: `new()` is what Knative's func calls."""

from quietpager.functions.learn.codify.handler import handle
from quietpager.runtime.connect import function
from quietpager.runtime.edge import Function


def new() -> Function:
    """Make the function."""
    return function("learn-codify", handle)
