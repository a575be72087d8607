"""What every `quietpager.store.mailbox.Mailbox` promises."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from quietpager.model.store import StoreUnavailable
from quietpager.store.mailbox import Delivery, Mailbox
from quietpager.store.memory import MemoryMailbox
from quietpager.store.postgres_mailbox import PostgresMailbox


@pytest.fixture(params=["memory", "postgres"])
def mailbox(request: pytest.FixtureRequest) -> Iterator[Mailbox]:
    if request.param == "memory":
        yield MemoryMailbox()
    else:
        with closing(PostgresMailbox(request.getfixturevalue("new_database")())) as made:
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


def test_another_process_reads_what_this_one_kept(new_database: Callable[[], str]) -> None:
    url = new_database()
    with closing(PostgresMailbox(url)) as first, closing(PostgresMailbox(url)) as second:
        first.accept([delivery("a")])
        assert second.pending() == [delivery("a")]


def test_a_database_that_is_away_is_a_sentence() -> None:
    with (
        closing(PostgresMailbox("postgresql://nobody@127.0.0.1:1/none")) as away,
        pytest.raises(StoreUnavailable, match="PostgreSQL"),
    ):
        away.pending()
