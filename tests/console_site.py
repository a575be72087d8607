"""A console over a product's store and clock, and browsers for it that need no network.

Who uses it: the console's own tests, and the attacks on it. The passwords are hashed quickly.
"""

import re
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from quietpager.people import users as accounts
from quietpager.people.roles import Role
from quietpager.people.users import Users

PASSWORD = "correct horse battery"  # noqa: S105 (of a test)

ROLES = {"alice": Role.APPROVER, "bob": Role.APPROVER, "vera": Role.VIEWER, "root": Role.ADMIN}
"""The accounts that every such console has."""


def quick_users(folder: Path) -> Users:
    """Make the accounts, with a hash that takes no time and no memory."""
    users = Users(folder / "users.json")
    with pytest.MonkeyPatch.context() as quick:
        quick.setattr(accounts, "METHOD", "pbkdf2:sha256:1")
        for name, role in ROLES.items():
            users.put(name, PASSWORD, role)
    return users


class Browser:
    """A person's browser: keeps cookies, and sends the forms that a page has."""

    def __init__(self, client: FlaskClient, address: str = "127.0.0.1") -> None:
        self.client, self.address = client, address
        self.page = ""
        self.status = 0
        self.headers: dict[str, str] = {}

    def get(self, path: str, **headers: str) -> str:
        answer = self.client.get(path, headers=headers, follow_redirects=True)
        self.page, self.status = answer.get_data(as_text=True), answer.status_code
        return self.page

    def sign_in(self, name: str, password: str = PASSWORD) -> "Browser":
        self.get("/sign-in")
        self.send("/sign-in", name=name, password=password)
        return self

    def send(self, path: str, **fields: str) -> str:
        answer = self.client.post(
            path,
            data=self.fields() | fields,
            follow_redirects=True,
            environ_overrides={"REMOTE_ADDR": self.address},
        )
        self.page, self.status = answer.get_data(as_text=True), answer.status_code
        self.headers = dict(answer.headers)
        return self.page

    def fields(self) -> dict[str, str]:
        """The hidden fields of the page that is shown: csrf, question, diff."""
        found = re.findall(r'name="(csrf|question|diff|next)" value="([^"]*)"', self.page)
        return dict(reversed(found))

    def said(self) -> str:
        return " ".join(re.findall(r'<p class="notice[^>]*>(.*?)</p>', self.page, re.DOTALL))

    def cookie(self, name: str = "quietpager") -> str:
        found = self.client.get_cookie(name)
        return "" if found is None else found.value

    def is_in(self) -> bool:
        """Whether the queue is shown to this browser."""
        return self.client.get("/").status_code == 200


def browser(app: Flask, address: str = "127.0.0.1") -> Browser:
    return Browser(app.test_client(), address)
