"""detect/config: reads the live object and finds its failure class; has no write rights at all."""

from quietpager.functions.detect.config.diagnose import diagnose
from quietpager.model.message import Message
from quietpager.runtime.context import Context
from quietpager.runtime.detecting import detect


def handle(message: Message, ctx: Context) -> list[Message]:
    """Handle one signal of family `config`."""
    return detect(message, ctx, "config", diagnose)
