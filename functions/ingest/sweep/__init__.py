"""The function ingest-sweep: `new()` is what Knative's func calls."""

from quietpager.functions.ingest.sweep.handler import handle
from quietpager.runtime.connect import function
from quietpager.runtime.edge import Function


def new() -> Function:
    """Make the function."""
    return function("ingest-sweep", handle, posts=True)
