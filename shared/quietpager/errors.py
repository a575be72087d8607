"""The few exceptions that an author of a rule or an action must know.

Everything else that is raised inside a function is a bug; the runtime edge turns it into a 503, so
that the broker delivers again and at last hands the message to the dead letter.
"""


class GiveUp(Exception):  # noqa: N818 (the words a rule author reads)
    """The message can never be handled: 422, to the dead letter, never retried."""


class BadMessage(GiveUp):
    """The message is not what its type says: 400, to the dead letter, never retried."""


class NotProven(GiveUp):
    """Who sends the message does not prove who they are: 401, to the dead letter, never retried."""


class NotAllowed(GiveUp):
    """Who sends the message has proved it, and may not: 403, to the dead letter, never retried."""


class Retry(Exception):  # noqa: N818
    """Something that others provide is away for now: 503, the broker delivers again."""


class TooNew(Retry):
    """A record or message is of a version that this one cannot read: 503, until this function is upgraded."""


class Refused(Exception):  # noqa: N818
    """A plan or a guard says no. The text is the sentence that the person on call reads."""
