"""Who may open a connection to whom: a pod anywhere reached the functions and PostgreSQL, and they the world.

The rendered NetworkPolicies, judged by their meaning, pod for pod. Whether they are enforced is the network
plug-in's; `tests/e2e/test_senders.py` asks a real one where there is one.
"""

from typing import Any

import pytest

from quietpager.render import Settings, function_folders, manifests
from quietpager.render.walls import ANYWHERE, Network
from quietpager.runtime.context import functions_folder
from tests.policies import Peer, reaches

Json = dict[str, Any]

FOLDERS = function_folders(functions_folder())
OURS = "quietpager"
API = Peer("10.0.0.1")
NARROW = Network(api_server=("10.0.0.1/32",))


def walls(network: Network = NARROW, *, overlay: str = "", authentication: bool = False) -> list[Json]:
    settings = Settings(network=network, overlay=overlay, authentication=authentication)
    rendered = manifests(functions_folder(), settings)
    return [one for one in rendered if one["kind"] == "NetworkPolicy"]


WALLS, SIGNED = walls(), walls(authentication=True)


def function(name: str) -> Peer:
    return Peer("10.244.0.9", OURS, {"app": name})


FUNCTIONS = {folder.name: function(folder.name) for folder in FOLDERS}
STAGES = {folder.name: folder.stage for folder in FOLDERS}
POSTGRES = Peer("10.244.0.8", OURS, {"app": "postgres"})
SOURCE = Peer("10.244.0.7", OURS, {"eventing.knative.dev/source": "apiserver-source-controller"})
UNKNOWN = Peer("10.244.0.6", OURS, {"app": "something-else"})
FILTER = Peer("10.244.0.5", "knative-eventing", {"eventing.knative.dev/brokerRole": "filter"})
INGRESS = Peer("10.244.0.4", "knative-eventing", {"eventing.knative.dev/brokerRole": "ingress"})
DISPATCHER = Peer(
    "10.244.0.3",
    "knative-eventing",
    {"messaging.knative.dev/channel": "in-memory-channel", "messaging.knative.dev/role": "dispatcher"},
)
DNS = Peer("10.244.0.2", "kube-system", {"k8s-app": "kube-dns"})
ATTACKER = Peer("10.244.0.66", "shop", {"app": "web"})
DISGUISED = Peer("10.244.0.67", "shop", {**FILTER.labels, "app": "govern-decide"})
WORLD, METADATA, PRIVATE = Peer("140.82.112.3"), Peer("169.254.169.254"), Peer("192.168.7.7")
PODS = {**FUNCTIONS, "postgres": POSTGRES, "source": SOURCE, "unknown": UNKNOWN}
PORTS = (22, 53, 80, 443, 5432, 6443, 8080, 8443)


def who(policies: list[Json], taker: Peer, port: int) -> set[str]:
    """Name our pods that reach an address."""
    return {name for name, pod in PODS.items() if reaches(policies, pod, taker, port)}


# What comes in


@pytest.mark.parametrize("stranger", [ATTACKER, DISGUISED, UNKNOWN, WORLD, METADATA])
def test_a_stranger_reaches_no_pod_of_ours_on_any_port(stranger: Peer) -> None:
    for name, pod in PODS.items():
        assert [port for port in PORTS if reaches(WALLS, stranger, pod, port)] == [], name


def test_only_the_brokers_filter_delivers_and_the_dispatcher_dead_letters() -> None:
    served = {name for name, stage in STAGES.items() if name != "people-console" and stage}
    assert {name for name, pod in PODS.items() if reaches(WALLS, FILTER, pod, 8080)} == served
    assert {name for name, pod in PODS.items() if reaches(WALLS, DISPATCHER, pod, 8080)} == {
        "ingest-dead-letter"
    }
    rest_of_knative = Peer("10.244.0.1", "knative-eventing", {"app": "eventing-controller"})
    for other in (INGRESS, rest_of_knative):
        assert not any(reaches(WALLS, other, pod, 8080) for pod in PODS.values())


def test_functions_do_not_reach_each_other() -> None:
    for one in FUNCTIONS.values():
        assert not any(reaches(WALLS, one, other, 8080) for other in FUNCTIONS.values())


def test_only_functions_reach_the_database_and_it_reaches_nobody() -> None:
    assert who(WALLS, POSTGRES, 5432) == set(FUNCTIONS)
    for other in (*PODS.values(), API, WORLD, DNS, INGRESS):
        assert not any(reaches(WALLS, POSTGRES, other, port) for port in PORTS)


def test_the_console_opens_to_the_named_namespace_only() -> None:
    console = FUNCTIONS["people-console"]
    controller = Peer("10.244.0.68", "ingress-nginx", {"app": "controller"})
    opened = walls(Network(console_from="ingress-nginx"))
    assert not reaches(WALLS, controller, console, 8080)
    assert reaches(opened, controller, console, 8080)
    assert not reaches(opened, ATTACKER, console, 8080)
    assert not reaches(opened, controller, FUNCTIONS["govern-decide"], 8080)


# What goes out


def test_only_who_posts_reaches_the_broker() -> None:
    assert who(WALLS, INGRESS, 8080) == {"ingest-sweep", "govern-clock", "govern-decide", "source"}


def test_only_who_has_rights_reaches_the_api_server_and_who_decides_has_none() -> None:
    reading = {one.name for one in FOLDERS if one.reads or one.action}
    assert who(WALLS, API, 6443) == reading | {"source"}
    assert not {"govern-decide", "govern-clock", "people-notify", "people-console"} & reading


def test_with_authentication_all_but_the_console_read_the_clusters_keys() -> None:
    assert who(SIGNED, API, 6443) == set(FUNCTIONS) - {"people-console"} | {"source"}


def test_only_who_tells_and_proposes_reaches_the_world() -> None:
    assert who(WALLS, WORLD, 443) == {"people-notify", "remediate-propose-change", "govern-anchor"}
    assert who(WALLS, WORLD, 22) == {"remediate-propose-change", "govern-anchor"}
    assert {port for port in PORTS if who(WALLS, WORLD, port)} == {22, 443}


def test_nobody_reaches_the_clouds_metadata_or_a_private_address() -> None:
    for place in (METADATA, PRIVATE, ATTACKER):
        assert [port for port in PORTS if who(WALLS, place, port)] == []


def test_a_private_git_host_is_opened_by_its_address_for_those_who_need_it() -> None:
    opened = walls(Network(inside=("192.168.7.0/24",), api_server=NARROW.api_server))
    assert who(opened, PRIVATE, 443) == {"people-notify", "remediate-propose-change", "govern-anchor"}
    assert who(opened, PRIVATE, 5432) == set()


def test_a_store_elsewhere_is_opened_in_place_of_the_rendered_one() -> None:
    opened = walls(Network(store=("192.168.7.0/24",), store_port=6432, api_server=NARROW.api_server))
    assert who(opened, PRIVATE, 6432) == set(FUNCTIONS)
    assert who(opened, POSTGRES, 5432) == set()


def test_everybody_may_ask_for_names() -> None:
    asking = {name for name, pod in PODS.items() if reaches(WALLS, pod, DNS, 53, "UDP")}
    assert asking == set(FUNCTIONS) | {"source"}


def test_where_nothing_is_known_of_the_cluster_the_api_server_may_be_anywhere() -> None:
    reading = {one.name for one in FOLDERS if one.reads or one.action}
    assert reading <= who(walls(ANYWHERE), API, 443)


def test_on_kafka_its_own_pods_take_the_brokers_place() -> None:
    policies = walls(overlay="kafka")
    dispatcher = Peer("10.244.0.5", "knative-eventing", {"app": "kafka-broker-dispatcher"})
    receiver = Peer("10.244.0.4", "knative-eventing", {"app": "kafka-broker-receiver"})
    assert reaches(policies, dispatcher, FUNCTIONS["govern-decide"], 8080)
    assert reaches(policies, dispatcher, FUNCTIONS["ingest-dead-letter"], 8080)
    assert "govern-clock" in who(policies, receiver, 8080)
    assert not reaches(policies, FILTER, FUNCTIONS["govern-decide"], 8080)


def test_an_address_that_is_none_is_not_rendered() -> None:
    with pytest.raises(ValueError, match="'everywhere' is no CIDR"):
        Network(api_server=("everywhere",))


# Without it


def without(kind: str) -> list[Json]:
    """The mutants: the policies without one direction, or without the one that closes what nobody named."""
    if kind == "closed":
        return [one for one in WALLS if one["metadata"]["name"] != "closed"]
    return [
        one | {"spec": one["spec"] | {"policyTypes": [way for way in ("Ingress", "Egress") if way != kind]}}
        for one in WALLS
    ]


def test_without_egress_policies_a_hijacked_function_reaches_everything() -> None:
    assert "govern-decide" in who(without("Egress"), WORLD, 443)
    assert "govern-decide" in who(without("Egress"), METADATA, 80)
    assert "detect-crash" in who(without("Egress"), INGRESS, 8080)


def test_without_ingress_policies_a_stranger_reaches_the_functions_and_the_database() -> None:
    assert reaches(without("Ingress"), ATTACKER, POSTGRES, 5432)
    assert reaches(without("Ingress"), ATTACKER, FUNCTIONS["govern-decide"], 8080)


def test_without_the_closing_one_a_pod_that_nobody_named_is_open() -> None:
    assert reaches(without("closed"), ATTACKER, UNKNOWN, 8080)
    assert reaches(without("closed"), UNKNOWN, WORLD, 443)
