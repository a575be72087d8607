"""The functions' role: the database itself refuses it to change an audit entry, and all else still works.

That the product runs as it is shown by the store's whole contract suite, in which `postgres-functions` is
one of the back ends, and by a story from question to intent here.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import pytest
from click.testing import CliRunner

from infra.deploy.store import filled
from quietpager.cli.main import main
from quietpager.deciding import decisions
from quietpager.model.incident import State
from quietpager.model.store import Audit, StoreUnavailable
from quietpager.store.anchor import Anchored, Snapshot, heads_of, verify_anchors
from quietpager.store.audit import verify_all
from quietpager.store.mailbox import Delivery
from quietpager.store.postgres import PostgresStore
from quietpager.store.postgres_mailbox import PostgresMailbox
from quietpager.store.roles import FUNCTIONS, grants, migrate_as_owner
from tests.asked import Asked
from tests.roles import functions_url, make_role

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def urls(new_database: Callable[[], str]) -> tuple[str, str]:
    """Give a fresh database's address as its owner, and as the functions' role."""
    owner = new_database()
    return owner, functions_url(owner)


FORBIDDEN = [
    "UPDATE quietpager.audit SET body = '{}'",
    "UPDATE quietpager.audit SET seq = seq + 1",
    "DELETE FROM quietpager.audit",
    "TRUNCATE quietpager.audit",
    "ALTER TABLE quietpager.audit ADD COLUMN more text",
    "ALTER TABLE quietpager.audit OWNER TO current_user",
    "DROP TABLE quietpager.audit",
    (
        "INSERT INTO quietpager.audit SELECT * FROM quietpager.audit"
        " ON CONFLICT (chain, seq) DO UPDATE SET body = '{}'"
    ),
    "CREATE RULE r AS ON INSERT TO quietpager.audit DO INSTEAD NOTHING",
    (
        "CREATE TRIGGER t BEFORE INSERT ON quietpager.audit FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    ),
    "SELECT * FROM quietpager.audit FOR UPDATE",
    "MERGE INTO quietpager.audit a USING quietpager.audit b ON a.chain = b.chain WHEN MATCHED THEN DELETE",
    "DROP SCHEMA quietpager CASCADE",
    "CREATE TABLE quietpager.other (x int)",
    "ALTER TABLE quietpager.state ADD COLUMN more text",
    "TRUNCATE quietpager.state",
    "DELETE FROM quietpager.migration",
    "INSERT INTO quietpager.migration (number, name) VALUES (9999, 'x')",
    "SET ROLE postgres",
    "SET session_replication_role = replica",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_the_database_refuses_the_functions_whatever_would_change_the_audit(
    urls: tuple[str, str], statement: str
) -> None:
    store = PostgresStore(urls[1], connections=1)
    store.transact([Audit("a", NOW, "k", "me", {"n": 1})])
    before = store.audit("a")
    with (
        psycopg.connect(urls[1], autocommit=True) as connection,
        pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidGrantOperation)),
    ):
        connection.execute(statement.encode())
    assert store.audit("a") == before
    assert verify_all(store) == []
    store.close()


def test_the_owner_can_so_the_refusals_are_the_grants_work(urls: tuple[str, str]) -> None:
    """Without the role's limits the first statements of all succeed; the anchor and the chain find them."""
    store = PostgresStore(urls[1], connections=1)
    store.transact([Audit(chain, NOW, "k", "me", {"n": 1}) for chain in ("a", "b", "a")])
    anchor = [Anchored("a1", Snapshot.of(heads_of(store), NOW).to_text())]
    changes: dict[str, tuple[str, bool]] = {
        # A float that JSON does not have: as our escape for floats, which psql can write.
        'UPDATE quietpager.audit SET body = to_jsonb(\'{"n": "\ue000finf"}\'::json) WHERE seq = 1': (
            "edited",
            True,
        ),
        "UPDATE quietpager.audit SET hash = previous WHERE chain = 'a' AND seq = 2": ("edited", False),
        "UPDATE quietpager.audit SET previous = hash WHERE chain = 'a' AND seq = 2": (
            "does not follow",
            False,
        ),
        "UPDATE quietpager.audit SET kind = 'x'": ("edited", True),
        "UPDATE quietpager.audit SET actor = 'x'": ("edited", True),
        "UPDATE quietpager.audit SET at = at + interval '1 microsecond'": ("edited", True),
        "UPDATE quietpager.audit SET seq = 3 WHERE chain = 'a' AND seq = 2": ("missing", True),
        "UPDATE quietpager.audit SET chain = 'c' WHERE chain = 'b'": ("missing", True),
        "DELETE FROM quietpager.audit WHERE seq = 2": ("tail is cut", True),
        "TRUNCATE quietpager.audit": ("missing", True),
        "DELETE FROM quietpager.audit WHERE chain = 'b';DELETE FROM quietpager.state WHERE key = 'CHAIN#b'": (
            "",
            True,
        ),
        "DELETE FROM quietpager.state WHERE key = 'CHAIN#b'": ("head record is missing", False),
    }
    with psycopg.connect(urls[0]) as connection:
        for statement, (word, by_anchor) in changes.items():
            connection.execute(statement.encode())
            connection.commit()
            faults = verify_all(store)
            assert any(word in fault for fault in faults) if word else not faults, (statement, faults)
            assert bool(verify_anchors(store, anchor)) == by_anchor, statement
            restore(connection, store)
            assert verify_all(store) == []
    store.close()


def restore(connection: psycopg.Connection[tuple[object, ...]], store: PostgresStore) -> None:
    connection.execute("TRUNCATE quietpager.audit; DELETE FROM quietpager.state")
    connection.commit()
    store.transact([Audit(chain, NOW, "k", "me", {"n": 1}) for chain in ("a", "b", "a")])


def test_the_product_decides_as_that_role(urls: tuple[str, str]) -> None:
    asked = Asked(PostgresStore(urls[1]))
    name = asked.ask()
    said = decisions.answer(asked.store, name, "approve", by="alice", via="console", now=asked.now)
    assert said.used, said.sentence
    asked.tick()
    asked.plan(name)
    assert asked.the(name).state is State.ACTING
    assert len(asked.intents()) == 1
    assert verify_all(asked.store) == []
    asked.store.close()


def test_the_local_broker_keeps_its_deliveries_as_that_role(urls: tuple[str, str]) -> None:
    mailbox = PostgresMailbox(urls[1])
    mailbox.accept([Delivery("a", "t", {}), Delivery("b", "t", {})])
    mailbox.complete("a", [Delivery("c", "t", {})])
    assert [one.id for one in mailbox.pending()] == ["b", "c"]
    mailbox.close()


def test_a_function_before_its_tables_says_what_to_do(new_database: Callable[[], str]) -> None:
    url = functions_url(new_database(), migrated=False)
    store = PostgresStore(url)
    with pytest.raises(StoreUnavailable, match="Run `quietpager migrate` as the owner"):
        store.get("A#1")
    store.close()


def test_migrations_may_run_again_and_take_back_what_is_too_much(urls: tuple[str, str]) -> None:
    role = make_role(urls[0])
    with psycopg.connect(urls[0], autocommit=True) as connection:
        connection.execute(
            f"GRANT ALL ON quietpager.audit TO {role};"
            f"GRANT UPDATE (body) ON quietpager.audit TO {role}".encode()
        )
    assert migrate_as_owner(urls[0], role) == []
    with psycopg.connect(urls[0], autocommit=True) as connection:
        row = connection.execute(
            "SELECT has_table_privilege(%(r)s, 'quietpager.audit',"
            " 'UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER'),"
            " has_any_column_privilege(%(r)s, 'quietpager.audit', 'UPDATE'),"
            " has_table_privilege(%(r)s, 'quietpager.audit', 'SELECT') AND"
            " has_table_privilege(%(r)s, 'quietpager.audit', 'INSERT')", {"r": role},
        ).fetchone()  # fmt: skip
    assert row == (False, False, True)


@pytest.mark.parametrize("more", ["SUPERUSER", "IN ROLE pg_write_all_data"])
def test_a_role_that_no_grant_binds_is_refused(urls: tuple[str, str], more: str) -> None:
    role = make_role(urls[0], more)
    with pytest.raises(StoreUnavailable, match="would not be bound"):
        migrate_as_owner(urls[0], role)


def test_the_owner_itself_and_nobody_are_refused(urls: tuple[str, str]) -> None:
    with pytest.raises(StoreUnavailable, match="would not be bound: it is the tables' owner"):
        migrate_as_owner(urls[0], "postgres")
    with pytest.raises(StoreUnavailable, match='There is no role nobody "here'):
        migrate_as_owner(urls[0], 'nobody "here')


def test_a_name_is_quoted() -> None:
    assert 'TO "a""; DROP ROLE b";' in grants('a"; DROP ROLE b')
    with pytest.raises(ValueError, match="name"):
        grants("")


def test_the_command_migrates_and_says_what_it_did(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database()
    monkeypatch.setenv("QUIETPAGER_STORE", url)
    role = make_role(url)
    done = CliRunner().invoke(main, ["migrate", "--functions", role])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("Applied: 0001_store.sql")
    assert f"{role} may read and insert audit entries, and change none." in done.output
    assert CliRunner().invoke(main, ["migrate"]).output == "Applied: nothing, the tables are up to date.\n"
    assert CliRunner().invoke(main, ["migrate", "--functions", "nobody-here"]).exit_code == 1
    assert CliRunner().invoke(main, ["migrate", "--print"]).output == grants(FUNCTIONS)
    monkeypatch.setenv("QUIETPAGER_STORE", "dynamodb://x/y")
    assert CliRunner().invoke(main, ["migrate"]).exit_code == 1


def test_the_secret_gives_the_functions_their_own_role_and_keeps_passwords() -> None:
    old = {"password": "p", "url": "postgresql://quietpager:p@h:5432/quietpager"}
    now = filled(old)
    assert now["password"] == "p"  # noqa: S105 (not one)
    assert now["url"].startswith(f"postgresql://{FUNCTIONS}:{now['functions-password']}@")
    assert now["owner-url"].startswith("postgresql://quietpager:p@")
    assert filled(now) == now
