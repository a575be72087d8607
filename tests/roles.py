"""Databases with two roles, on the embedded PostgreSQL: the owner, and what the functions come as."""

import uuid

import psycopg
from psycopg.conninfo import make_conninfo

from quietpager.store.roles import migrate_as_owner


def make_role(owner: str, more: str = "") -> str:
    """Make a role of its own, for roles belong to the server and not to a database; gives its name."""
    role = f"functions_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN {more}".encode())
    return role


def functions_url(owner: str, *, migrated: bool = True) -> str:
    """Make the tables, and give the database's address as the functions' role."""
    role = make_role(owner)
    if migrated:
        migrate_as_owner(owner, role)
    return make_conninfo(owner, user=role)


def forget_chain(owner: str, chain: str) -> None:
    """Remove a chain together with its head, as only the tables' owner can."""
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("DELETE FROM quietpager.audit WHERE chain = %s", (chain,))
        connection.execute("DELETE FROM quietpager.state WHERE key = %s", (f"CHAIN#{chain}",))
