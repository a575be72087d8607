"""remediate/rollout_undo: rehearses and carries out `rollout-undo`, the one change it has rights for."""

from quietpager.functions.remediate.rollout_undo.plan import plan
from quietpager.model.message import Message
from quietpager.runtime.context import Context
from quietpager.runtime.remediating import remediate


def handle(message: Message, ctx: Context) -> list[Message]:
    """Handle `remedy.rehearse`, `remedy.apply` and `remedy.undo` of `rollout-undo`."""
    return remediate(message, ctx, "rollout-undo", plan)
