"""remediate/raise_memory: rehearses and carries out `raise-memory`, the one change it has rights for."""

from quietpager.functions.remediate.raise_memory.plan import plan
from quietpager.model.message import Message
from quietpager.runtime.context import Context
from quietpager.runtime.remediating import remediate


def handle(message: Message, ctx: Context) -> list[Message]:
    """Handle `remedy.rehearse`, `remedy.apply` and `remedy.undo` of `raise-memory`."""
    return remediate(message, ctx, "raise-memory", plan)
