"""The database's two roles: one owns the tables, the other is the functions' and can only add to the audit.

Who calls it: `quietpager migrate`, `make deploy` and the tests. An owner can grant himself anything, so the
functions must not be the owner; `migrate` refuses a role for which its own grants would be no limit.
"""

from typing import TYPE_CHECKING, Any, Final

from quietpager.model.store import StoreUnavailable
from quietpager.store.migrate import OWN_NAMES, migrate
from quietpager.store.postgres import WAIT, speaking
from quietpager.store.rekey import move_postgres

if TYPE_CHECKING:
    from psycopg import Connection

FUNCTIONS: Final = "quietpager_functions"
"""What the functions' role is called where we make it."""

_GRANTS: Final = """\
REVOKE ALL ON SCHEMA quietpager FROM PUBLIC, {role};
REVOKE ALL ON ALL TABLES IN SCHEMA quietpager FROM PUBLIC, {role};
GRANT USAGE ON SCHEMA quietpager TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA quietpager TO {role};
REVOKE UPDATE, DELETE ON quietpager.audit FROM {role};
REVOKE INSERT, UPDATE, DELETE ON quietpager.migration FROM {role};
"""
"""In one transaction with the check. What a later migration adds is an ordinary table unless named here."""


def grants(role: str) -> str:
    """Write the SQL that gives a role what the functions need and no more; the owner runs it.

    Raises:
        ValueError: no role can have that name.
    """
    if not role or "\x00" in role:
        raise ValueError("A role's name is not empty and holds no NUL.")
    quoted = role.replace('"', '""')
    return _GRANTS.format(role=f'"{quoted}"')


def migrate_as_owner(url: str, functions: str | None = None, cluster: str = "default") -> list[str]:
    """Bring the tables up to date and grant the functions' role its rights; gives the migrations applied.

    Args:
        url: the database, as its owner.
        functions: the functions' role, which exists; None to grant nothing.
        cluster: whose the records are that an older version wrote, with keys that name no cluster.

    Raises:
        StoreUnavailable: PostgreSQL does not do it, or the role could change the audit all the same.
    """
    import psycopg  # noqa: PLC0415 (0.2 s of CPU, only when needed)

    with speaking(), psycopg.connect(url, autocommit=True, connect_timeout=WAIT) as connection:
        done = migrate(connection)
        moved = move_postgres(connection, cluster)
        if moved:
            done.append(f"{moved} records have keys of cluster {cluster}")
        if functions is not None:
            with connection.transaction():
                connection.execute(OWN_NAMES)
                if (
                    connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (functions,)).fetchone()
                    is None
                ):
                    raise StoreUnavailable(
                        f"There is no role {functions}. Make it first, by CREATE ROLE … LOGIN PASSWORD …"
                    )
                connection.execute(grants(functions).encode())
                if why := _unbound(connection, functions):
                    raise StoreUnavailable(
                        f"The role {functions} would not be bound: {why}. Nothing was granted."
                    )
    return done


def _unbound(connection: "Connection[Any]", role: str) -> str:
    """Say why a role could change audit entries after all; empty: it cannot."""
    row = connection.execute(
        "SELECT pg_has_role(%(role)s, tableowner, 'MEMBER'),"
        " has_table_privilege(%(role)s, 'quietpager.audit', 'UPDATE, DELETE, TRUNCATE, TRIGGER'),"
        " has_any_column_privilege(%(role)s, 'quietpager.audit', 'UPDATE'),"
        " has_schema_privilege(%(role)s, 'quietpager', 'CREATE')"
        " FROM pg_tables WHERE schemaname = 'quietpager' AND tablename = 'audit'",
        {"role": role},
    ).fetchone()
    if row is None:
        return "there is no audit table"
    owner, table, column, schema = row
    if owner:
        return "it is the tables' owner, a member of that role, or a superuser"
    if table or column or schema:
        return "it has more rights on the audit from another role that it is a member of"
    return ""
