"""`quietpager run` as a person starts it: a process of its own, over HTTP to a sandbox cluster."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from quietpager.change.marks import MARK, pointer
from quietpager.cluster.client import connect
from quietpager.errors import GiveUp
from quietpager.incident import records
from quietpager.local.demo import POLICY
from quietpager.local.run import connections
from quietpager.model.cluster import Rejected
from quietpager.model.incident import Incident, State
from quietpager.model.store import ABSENT, Put, Store
from quietpager.model.time import system_clock
from quietpager.render import DEFAULTS, FunctionFolder, function_folders
from quietpager.render.rights import service_accounts
from quietpager.runtime.context import functions_folder
from quietpager.sandbox.load import load_case
from quietpager.sandbox.server import running
from quietpager.store.audit import verify_all
from quietpager.store.opening import open_store
from tests.flow.test_scan import post, write_kubeconfig, writes

Json = dict[str, Any]
OOM = "detect/crash/cases/30-oom-bounded"
ACCOUNT = "system:serviceaccount:quietpager:remediate-raise-memory"
FOLDERS = tuple(one for one in function_folders(functions_folder()) if not one.web)


@dataclass
class Run:
    """A running `quietpager run`, and what it has printed."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append(line.rstrip())

    def said(self, words: str) -> bool:
        return any(words in line for line in self.lines)

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(20)


@dataclass
class Place:
    """A sandbox, a store, a policy, and how to start the product there."""

    url: str
    store_url: str
    folder: Path
    store: Store
    stack: ExitStack

    def start(self, *arguments: str, policy: Json | None = None) -> Run:
        kubeconfig = write_kubeconfig(self.folder / "config", self.url)
        command = [
            sys.executable,
            "-m",
            "quietpager.cli.main",
            "run",
            "--kubeconfig",
            str(kubeconfig),
            *arguments,
        ]
        if policy is not None:
            path = self.folder / "policy.yaml"
            path.write_text(json.dumps(policy), encoding="utf-8")
            command += ["--policy", str(path)]
        env = {k: v for k, v in os.environ.items() if not k.startswith("QUIETPAGER_")}
        process = self.stack.enter_context(
            subprocess.Popen(
                command, env=env | {"QUIETPAGER_STORE": self.store_url}, text=True, stdout=subprocess.PIPE,
                cwd=Path(__file__).parents[2],
            )
        )  # fmt: skip
        self.stack.callback(process.kill)
        run = Run(process)
        threading.Thread(target=run.read, daemon=True).start()
        until(lambda: run.said("export QUIETPAGER_STORE=") or process.poll() is not None, "its start")
        return run

    def resume(self) -> None:
        self.store.transact([Put(records.SWITCH, {"stopped": False, "by": "test"}, ABSENT)])

    def fault(self, *, events: bool = False) -> None:
        case = load_case(self.url, functions_folder() / OOM, system_clock())
        if events:
            cluster = connect(self.url, manager="world")
            for event in case.events():
                cluster.create("Event", event)
            cluster.close()

    def incident(self) -> Incident | None:
        found = [Incident.from_json(record.body) for record in self.store.scan("INCIDENT")]
        return found[0] if found else None

    def is_in(self, *states: State) -> Callable[[], bool]:
        def look() -> bool:
            incident = self.incident()
            return incident is not None and incident.state in states

        return look

    def real_writes(self) -> list[Json]:
        return [w for w in writes(self.url) if w["user_agent"].startswith("quietpager-") and not w["dryRun"]]


def until(done: Callable[[], bool], what: str, seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)


@pytest.fixture
def place(tmp_path: Path, new_database: Callable[[], str]) -> Iterator[Place]:
    with running(speed=20) as url, ExitStack() as stack:
        store_url = new_database()
        store = open_store(store_url)
        stack.callback(store.close)
        yield Place(url, store_url, tmp_path, store, stack)


@pytest.mark.timeout(120)
def test_a_bounded_oom_is_healed_by_the_accounts_of_its_actions(place: Place) -> None:
    place.resume()
    run = place.start(policy=POLICY)
    assert run.said("Writing is on, by test")
    place.fault(events=True)
    until(place.is_in(State.CLOSED), "closed")
    incident = place.incident()
    assert incident is not None
    assert incident.reason == "fixed"
    until(lambda: run.said("[closed]"), "the message that it is closed")
    told = [line for line in run.lines if line.startswith("[")]
    assert all(" | quietpager show inc-" in line for line in told), "one line for each message"
    every = [w for w in writes(place.url) if w["user_agent"].startswith("quietpager-")]
    assert {(w["verb"], w["impersonate"]) for w in every} == {("patch", ACCOUNT)}
    [write] = place.real_writes()
    assert write["code"] == 200
    assert any(one["path"].endswith(pointer(MARK)) for one in write["body"])
    assert run.end(signal.SIGTERM) == 0
    assert run.said("Stopped.")
    assert verify_all(place.store) == []


@pytest.mark.timeout(120)
def test_a_new_install_shows_its_plan_and_writes_nothing(place: Place) -> None:
    quick = {k: v for k, v in POLICY.items() if k != "autonomy"}
    run = place.start(policy=quick)
    assert run.said("autonomy analyze")
    assert run.said("Writing is stopped; `quietpager resume` starts it.")
    place.fault()
    until(lambda: run.said("[needsperson]"), "a message")
    assert run.said("cache 32Mi -> 64Mi")
    assert run.end(signal.SIGINT) == 0
    assert [w for w in writes(place.url) if w["user_agent"].startswith("quietpager-")] == []


@pytest.mark.timeout(120)
def test_without_the_right_to_impersonate_a_person_is_told_which_right(place: Place) -> None:
    post(place.url, "forbid", [{"verb": "impersonate", "resource": "serviceaccounts"}])
    place.resume()
    run = place.start(policy=POLICY)
    place.fault()
    until(place.is_in(State.BLOCKED), "blocked")
    incident = place.incident()
    assert incident is not None
    [sentence] = [one for one in incident.refusals if "raise-memory" in one or "impersonate" in one][:1]
    assert f"may not impersonate {ACCOUNT}" in sentence
    assert "serviceaccounts/remediate-raise-memory in namespace quietpager" in sentence
    assert place.real_writes() == []
    assert run.end(signal.SIGTERM) == 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("at", [pytest.param(State.WAITING, marks=pytest.mark.slow), State.ACTING])
def test_killed_and_started_again_it_goes_on(place: Place, at: State) -> None:
    place.resume()
    # The recorded pods are some 40 s old.
    slow = POLICY | {"dwell_seconds": 50.0, "dwell_restarts": 0} if at is State.WAITING else POLICY
    run = place.start(policy=slow)
    place.fault()
    # ACTING may be over before anybody looks.
    until(place.is_in(at, *([State.VERIFYING] if at is State.ACTING else [])), f"{at}")
    run.end(signal.SIGKILL)
    again = place.start(policy=slow)
    until(place.is_in(State.CLOSED), "closed")
    incident = place.incident()
    assert incident is not None
    assert incident.reason == "fixed"
    assert len(place.real_writes()) == 1
    assert again.end(signal.SIGTERM) == 0
    assert verify_all(place.store) == []


@pytest.mark.timeout(120)
def test_a_namespace_is_kept_to_and_missing_rights_are_said(place: Place) -> None:
    place.fault()
    post(place.url, "forbid", [{"verb": "list", "resource": "events"}])
    run = place.start("--namespace", "default", policy=POLICY)
    assert run.said("may not list events in namespace default (403)")
    assert run.said("watches namespace default")
    until(lambda: place.store.get(records.heartbeat("sweep")) is not None, "a sweep")
    assert run.end(signal.SIGTERM) == 0
    assert place.incident() is None


@pytest.mark.timeout(120)
def test_its_own_store_survives_a_kill() -> None:
    # Not below pytest's own folder: the server's user must pass through (see tests/conftest.py).
    with running(speed=20) as url, tempfile.TemporaryDirectory(prefix="quietpager-run-") as folder:
        kubeconfig = write_kubeconfig(Path(folder) / "config", url)
        data = Path(folder) / "data"
        env = {k: v for k, v in os.environ.items() if not k.startswith("QUIETPAGER_")}
        command = [
            sys.executable, "-m", "quietpager.cli.main", "run", "--kubeconfig", str(kubeconfig), "--data",
            str(data),
        ]  # fmt: skip
        for how, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
            with process(command, env) as run:
                until(lambda run=run: run.said("export QUIETPAGER_STORE="), "its store")  # type: ignore[misc]
                assert run.end(how) == code
        assert not (data / "postgres" / "postmaster.pid").exists(), "its PostgreSQL is stopped with it"


@contextmanager
def process(command: list[str], env: dict[str, str]) -> Iterator[Run]:
    with subprocess.Popen(
        command, env=env, text=True, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as started:
        run = Run(started)
        threading.Thread(target=run.read, daemon=True).start()
        try:
            yield run
        finally:
            started.kill()


def test_a_cluster_that_is_away_is_one_sentence_and_2(tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "config", "http://127.0.0.1:9")
    command = [sys.executable, "-m", "quietpager.cli.main", "run", "--kubeconfig", str(kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 1
    assert "cannot be read" in done.stdout
    assert not (tmp_path / ".quietpager").exists(), "no store is made for nothing"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda one: one.name)
def test_no_function_can_write_but_by_the_account_that_is_rendered(folder: FunctionFolder) -> None:
    accounts = {one["metadata"]["name"] for one in service_accounts(FOLDERS, DEFAULTS.namespace)}
    with running() as url:
        base = connect(url, manager="run")
        cluster = connections(base, None)(folder)
        namespace = {"metadata": {"name": "made"}}
        forbidden: list[Callable[[], object]] = [
            lambda: cluster.create("Namespace", namespace),
            lambda: cluster.create("Job", {"metadata": {"name": "made", "namespace": "default"}}),
            lambda: cluster.evict("default", "pod", {}),
            lambda: cluster.merge_patch("Namespace", None, "default", {}),
            lambda: cluster.delete("Namespace", None, "default"),
        ]

        def patch() -> object:
            return cluster.json_patch("Namespace", None, "default", [])

        if folder.action is None:
            forbidden.append(patch)
        for write in forbidden:
            with pytest.raises(GiveUp, match="may only read"):
                write()
        if folder.action is not None:
            # It is sent, as that account, and the API server holds the account to updates of Deployments.
            with pytest.raises(Rejected, match=r"rule kind: .*UPDATE namespaces"):
                patch()
        assert cluster.get("Namespace", None, "default") is not None
        log = writes(url)
        base.close()
    assert folder.name in accounts
    asked = [line["impersonate"] for line in log]
    assert asked == ([] if folder.action is None else [f"system:serviceaccount:quietpager:{folder.name}"])


def test_nothing_is_written_outside_the_namespace_that_is_kept_to() -> None:
    [folder] = [one for one in FOLDERS if one.action == "raise-memory"]
    with running() as url:
        base = connect(url, manager="run")
        cluster = connections(base, "team-a")(folder)
        with pytest.raises(Rejected, match="outside namespace team-a"):
            cluster.json_patch("Deployment", "team-b", "web", [])
        assert writes(url) == []
        with pytest.raises(Rejected, match="not found"):
            cluster.json_patch("Deployment", "team-a", "web", [])
        assert len(writes(url)) == 1
        base.close()


def test_what_the_api_server_refuses_the_account_is_left_as_it_says() -> None:
    [folder] = [one for one in FOLDERS if one.action == "raise-memory"]
    with running() as url:
        base = connect(url, manager="run")
        cluster = connections(base, None)(folder)
        post(url, "forbid", [{"verb": "patch", "resource": "deployments"}])
        with pytest.raises(Rejected, match="cannot patch resource"):
            cluster.json_patch("Deployment", "default", "web", [])
        base.close()
