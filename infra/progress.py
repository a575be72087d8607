"""Tells the person at the terminal what a long command has done, and when; each such command makes one."""

from time import monotonic


class Progress:
    """Says what was done, in seconds since the command began."""

    def __init__(self) -> None:
        """Begin now."""
        self._begun = monotonic()

    def __call__(self, what: str) -> None:
        """Print one line."""
        print(f"{monotonic() - self._begun:6.1f} s  {what}", flush=True)  # noqa: T201 (a command's own output)
