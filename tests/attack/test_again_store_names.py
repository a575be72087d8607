"""A hijacked function leaves a function of its own in the database, for the owner to run.

Up to PostgreSQL 14 every role may create objects in the schema `public` (here that right is given, as there).
`to_tsvector('simple', …)` of a migration means the built-in function, unless somebody has made one whose
arguments fit better; it would run with the rights of the tables' owner, who can change the audit.
"""

from collections.abc import Callable

import psycopg
import pytest

from quietpager.store import migrate, roles
from quietpager.store.roles import migrate_as_owner
from tests.roles import make_role

FORGED = (
    "CREATE FUNCTION public.to_tsvector(text, text) RETURNS tsvector IMMUTABLE LANGUAGE sql"
    " AS $$ SELECT pg_catalog.to_tsvector($2) $$;"
    "CREATE FUNCTION public.pg_has_role(text, name, text) RETURNS boolean LANGUAGE sql AS 'SELECT false'"
)


def upgraded(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Migrate halfway, let the functions' role prepare its trap, and migrate on; gives the index's text."""
    role, every = make_role(url), migrate.migrations()
    with monkeypatch.context() as older:
        older.setattr(migrate, "migrations", lambda: every[:1])
        migrate_as_owner(url, role)
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
        owner.execute(f"SET ROLE {role}".encode())
        owner.execute(FORGED)
    assert "0005_past.sql" in migrate_as_owner(url, role)
    with psycopg.connect(url) as owner:
        owner.execute("SET search_path = ''")
        row = owner.execute("SELECT pg_get_indexdef('quietpager.past_words'::regclass)").fetchone()
    assert row is not None
    return str(row[0])


def test_a_migration_runs_no_function_that_a_function_left_there(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "public." not in upgraded(new_database(), monkeypatch)


def test_without_the_owners_own_names_it_does(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (migrate, roles):
        monkeypatch.setattr(module, "OWN_NAMES", "SELECT 1")
    assert "public.to_tsvector" in upgraded(new_database(), monkeypatch)
