"""remediate/set_requests: rehearses and carries out `set-requests`, the one change it has rights for."""

from quietpager.functions.remediate.set_requests.plan import plan
from quietpager.model.message import Message
from quietpager.runtime.context import Context
from quietpager.runtime.remediating import remediate


def handle(message: Message, ctx: Context) -> list[Message]:
    """Handle `remedy.rehearse`, `remedy.apply` and `remedy.undo` of `set-requests`."""
    return remediate(message, ctx, "set-requests", plan)
