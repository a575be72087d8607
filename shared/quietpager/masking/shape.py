"""The text that replaces a secret. Who calls it: every module that masks, and the tests."""

from typing import Final

MASK: Final = "[masked]"
"""What stands where a secret was."""
