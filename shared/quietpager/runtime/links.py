"""Where the console is, for links in messages. Who calls it: `people/notify`, and the console itself."""

import os
from typing import Final

CONSOLE_URL: Final = "QUIETPAGER_CONSOLE_URL"
"""Environment variable: address of the console as people reach it, e.g. https://quietpager.example.com."""


def console_url() -> str:
    """Give the console's address without a trailing slash; empty where none is set."""
    return os.environ.get(CONSOLE_URL, "").strip().rstrip("/")


def incident_link(incident: str) -> str:
    """Give the address of one incident's page; empty where the console has no address."""
    base = console_url()
    return f"{base}/incident/{incident}" if base else ""
