"""`quietpager console-user`: the accounts of the console, at a terminal."""

from collections.abc import Callable
from pathlib import Path

from quietpager.people.roles import Role
from quietpager.people.users import UnreadableUsers, Users, users_file


def change_account(
    name: str, file: Path | None, role: str | None, password: Callable[[], str], *, remove: bool
) -> tuple[bool, str]:
    """Add, change or remove an account of the console; gives whether it was done, and the sentence.

    Args:
        name: the account.
        file: the users file; None: the usual one.
        role: of an account that is there only the role changes; a new one without it is a viewer.
        password: asks for the password; called only where one is needed.
        remove: take it away.
    """
    users = Users(file or users_file())
    try:
        if remove:
            there = users.remove(name)
            return there, f"{name} is removed." if there else f"There is no account {name} in {users.path}."
        wanted = None if role is None else Role(role)
        if wanted is None or not users.set_role(name, wanted):
            users.put(name, password(), wanted)
        now = users.role(name)
    except (ValueError, UnreadableUsers) as no:
        return False, str(no)
    return True, f"{name} may sign in now, as {now}; accounts are in {users.path}."
