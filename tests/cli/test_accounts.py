"""`quietpager console-user`: accounts, roles and passwords at a terminal."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from quietpager.cli.main import main
from quietpager.people import users as accounts
from quietpager.people.roles import Role
from quietpager.people.users import Users

PASSWORD = "correct horse battery"  # noqa: S105 (of a test)


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Users:
    monkeypatch.setattr(accounts, "METHOD", "pbkdf2:sha256:1")
    return Users(tmp_path / "users.json")


def run(users: Users, *args: str, password: str = PASSWORD) -> Result:
    return CliRunner().invoke(
        main, ["console-user", *args, "--users", str(users.path)], input=f"{password}\n{password}\n"
    )


def test_an_account_gets_the_role_that_is_named_and_keeps_its_password(users: Users) -> None:
    added = run(users, "alice", "--role", "approver")
    assert (added.exit_code, users.role("alice")) == (0, Role.APPROVER)
    mark = users.mark("alice")
    changed = run(users, "alice", "--role", "viewer", password="ignored, not asked for")  # noqa: S106
    assert "Password" not in changed.output
    assert (changed.exit_code, users.role("alice")) == (0, Role.VIEWER)
    assert users.check("alice", PASSWORD)
    assert users.mark("alice") != mark


def test_another_password_keeps_the_role_and_a_new_account_without_one_is_a_viewer(users: Users) -> None:
    run(users, "bob", "--role", "admin")
    run(users, "bob", password=PASSWORD + "!")
    assert (users.role("bob"), users.check("bob", PASSWORD + "!")) == (Role.ADMIN, True)
    run(users, "carol")
    assert users.role("carol") is Role.VIEWER


@pytest.mark.parametrize(
    ("args", "password", "sentence"),
    [
        (("dave",), "short", "at least 12 characters"),
        (("da ve",), PASSWORD, "letters, digits"),
        (("dave", "--remove"), PASSWORD, "There is no account dave"),
    ],
)
def test_what_is_not_done_is_said_with_exit_code_1(
    users: Users, args: tuple[str, ...], password: str, sentence: str
) -> None:
    done = run(users, *args, password=password)
    assert done.exit_code == 1
    assert sentence in done.output
    assert users.all() == {}


def test_an_account_that_is_removed_is_gone(users: Users) -> None:
    run(users, "erin", "--role", "admin")
    assert run(users, "erin", "--remove").exit_code == 0
    assert users.all() == {}
    assert run(users, "erin", "--role", "owner").exit_code == 2
