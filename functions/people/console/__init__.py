"""The console: `new()` is what Knative's func calls, and `quietpager console`."""

from quietpager.functions.people.console.web import Console


def new() -> Console:
    """Make the console."""
    return Console()
