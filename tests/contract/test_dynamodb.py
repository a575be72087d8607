"""What is particular to DynamoDB: its limits, its answers under contention, and its rights."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from click.testing import CliRunner

from quietpager.cli.main import main as command
from quietpager.errors import Retry
from quietpager.model.store import ABSENT, Audit, Conflict, Due, Put, StoreUnavailable
from quietpager.runtime import connect
from quietpager.store import opening
from quietpager.store.dynamodb import SHARDS, TRIES, DynamoStore
from quietpager.store.dynamodb_schema import TERRAFORM
from quietpager.store.dynamodb_tables import Tables
from tests.dynamodb import REGION, client, fresh

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TICK = timedelta(seconds=5)


class Busy:
    """A client whose first transactions meet another one, as AWS says it."""

    def __init__(self, real: Any, code: str, times: int) -> None:
        self.real, self.code, self.left, self.exceptions = real, code, times, real.exceptions

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def transact_write_items(self, **asked: Any) -> Any:
        if self.left:
            self.left -= 1
            raise ClientError({"Error": {"Code": self.code, "Message": "busy"}}, "TransactWriteItems")
        return self.real.transact_write_items(**asked)


@pytest.fixture
def url(dynamodb: str) -> str:
    return fresh(dynamodb)


@pytest.fixture
def store(url: str, dynamodb: str) -> Iterator[DynamoStore]:
    made = DynamoStore(url, client=client(dynamodb))
    yield made
    made.close()


def test_a_transaction_that_met_another_is_tried_again(
    url: str, dynamodb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    busy = Busy(client(dynamodb), "TransactionConflictException", TRIES - 1)
    store = DynamoStore(url, client=busy)
    store.transact([Put("A#1", {}, ABSENT), Audit("c", NOW, "k", "me")])
    assert store.get("A#1") is not None
    assert [entry.seq for entry in store.audit("c")] == [1]
    busy.left = TRIES
    with pytest.raises(StoreUnavailable, match="too busy"):
        store.transact([Put("A#2", {}, ABSENT)])
    assert store.get("A#2") is None


def test_met_by_another_that_won_it_is_a_conflict(url: str, dynamodb: str) -> None:
    store = DynamoStore(url, client=Busy(client(dynamodb), "TransactionConflictException", 0))
    store.transact([Put("A#1", {"first": True}, ABSENT)])
    store = DynamoStore(url, client=Busy(client(dynamodb), "TransactionConflictException", 1))
    with pytest.raises(Conflict) as caught:
        store.transact([Put("A#1", {}, ABSENT)])
    assert caught.value.found is not None
    assert caught.value.found.body == {"first": True}


@pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "AccessDeniedException"])
def test_any_other_answer_is_unavailable_with_its_words(url: str, dynamodb: str, code: str) -> None:
    store = DynamoStore(url, client=Busy(client(dynamodb), code, 1))
    with pytest.raises(StoreUnavailable, match=f"{REGION}.*{code}"):
        store.transact([Put("A#1", {}, ABSENT)])


def test_nobody_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    store = DynamoStore(f"dynamodb://{REGION}/none?endpoint=http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable, match="none") as caught:
        store.get("A#1")
    assert isinstance(caught.value.__cause__, EndpointConnectionError)


def test_more_than_it_can_hold_is_refused_before_anything_is_written(store: DynamoStore) -> None:
    with pytest.raises(ValueError, match="at most 100"):
        store.transact([Put(f"A#{n}", {}, ABSENT) for n in range(101)])
    noise = random.Random(1).randbytes(600_000).hex()  # noqa: S311 (what does not pack)
    with pytest.raises(ValueError, match="at most 380,000"):
        store.transact([Put("A#big", {"text": noise}, ABSENT), Put("A#small", {}, ABSENT)])
    assert store.scan("A") == []


def test_due_items_lie_on_every_shard_and_expiry_is_compared(store: DynamoStore) -> None:
    store.transact([Due(f"d{n}", NOW + n * TICK, TICK, {}) for n in range(40)])
    spread = {store._put_due(Due(f"d{n}", NOW, TICK, {}))["Put"]["Item"]["shard"]["N"] for n in range(40)}
    assert spread == {str(n) for n in range(SHARDS)}
    assert [due.id for due in store.claim_due(NOW + 2 * TICK, 10)] == ["d0", "d1", "d2"]


def test_what_the_index_shows_late_is_not_claimed(store: DynamoStore, dynamodb: str) -> None:
    """The index may still show an item that was moved or taken away; its own condition decides."""
    store.transact([Due("gone", NOW, TICK, {}), Due("moved", NOW, TICK, {}), Due("here", NOW, TICK, {})])
    stale = [due for shard in range(SHARDS) for due in store._ripe(shard, NOW, 10)]
    store.transact([Due("moved", NOW + 2 * TICK, TICK, {})])
    client(dynamodb).delete_item(TableName=store._due, Key={"pk": {"S": "=gone"}})
    assert sorted(due.id for due in stale) == ["gone", "here", "moved"]
    assert [due.id for due in stale if store._moved(due, NOW)] == ["here"]
    assert {due.id: due.at for due in store.due_items()} == {"here": NOW + TICK, "moved": NOW + 2 * TICK}


@pytest.mark.parametrize("url", ["dynamodb://", "dynamodb://eu-west-1", "dynamodb:///prefix", "http://a/b"])
def test_a_wrong_url_is_a_sentence(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="dynamodb://REGION/PREFIX"):
        DynamoStore(url)
    if url.startswith("dynamodb:"):
        monkeypatch.setenv(connect.STORE, url)
        with pytest.raises(Retry, match="QUIETPAGER_STORE"):
            connect.open_store()


def test_the_environment_chooses_the_back_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(connect.STORE, f"dynamodb://{REGION}/prefix")
    monkeypatch.setattr(opening, "of_cluster", lambda back_end, _cluster: back_end)
    assert isinstance(connect.open_store(), DynamoStore)


def migrated(monkeypatch: pytest.MonkeyPatch, url: str, *words: str) -> tuple[int, str]:
    monkeypatch.setenv(connect.STORE, url)
    done = CliRunner().invoke(command, ["migrate", *words])
    return done.exit_code, done.output


def test_migrate_makes_the_tables_where_it_is_not_aws(dynamodb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"dynamodb://{REGION}/t-migrate?endpoint={dynamodb}"
    code, said = migrated(monkeypatch, url)
    assert (code, said.startswith("Made: t-migrate-state, t-migrate-audit, ")) == (0, True)
    store = DynamoStore(url)
    store.transact([Put("A#1", {}, ABSENT)])
    assert migrated(monkeypatch, url) == (0, "The tables are there.\n")
    assert store.get("A#1") is not None
    store.close()


def test_migrate_makes_no_table_on_aws_and_has_no_roles_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tables, "exists", lambda *_: False)
    code, said = migrated(monkeypatch, f"dynamodb://{REGION}/t-aws")
    assert (code, "t-aws-state" in said, "on AWS Terraform makes them" in said) == (1, True, True)
    code, said = migrated(monkeypatch, f"dynamodb://{REGION}/t-aws", "--functions", "somebody")
    assert (code, said.startswith("DynamoDB has no roles of its own")) == (1, True)


def test_the_functions_may_insert_and_read_the_audit_and_nothing_else() -> None:
    terraform = json.loads(TERRAFORM.read_text(encoding="utf-8"))
    statements = terraform["data"]["aws_iam_policy_document"]["functions"]["statement"]
    about = [one for one in statements if any("aws_dynamodb_table.audit" in r for r in one["resources"])]
    allowed = {action for one in about if one.get("effect") != "Deny" for action in one["actions"]}
    denied = {action for one in about if one.get("effect") == "Deny" for action in one["actions"]}
    assert allowed == {"dynamodb:PutItem", "dynamodb:Query"}
    assert {"dynamodb:UpdateItem", "dynamodb:DeleteItem"} <= denied
    assert not any("*" in action for one in statements for action in one["actions"])
    assert not any(resource == "*" for one in statements for resource in one["resources"])
