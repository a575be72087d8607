"""Signing in to the console as a weapon: its cost, locks that a stranger turns, counts that a stranger wipes.

Denial of service, from anywhere that reaches the sign-in page. Twenty-four sign-ins at once cost 261 MiB; ten
wrong passwords by anybody locked a known account; a thousand invented names made it forget all counts.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.security import check_password_hash

from quietpager.functions.people.console import door, throttle
from quietpager.functions.people.console.app import make_app
from quietpager.functions.people.console.door import Door
from quietpager.functions.people.console.throttle import ADDRESS, ALL, DEVICE, PAIR, Throttle, Wait, network
from quietpager.people import users as accounts
from quietpager.people.users import Users
from quietpager.store.memory import MemoryStore
from tests.asked import START, Asked
from tests.console_site import PASSWORD, browser, quick_users

STRANGER = "203.0.113.9"
HOME = "198.51.100.7"
QUICK = "pbkdf2:sha256:1$x$00"


@pytest.fixture
def asked() -> Asked:
    return Asked(MemoryStore())


@pytest.fixture
def users(tmp_path: Path) -> Users:
    return quick_users(tmp_path)


@pytest.fixture
def nobody() -> str:
    """How nobody's password is compared here: quickly, as the accounts' are."""
    return QUICK


@pytest.fixture
def app(asked: Asked, users: Users, nobody: str, monkeypatch: pytest.MonkeyPatch) -> Flask:
    if nobody == QUICK:
        monkeypatch.setattr(accounts, "_NOBODY", QUICK)
    return make_app(asked.ctx, users, secure=False)


def tries(app: Flask, name: str, times: int, address: str = STRANGER) -> int:
    """Try wrong passwords; gives the last status."""
    one = browser(app, address)
    for _ in range(times):
        one.sign_in(name, "wrong")
    return one.status


# What it costs

COST = """
import json, resource, sys, tempfile, threading
from pathlib import Path
from quietpager.functions.people.console import door
from quietpager.functions.people.console.app import make_app
from quietpager.people.users import Users
from quietpager.store.memory import MemoryStore
from tests.asked import Asked
from tests.console_site import PASSWORD, browser

door.AT_ONCE = int(sys.argv[1])
users = Users(Path(tempfile.mkdtemp()) / "users.json")
users.put("alice", PASSWORD)
app = make_app(Asked(MemoryStore()).ctx, users, secure=False)
browser(app).sign_in("alice")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
visitors = [browser(app, f"203.0.113.{number}") for number in range(24)]
together = threading.Barrier(24)

def go(number):
    visitors[number].get("/sign-in")
    together.wait()
    visitors[number].send("/sign-in", name=f"name-{number}", password="wrong")

threads = [threading.Thread(target=go, args=(number,)) for number in range(24)]
[one.start() for one in threads]
[one.join() for one in threads]
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"more": after - before, "statuses": [one.status for one in visitors],
                  "again": [one.headers.get("Retry-After") for one in visitors if one.status == 503]}))
"""


def cost(at_once: int) -> dict[str, Any]:
    """Let 24 people sign in at once, with the real hash, in a process of their own: KiB more, and answers."""
    done = subprocess.run(
        [sys.executable, "-c", COST, str(at_once)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_24_sign_ins_at_once_take_no_more_memory_than_a_few() -> None:
    found = cost(door.AT_ONCE)
    assert found["more"] < 100 << 10
    assert set(found["statuses"]) <= {401, 503}
    assert 401 in found["statuses"]
    assert set(found["again"]) <= {"5"}


def test_without_the_queue_24_sign_ins_take_the_memory_of_24() -> None:
    # How many are at work at one moment, a busy machine decides; the queue keeps it below 100 MiB.
    assert cost(24)["more"] > 130 << 10


def test_a_full_queue_says_when_to_come_again_and_has_a_way_for_those_who_were_here_before(
    app: Flask, users: Users, monkeypatch: pytest.MonkeyPatch, asked: Asked
) -> None:
    monkeypatch.setattr(door, "WAITING", 0)
    app = make_app(asked.ctx, users, secure=False)
    alice = browser(app, HOME).sign_in("alice")
    inside, go_on, real = threading.Event(), threading.Event(), users.check

    def slow(name: str, password: str) -> bool:
        if name == "mallory":
            inside.set()
            assert go_on.wait(30)
        return real(name, password)

    monkeypatch.setattr(users, "check", slow)
    thread = threading.Thread(target=tries, args=(app, "mallory", 1))
    thread.start()
    try:
        assert inside.wait(30)
        bob = browser(app, HOME).sign_in("bob")
        assert (bob.status, bob.headers["Retry-After"]) == (503, "5")
        assert "Nothing was checked" in bob.said()
        alice.send("/sign-out")
        assert alice.sign_in("alice").is_in()
    finally:
        go_on.set()
        thread.join()


# Locks


def test_a_stranger_locks_nobody_out(app: Flask) -> None:
    alice = browser(app, HOME).sign_in("alice")
    assert tries(app, "alice", 100) == 429
    assert browser(app, HOME).sign_in("alice").is_in()
    alice.send("/sign-out")
    alice.address = STRANGER  # even from the stranger's own address
    assert alice.sign_in("alice").is_in()
    assert browser(app, STRANGER).sign_in("alice").status == 429


def test_strangers_everywhere_do_not_lock_out_a_browser_that_was_here_before(
    app: Flask, asked: Asked, users: Users
) -> None:
    alice = browser(app, HOME).sign_in("alice")
    alice.send("/sign-out")
    fill(asked, users)
    newcomer = browser(app, HOME).sign_in("bob")
    assert newcomer.status == 429
    assert int(newcomer.headers["Retry-After"]) <= 2
    assert alice.sign_in("alice").is_in()


def fill(asked: Asked, users: Users) -> None:
    """Be so many strangers that all of them together have to wait."""
    counting = Throttle(lambda: asked.store, lambda: asked.now, lambda: users.key)
    for number in range(ALL.burst):
        counting.count(counting.of_stranger("alice", f"10.0.{number // 250}.{number % 250}"))


def test_where_browsers_are_not_known_again_strangers_lock_everybody_out(
    app: Flask, asked: Asked, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = browser(app, HOME).sign_in("alice")
    alice.send("/sign-out")
    fill(asked, users)
    monkeypatch.setattr(Door, "_device", lambda *_: "")
    assert alice.sign_in("alice").status == 429


def test_counting_by_account_alone_any_stranger_locks_it(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Throttle, "of_stranger", lambda self, name, _: [self._bucket(PAIR, name)])
    tries(app, "alice", PAIR.burst)
    assert browser(app, HOME).sign_in("alice").status == 429


def test_a_stolen_device_cookie_guesses_no_more_than_anybody(app: Flask, users: Users) -> None:
    thief = browser(app, STRANGER)
    thief.client.set_cookie("quietpager-device", Door(users, nothing()).device_cookie("alice"))
    for _ in range(DEVICE.burst + PAIR.burst):
        assert thief.sign_in("alice", "wrong").status == 401
    assert thief.sign_in("alice").status == 429


@pytest.mark.parametrize("cookie", ["", "x", "a.b.c", "x" * 9000])
def test_a_device_cookie_that_we_did_not_sign_or_that_is_anothers_counts_for_nothing(
    users: Users, cookie: str
) -> None:
    one = Door(users, nothing())
    assert one._device("alice", cookie) == ""
    assert one._device("alice", one.device_cookie("bob")) == ""
    assert one._device("alice", one.device_cookie("alice")) != ""


def nothing() -> Throttle:
    return Throttle(MemoryStore, lambda: START, lambda: "key")


# Counts


@pytest.fixture
def hashed(users: Users, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names whose password was looked at."""
    names: list[str] = []
    real = users.check

    def noting(name: str, password: str) -> bool:
        names.append(name)
        return real(name, password)

    monkeypatch.setattr(users, "check", noting)
    return names


def test_a_thousand_invented_names_wipe_no_count_and_are_not_even_looked_at(
    app: Flask, asked: Asked, hashed: list[str]
) -> None:
    tries(app, "alice", PAIR.burst + 1)
    for number in range(1000):
        tries(app, f"invented-{number}", 1)
    assert tries(app, "alice", 1) == 429
    assert len(hashed) == ADDRESS.burst
    assert len(asked.store.scan("TRIES")) <= 2 * ADDRESS.burst + 1


def test_without_the_addresses_own_count_a_thousand_names_are_a_thousand_guesses(
    app: Flask, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Throttle, "of_stranger", lambda self, name, at: [self._bucket(PAIR, name, at)])
    for number in range(200):
        tries(app, f"invented-{number}", 1)
    assert len(hashed) == 200


def guess(counting: Throttle, number: int) -> None:
    address = f"10.0.{number // 256}.{number % 256}"
    with suppress(Wait):
        counting.count(counting.of_stranger(f"invented-{number}", address))


def flooded(asked: Asked, attempts: int) -> list[str]:
    """Invent a name and an address for each attempt, as fast as all together may: the records' kinds."""
    counting = Throttle(lambda: asked.store, lambda: asked.now, lambda: "key")
    for number in range(attempts):
        guess(counting, number)
        asked.wait(ALL.every.total_seconds())
    return [record.key.partition("#")[2].partition("-")[0] for record in asked.store.scan("TRIES")]


def test_invented_names_from_everywhere_take_fixed_memory(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = throttle.Limit("pair", 16, PAIR.burst, PAIR.every)
    monkeypatch.setattr(throttle, "PAIR", small)
    kinds = flooded(asked, 500)
    assert kinds.count("pair") == 16
    assert kinds.count("address") <= ADDRESS.buckets
    assert kinds.count("all") == 1


def test_with_a_bucket_for_each_name_memory_grows_with_the_names(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "PAIR", throttle.Limit("pair", 1 << 62, PAIR.burst, PAIR.every))
    assert flooded(asked, 500).count("pair") == 500


def test_all_strangers_together_are_too_slow_to_keep_more_than_a_few_buckets_full() -> None:
    """The figures of docs/console.md: full buckets empty faster than all may fill them."""
    assert PAIR.every / ALL.every / PAIR.buckets < 0.02
    assert ADDRESS.every / ALL.every / ADDRESS.buckets < 0.02


# Where one comes from


def spoofing(app: Flask, header: Callable[[int], str], times: int) -> list[int]:
    """Try wrong passwords for other names each time, with another X-Forwarded-For each time."""
    statuses = []
    for number in range(times):
        client = app.test_client()
        client.get("/sign-in")
        page = client.get("/sign-in").get_data(as_text=True)
        csrf = page.partition('name="csrf" value="')[2][:32]
        form = {"csrf": csrf, "name": f"n{number}", "password": "wrong"}
        headers = {"X-Forwarded-For": header(number)}
        statuses.append(client.post("/sign-in", data=form, headers=headers).status_code)
    return statuses


def test_an_address_that_the_sender_claims_counts_only_as_far_as_proxies_are_ours(
    app: Flask, asked: Asked, users: Users
) -> None:
    assert spoofing(app, lambda n: f"10.0.0.{n}", ADDRESS.burst + 1)[-1] == 429
    asked.wait(3600)
    behind = make_app(asked.ctx, users, secure=False, proxies=1)
    assert spoofing(behind, lambda n: f"10.0.0.{n}, {STRANGER}", ADDRESS.burst + 1)[-1] == 429
    assert browser(behind, HOME).sign_in("alice").is_in()


@pytest.mark.usefixtures("app")
def test_believing_the_header_without_a_proxy_nobody_ever_waits(asked: Asked, users: Users) -> None:
    wrong = make_app(asked.ctx, users, secure=False, proxies=1)
    assert set(spoofing(wrong, lambda n: f"10.0.0.{n}", 2 * ADDRESS.burst)) == {401}


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unknown", "unknown"),
    ],
)
def test_what_counts_as_one_address(address: str, counts_as: str) -> None:
    assert network(address) == counts_as


# Which names there are


def looked_at(app: Flask, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Try a name that is there and one that is not; gives how the hashes were made that were compared."""
    seen: list[str] = []
    real = check_password_hash

    def noting(kept: str, password: str) -> bool:
        seen.append(kept.partition("$")[0])
        return real(kept, password)

    monkeypatch.setattr(accounts, "check_password_hash", noting)
    for name in ("carol", "nobody"):
        assert tries(app, name, 1) == 401
    return seen


@pytest.mark.parametrize("nobody", ["as shipped"])
def test_an_unknown_name_costs_as_much_as_a_known_one_and_waits_as_soon(
    app: Flask, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.put("carol", PASSWORD)  # hashed as accounts are
    known, unknown = looked_at(app, monkeypatch)
    assert known == unknown
    assert known.startswith("scrypt")


def test_names_wait_alike_whether_they_are_known_or_not(app: Flask) -> None:
    for name, address in (("alice", "192.0.2.1"), ("nobody", "192.0.2.2")):
        assert tries(app, name, PAIR.burst, address) == 401
        assert tries(app, name, 1, address) == 429


def test_without_a_hash_for_nobody_an_unknown_name_is_told_by_its_cost(
    app: Flask, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.put("carol", PASSWORD)
    monkeypatch.setattr(accounts, "_NOBODY", QUICK)
    known, unknown = looked_at(app, monkeypatch)
    assert known != unknown
