"""The function people-notify: `new()` is what Knative's func calls."""

from quietpager.functions.people.notify.handler import handle
from quietpager.runtime.connect import function
from quietpager.runtime.edge import Function


def new() -> Function:
    """Make the function."""
    return function("people-notify", handle)
