"""A person's command is about the cluster that the person means, and about no other.

Two clusters share a store. `stop` with a wrong name sets a switch that nobody reads, and says
that it is done.
"""

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from quietpager.cli import people
from quietpager.cli.main import main
from quietpager.incident import records
from quietpager.model.store import ABSENT, Json, Put, Store
from quietpager.runtime import connect
from quietpager.runtime.connect import STORE
from quietpager.store.opening import CLUSTER_NAME, open_store
from tests.roles import functions_url


@pytest.fixture
def url(new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> str:
    found = functions_url(new_database())
    monkeypatch.setenv(STORE, found)
    monkeypatch.delenv(CLUSTER_NAME, raising=False)
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    return found


def of(url: str, cluster: str) -> Store:
    return open_store(url, cluster=cluster)


def alive(url: str, *clusters: str) -> None:
    """Let a heartbeat of each of these clusters be there."""
    for cluster in clusters:
        of(url, cluster).transact([Put(records.heartbeat("clock"), {"at": "2026-11-29T00:00:00Z"}, ABSENT)])


def stop() -> Result:
    return CliRunner().invoke(main, ["stop"])


def switch(url: str, cluster: str) -> Json | None:
    found = of(url, cluster).get(records.SWITCH)
    return None if found is None else found.body


def test_the_only_cluster_is_meant_whatever_its_name(url: str) -> None:
    alive(url, "prod-eu")
    said = stop()
    assert "Writing is stopped" in said.output
    assert (switch(url, "prod-eu") or {})["stopped"] is True
    assert switch(url, "default") is None


def test_of_two_one_must_be_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alive(url, "prod-eu", "prod-us")
    said = stop()
    assert said.exit_code == 1
    assert "several clusters: prod-eu, prod-us" in said.output
    assert (switch(url, "prod-eu"), switch(url, "prod-us")) == (None, None)
    monkeypatch.setenv(CLUSTER_NAME, "prod-us")
    assert "Writing is stopped" in stop().output
    assert (switch(url, "prod-eu"), (switch(url, "prod-us") or {})["stopped"]) == (None, True)


def test_a_name_that_is_not_there_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alive(url, "prod-eu")
    monkeypatch.setenv(CLUSTER_NAME, "prod_eu".replace("_", ""))
    said = stop()
    assert said.exit_code == 1
    assert "no cluster prodeu. It holds: prod-eu" in said.output
    listed = CliRunner().invoke(main, ["incidents"])
    assert (listed.exit_code, "prod-eu" in listed.output) == (2, True)


def test_where_the_store_is_not_asked_the_wrong_switch_is_set(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: a command opens the store as a function does."""
    alive(url, "prod-eu")
    monkeypatch.setattr("quietpager.cli.switch.open_store", connect.open_store)
    assert "Writing is stopped" in stop().output
    assert switch(url, "prod-eu") is None


def test_an_empty_store_has_the_usual_name(url: str) -> None:
    opened: Any = people.open_store_or_exit()
    opened.transact([Put("SWITCH#x", {}, ABSENT)])
    assert of(url, "default").get("SWITCH#x") is not None
    opened.close()
