"""What every `quietpager.store.mailbox.Mailbox` promises."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from quietpager.model.store import StoreUnavailable
from quietpager.store.mailbox import Delivery, Mailbox
from quietpager.store.memory import MemoryMailbox
from quietpager.store.opening import open_mailbox
from quietpager.store.postgres_mailbox import PostgresMailbox


@pytest.fixture(params=["memory", "postgres", "dynamodb"])
def new(request: pytest.FixtureRequest) -> Callable[[], Mailbox]:
    """Open the same mailbox, as often as it is called."""
    if request.param == "memory":
        kept = MemoryMailbox()
        return lambda: kept
    if request.param == "postgres":
        url = request.getfixturevalue("new_database")()
    else:
        from tests.dynamodb import fresh  # noqa: PLC0415 (boto3 takes a while to import)

        url = fresh(request.getfixturevalue("dynamodb"))
    return lambda: open_mailbox(url)


@pytest.fixture
def mailbox(new: Callable[[], Mailbox]) -> Iterator[Mailbox]:
    with closing(new()) as made:
        yield made


def delivery(name: str) -> Delivery:
    return Delivery(name, "a-trigger", {"id": name, "data": {"text": "a\x00\ud800 🙂", "n": 1e16}})


def test_what_was_accepted_is_pending_in_order(mailbox: Mailbox) -> None:
    assert mailbox.pending() == []
    mailbox.accept([delivery("z"), delivery("a")])
    mailbox.accept([])
    mailbox.accept([delivery("m")])
    assert mailbox.pending() == [delivery("z"), delivery("a"), delivery("m")]


def test_completing_drops_one_and_keeps_its_follow_ups(mailbox: Mailbox) -> None:
    mailbox.accept([delivery("a"), delivery("b")])
    mailbox.complete("a", [delivery("a1"), delivery("a2")])
    assert mailbox.pending() == [delivery("b"), delivery("a1"), delivery("a2")]
    mailbox.complete("b", [])
    mailbox.complete("a1", [])
    assert mailbox.pending() == [delivery("a2")]


def test_doing_it_again_after_a_lost_answer_changes_nothing(mailbox: Mailbox) -> None:
    for _ in range(2):
        mailbox.accept([delivery("a")])
    for _ in range(2):
        mailbox.complete("a", [delivery("a1")])
    assert mailbox.pending() == [delivery("a1")]


def test_many_threads(mailbox: Mailbox) -> None:
    def work(n: int) -> None:
        mailbox.accept([delivery(f"{n}-{i}") for i in range(5)])
        for i in range(4):
            mailbox.complete(f"{n}-{i}", [])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(20)))
    assert {one.id for one in mailbox.pending()} == {f"{n}-4" for n in range(20)}


def test_another_process_reads_what_this_one_kept(new: Callable[[], Mailbox]) -> None:
    with closing(new()) as first, closing(new()) as second:
        first.accept([delivery("a")])
        assert second.pending() == [delivery("a")]
        second.accept([delivery("b")])
        assert first.pending() == [delivery("a"), delivery("b")]


def test_many_at_once_are_all_kept_in_order(mailbox: Mailbox) -> None:
    """More than one DynamoDB transaction holds."""
    every = [delivery(f"{n:03}") for n in range(230)]
    mailbox.accept(every)
    assert mailbox.pending() == every


def test_what_no_item_of_dynamodb_holds_is_delivered_and_not_kept(dynamodb: str) -> None:
    from tests.dynamodb import fresh  # noqa: PLC0415 (boto3 takes a while to import)

    noise = random.Random(1).randbytes(600_000).hex()  # noqa: S311 (what does not pack)
    with closing(open_mailbox(fresh(dynamodb))) as mailbox:
        mailbox.accept([delivery("a"), Delivery("large", "a-trigger", {"text": noise}), delivery("b")])
        assert mailbox.pending() == [delivery("a"), delivery("b")]
        mailbox.complete("large", [])
        assert mailbox.pending() == [delivery("a"), delivery("b")]


def test_a_database_that_is_away_is_a_sentence() -> None:
    with (
        closing(PostgresMailbox("postgresql://nobody@127.0.0.1:1/none")) as away,
        pytest.raises(StoreUnavailable, match="PostgreSQL"),
    ):
        away.pending()


def test_a_dynamodb_that_is_away_or_has_no_table_is_a_sentence(dynamodb: str) -> None:
    for endpoint in ("http://127.0.0.1:9", dynamodb):
        with (
            closing(open_mailbox(f"dynamodb://eu-west-1/none?endpoint={endpoint}")) as away,
            pytest.raises(StoreUnavailable, match=r"DynamoDB .*none"),
        ):
            away.pending()
