"""The NetworkPolicies: who may reach whom. Everything else is closed, in both directions, for every pod here.

    dispatcher of Knative ──▶ functions:8080          functions ──▶ cluster DNS, PostgreSQL
    console's way in ───────▶ console:8080            those that post ──▶ the Broker's ingress
    functions ──────────────▶ postgres:5432           those with rights, and the source ──▶ API server
                                                      those that `reach` ──▶ the world, not the cluster

NetworkPolicies add up and know no "deny": one that selects every pod and allows nothing closes, the others
open. Only a network plug-in enforces them; where there is none they are nothing. The node itself always
reaches its pods (probes). What a function needs follows from its folder, what a cluster is like from
`Network`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final

from quietpager.render.folders import FunctionFolder
from quietpager.render.rights import needs_token

Json = dict[str, Any]

PORT: Final = 8080
"""Of a function's container, of the Broker's ingress and of Knative's dispatchers."""
DATABASE: Final = 5432
API_PORTS: Final = (443, 6443)
EVERYWHERE: Final = ("0.0.0.0/0", "::/0")
NOT_OUTSIDE: Final = (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",  # RFC 1918: pods, Services, nodes of most clusters
    "100.64.0.0/10",  # RFC 6598: pods of some
    "169.254.0.0/16",  # RFC 3927: the cloud's metadata service, which hands out the node's credentials
    "127.0.0.0/8",
)  # fmt: skip
NOT_OUTSIDE_6: Final = ("fc00::/7", "fe80::/10", "::1/128")
NODE_LOCAL_DNS: Final = "169.254.20.10/32"
"""Where NodeLocal DNSCache listens (kubernetes.io, tasks/administer-cluster/nodelocaldns)."""

_SENDING: Final[dict[str, Json]] = {
    "": {"eventing.knative.dev/brokerRole": "filter"},
    "kafka": {"app": "kafka-broker-dispatcher"},
}
"""Labels of the pods that deliver to functions, by overlay (knative/eventing v0.49.2,
config/brokers/mt-channel-broker; knative-extensions/eventing-kafka-broker, data-plane/config/broker)."""
_DEAD_LETTERS: Final[dict[str, Json]] = {
    "": {"messaging.knative.dev/channel": "in-memory-channel", "messaging.knative.dev/role": "dispatcher"},
    "kafka": {"app": "kafka-broker-dispatcher"},
}
"""Labels of those that deliver dead letters. With authentication the filter does (trigger.go), too."""
_TAKING: Final[dict[str, Json]] = {
    "": {"eventing.knative.dev/brokerRole": "ingress"},
    "kafka": {"app": "kafka-broker-receiver"},
}
"""Labels of the Broker's ingress."""
_NAMESPACE: Final = "kubernetes.io/metadata.name"


@dataclass(frozen=True, slots=True)
class Network:
    """What an installation knows of its cluster's network. Addresses are CIDRs.

    The defaults work anywhere, and are wider than they need be where a cluster's own addresses are known.
    """

    api_server: tuple[str, ...] = EVERYWHERE
    """Where the API server is, on port 443 or 6443."""
    store: tuple[str, ...] = ()
    """Where the store is, if it is not the PostgreSQL that is rendered."""
    store_port: int = DATABASE
    """Its port: 443 for DynamoDB."""
    console_from: str = ""
    """The namespace whose pods reach the console: the ingress controller's. Without it nobody's do."""
    inside: tuple[str, ...] = ()
    """Private addresses of Git hosts and chat servers. Functions that reach out reach these, too."""

    def __post_init__(self) -> None:
        """Hold every address to be one.

        Raises:
            ValueError: one is none; the text names it.
        """
        for one in (*self.api_server, *self.store, *self.inside):
            try:
                ip_network(one)
            except ValueError as wrong:
                raise ValueError(f"{one!r} is no CIDR such as 10.0.0.0/16: {wrong}") from None


ANYWHERE: Final = Network()
"""Of a cluster about which nothing is known."""


def walls(
    folders: Sequence[FunctionFolder], network: Network, namespace: str, overlay: str, *, keys: bool
) -> list[Json]:
    """Render all NetworkPolicies.

    Args:
        folders: all functions.
        network: what the cluster is like.
        namespace: ours.
        overlay: which Broker it is: `kafka`, or none.
        keys: whether functions check tokens, and so read the cluster's keys at the API server.
    """
    own = [_function(one, network, overlay, keys=keys) for one in folders]
    database = [] if network.store else [_database(folders)]
    rendered = [("closed", {}, [], []), _source(network, overlay), *own, *database]
    return [_policy(name, namespace, pods, comes, goes) for name, pods, comes, goes in rendered]


_Wall = tuple[str, Json, list[Json], list[Json]]
"""Name, pod selector, ingress and egress."""


def _function(folder: FunctionFolder, network: Network, overlay: str, *, keys: bool) -> _Wall:
    comes: list[Json] = []
    if folder.web:
        if network.console_from:
            comes.append(_from([_pods_in(network.console_from)]))
    else:
        knative = [_pods_in(KNATIVE, _SENDING[overlay])]
        if not folder.filters:
            knative.append(_pods_in(KNATIVE, _DEAD_LETTERS[overlay]))
        comes.append(_from(knative))
    goes = [_dns(), _to_store(network)]
    if folder.posts:
        goes.append(_to_broker(overlay))
    if needs_token(folder) or (keys and not folder.web):
        goes.append(_to_addresses(network.api_server, API_PORTS))
    if folder.reaches:
        goes.append(_to_outside(folder.reaches))
        if network.inside:
            goes.append(_to_addresses(network.inside, folder.reaches))
    return folder.name, {"matchLabels": {"app": folder.name}}, comes, goes


KNATIVE: Final = "knative-eventing"


def _source(network: Network, overlay: str) -> _Wall:
    """Open what the ApiServerSource's adapter needs: it runs among our pods, and is Knative's."""
    mine = {"matchLabels": {"eventing.knative.dev/source": "apiserver-source-controller"}}
    return (
        "event-source", mine, [],
        [_dns(), _to_broker(overlay), _to_addresses(network.api_server, API_PORTS)],
    )  # fmt: skip


def _database(folders: Iterable[FunctionFolder]) -> _Wall:
    clients = {"key": "app", "operator": "In", "values": [one.name for one in folders]}
    comes = {"from": [{"podSelector": {"matchExpressions": [clients]}}], "ports": [_tcp(DATABASE)]}
    return "postgres", {"matchLabels": {"app": "postgres"}}, [comes], []


def _policy(name: str, namespace: str, pods: Json, comes: list[Json], goes: list[Json]) -> Json:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "podSelector": pods,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": comes,
            "egress": goes,
        },
    }


def _pods_in(namespace: str, labels: Json | None = None) -> Json:
    """Select pods of another namespace: all, or those with these labels."""
    found: Json = {"namespaceSelector": {"matchLabels": {_NAMESPACE: namespace}}}
    return found if labels is None else found | {"podSelector": {"matchLabels": labels}}


def _from(pods: list[Json]) -> Json:
    return {"from": pods, "ports": [_tcp(PORT)]}


def _tcp(port: int) -> Json:
    return {"protocol": "TCP", "port": port}


def _dns() -> Json:
    """Open cluster DNS; Services are translated before policies see a packet, so the pods are named."""
    names = _pods_in("kube-system", {"k8s-app": "kube-dns"})
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    return {"to": [names, {"ipBlock": {"cidr": NODE_LOCAL_DNS}}], "ports": ports}


def _to_store(network: Network) -> Json:
    if network.store:
        return _to_addresses(network.store, (network.store_port,))
    return {"to": [{"podSelector": {"matchLabels": {"app": "postgres"}}}], "ports": [_tcp(DATABASE)]}


def _to_broker(overlay: str) -> Json:
    return {"to": [_pods_in(KNATIVE, _TAKING[overlay])], "ports": [_tcp(PORT)]}


def _to_addresses(blocks: Iterable[str], ports: Iterable[int]) -> Json:
    return {"to": [{"ipBlock": {"cidr": one}} for one in blocks], "ports": [_tcp(port) for port in ports]}


def _to_outside(ports: Iterable[int]) -> Json:
    blocks = [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(NOT_OUTSIDE)}},
        {"ipBlock": {"cidr": "::/0", "except": list(NOT_OUTSIDE_6)}},
    ]
    return {"to": blocks, "ports": [_tcp(port) for port in ports]}
