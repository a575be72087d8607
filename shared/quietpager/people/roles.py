"""Who may do what in the console: three roles, and for every route the least one that it takes.

A route that is not in the table is open to nobody. Who reads it: the guard before every request, and the
pages, which show no button that the person's role does not allow.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What an account may do; each role may do what those before it may."""

    VIEWER = "viewer"
    """Reads every page."""
    APPROVER = "approver"
    """Answers, too: approve, modify, reject, take over."""
    ADMIN = "admin"
    """Stops all writing, sees the accounts, and ends their sessions."""

    def covers(self, needed: "Role") -> bool:
        """Tell whether this role may do what takes `needed`."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(needed)


NEEDS: Final[Mapping[str, Role | None]] = {
    "static": None,
    "sign_in": None,
    "sign_out": Role.VIEWER,
    "home": Role.VIEWER,
    "part": Role.VIEWER,
    "incident": Role.VIEWER,
    "dial": Role.VIEWER,
    "writing": Role.VIEWER,
    "decide": Role.APPROVER,
    "stop": Role.ADMIN,
    "accounts": Role.ADMIN,
    "end_sessions": Role.ADMIN,
}
"""For each endpoint the least role that it takes; None: nobody has to be signed in."""
