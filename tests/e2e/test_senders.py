"""Who may speak, with Knative's authentication on: a stranger nobody, a function only for itself.

A pod without a token, in another namespace, got 202 from the Broker's ingress and 200 from a function's
Service, and spoke as whoever it liked.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from infra.deploy.__main__ import authenticates
from infra.testbed.addons import NAMESPACE as KNATIVE
from infra.testbed.addons import kubectl
from infra.testbed.layout import API_SERVICE, NODE_ADDRESS
from quietpager.model.incident import State
from quietpager.model.message import APPLY, FINDING, SIGNAL
from quietpager.render import function_folders
from quietpager.render.senders import audience_of, broker_audience, trigger_account
from quietpager.runtime.context import functions_folder
from tests.e2e.bed import NAMESPACE, Bed, answers, apply, pods
from tests.e2e.test_stories import memory_limit, tell

pytestmark = pytest.mark.timeout(400)

BROKER = broker_audience(NAMESPACE)
FUNCTION = "detect-crash"
NO_PLUGIN = "nothing here enforces NetworkPolicies; tests/attack/test_network_walls.py judges them"
NO_WAY = 0
"""Where policies are enforced, a function is not even reached."""


@pytest.fixture(scope="module", autouse=True)
def _signed() -> None:
    if not authenticates():
        pytest.skip("deployed with --no-authentication: nobody is asked for a token")


@dataclass(frozen=True)
class Door:
    """One address where messages are taken."""

    service: str
    namespace: str
    path: str = "/"
    host: str = ""

    def address(self) -> str:
        found = kubectl("-n", self.namespace, "get", "service", self.service, "-o", "json").stdout
        return str(json.loads(found)["spec"]["clusterIP"])


INGRESS = Door("broker-ingress", KNATIVE, f"/{NAMESPACE}/default")


def doors() -> dict[str, Door]:
    """Name every address at which a message for the product is taken."""
    trigger = json.loads(kubectl("-n", NAMESPACE, "get", f"trigger/{FUNCTION}", "-o", "json").stdout)
    uid = trigger["metadata"]["uid"]
    channel = f"default-kne-trigger-kn-channel.{NAMESPACE}.svc.cluster.local"
    return {
        "the Broker's ingress": INGRESS,
        "a function": Door(FUNCTION, NAMESPACE),
        "the Broker's filter": Door("broker-filter", KNATIVE, f"/triggers/{NAMESPACE}/{FUNCTION}/{uid}"),
        "the Broker's channel": Door("imc-dispatcher", KNATIVE, host=channel),
    }


@dataclass(frozen=True)
class Stranger:
    """An ordinary pod in a namespace that is not ours."""

    namespace: str

    def post(self, door: Door, kind: str, token: str = "") -> int:
        """Post one message from within the pod; gives the status that was answered, or NO_WAY."""
        lines = [
            f"POST {door.path} HTTP/1.1", f"Host: {door.host or door.service}", "Connection: close",
            "Ce-Specversion: 1.0", "Ce-Id: forged", "Ce-Source: /forged", f"Ce-Type: {kind}",
            "Content-Type: application/json", "Content-Length: 2",
            *([f"Authorization: Bearer {token}"] if token else []),
        ]  # fmt: skip
        request = "\r\n".join([*lines, "", "{}"])
        # The pause keeps the connection open until there is an answer; nc closes it when its input ends.
        script = f"(cat; sleep 2) | timeout 10 nc {door.address()} 80"
        answer = self.run(script, request)
        return int(answer.split()[1]) if answer.startswith("HTTP/1.1 ") else NO_WAY

    def run(self, script: str, text: str = "") -> str:
        command = ("-n", self.namespace, "exec", "-i", "stranger", "--", "sh", "-c", script)
        return kubectl(*command, check=False, text=text).stdout


@pytest.fixture(scope="module")
def stranger(bed: Bed) -> Iterator[Stranger]:
    with bed.team("stranger") as namespace:
        container = {"name": "sh", "image": "localhost/busybox:1", "command": ["sleep", "3600"]}
        pod = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger", "namespace": namespace},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
        }  # fmt: skip
        apply(pod)
        kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/stranger", "--timeout=60s")
        yield Stranger(namespace)


@pytest.fixture(scope="module")
def walled(stranger: Stranger) -> bool:
    """Tell whether a network plug-in enforces policies here: docs/testbed.md names one."""
    return not reaches(stranger, "postgres", 5432)


def reaches(stranger: Stranger, workload: str, port: int) -> bool:
    address = pods(workload)[0]["status"]["podIP"]
    return stranger.run(f"echo | timeout 4 nc -w 3 {address} {port} >/dev/null 2>&1; echo $?").strip() == "0"


def token(account: str, audience: str, namespace: str = NAMESPACE) -> str:
    """Have a token made, as the kubelet does for a pod that asks for one; any audience may be asked for."""
    return kubectl("-n", namespace, "create", "token", account, "--audience", audience).stdout.strip()


def test_a_stranger_without_a_token_is_refused_at_every_door(stranger: Stranger, *, walled: bool) -> None:
    answered = {name: stranger.post(door, SIGNAL) for name, door in doors().items()}
    wanted = dict.fromkeys(doors(), 401)
    if walled:
        wanted["a function"] = NO_WAY
    assert answered == wanted


def test_a_strangers_own_token_opens_no_door(stranger: Stranger, *, walled: bool) -> None:
    own = token("default", BROKER, stranger.namespace)
    assert stranger.post(INGRESS, SIGNAL, own) == 403
    assert stranger.post(INGRESS, SIGNAL, token("default", "something-else", stranger.namespace)) == 401
    for_function = token("default", audience_of(FUNCTION, NAMESPACE), stranger.namespace)
    assert stranger.post(doors()["a function"], SIGNAL, for_function) == (NO_WAY if walled else 403)
    assert stranger.post(doors()["a function"], SIGNAL, own) == (NO_WAY if walled else 401)


def test_what_one_function_was_sent_opens_no_other(stranger: Stranger, *, walled: bool) -> None:
    """The token that a hijacked function gets with each message is good for itself only."""
    account = trigger_account("govern-decide", NAMESPACE).rpartition(":")[2]
    replayed = token(account, audience_of("govern-decide", NAMESPACE))
    assert stranger.post(doors()["a function"], SIGNAL, replayed) == (NO_WAY if walled else 401)
    assert stranger.post(INGRESS, APPLY, replayed) == 401


def test_a_hijacked_function_says_only_what_its_folder_says(stranger: Stranger) -> None:
    sweep = token("ingest-sweep", BROKER)
    assert stranger.post(INGRESS, APPLY, sweep) == 403
    assert stranger.post(INGRESS, SIGNAL, sweep) == 202
    reply = token(trigger_account(FUNCTION, NAMESPACE).rpartition(":")[2], BROKER)
    assert stranger.post(INGRESS, APPLY, reply) == 403
    # It has a token of its own, too, and no policy names that: it never posts.
    assert stranger.post(INGRESS, FINDING, token(FUNCTION, BROKER)) == 403


def test_where_policies_are_enforced_a_stranger_reaches_no_pod(stranger: Stranger, *, walled: bool) -> None:
    if not walled:
        pytest.skip(
            "no plug-in here enforces NetworkPolicies; tests/attack/test_network_walls.py judges them"
        )
    names = [one.name for one in function_folders(functions_folder())]
    assert [name for name in names if reaches(stranger, name, 8080)] == []
    # It has a network: it reaches what is open to it.
    assert stranger.run(f"echo | timeout 4 nc -w 3 {API_SERVICE} 443; echo $?").strip() == "0"


def test_where_policies_are_enforced_who_decides_reaches_no_other_function(*, walled: bool) -> None:
    if not walled:
        pytest.skip(
            "no plug-in here enforces NetworkPolicies; tests/attack/test_network_walls.py judges them"
        )
    other = pods(FUNCTION)[0]["status"]["podIP"]
    database = pods("postgres")[0]["status"]["podIP"]
    tried = {"a function": (other, 8080), "the database": (database, 5432), "the node": (NODE_ADDRESS, 22)}
    found = {name: connects("govern-decide", address, port) for name, (address, port) in tried.items()}
    assert found == {"a function": "no", "the database": "yes", "the node": "no"}


def connects(workload: str, address: str, port: int) -> str:
    """Try to connect from within a function's pod."""
    code = f"import socket; socket.create_connection(({address!r}, {port}), 3)"
    done = kubectl(
        "-n", NAMESPACE, "exec", f"deployment/{workload}", "--", "python3", "-c", code, check=False
    )
    return "yes" if done.returncode == 0 else "no"


def test_with_all_that_a_story_heals_and_nobody_is_refused(bed: Bed) -> None:
    before = answers()
    with bed.team("signed") as namespace:
        told = tell(bed, "bounded OOM", namespace)
        assert (told.incident.state, told.incident.reason) == (State.CLOSED, "fixed"), bed.story(namespace)
        assert memory_limit(bed, namespace, "cache") == "64Mi"
        bed.wait_healthy(namespace, "cache")
    refused = {key: n for key, n in (answers() - before).items() if not key[1].startswith("2")}
    assert {key: n for key, n in refused.items() if not key[0].startswith("e2e-spy")} == {}
