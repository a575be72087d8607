"""Judges NetworkPolicies without a cluster: may this pod open a connection to that one?

The rules are the API's (kubernetes.io, concepts/services-networking/network-policies): a pod that no policy
of a direction selects is open in it; else at least one rule must allow the peer and the port. Both ends must
agree. Only what is rendered here is understood; anything else in a policy is an error, not a "no".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A pod, or an address outside: then it has no namespace, and nothing of ours selects it."""

    address: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def of_namespace(self) -> dict[str, str]:
        """The label that every namespace has by itself."""
        return {"kubernetes.io/metadata.name": self.namespace} if self.namespace else {}


def reaches(policies: Iterable[Json], sender: Peer, taker: Peer, port: int, protocol: str = "TCP") -> bool:
    """Tell whether a connection is let out there, and let in here."""
    known = list(policies)
    return _open(known, "egress", sender, taker, port, protocol) and _open(
        known, "ingress", taker, sender, port, protocol
    )


def _open(policies: list[Json], way: str, own: Peer, other: Peer, port: int, protocol: str) -> bool:
    mine = [one for one in policies if _selects(one, own) and way.capitalize() in one["spec"]["policyTypes"]]
    if not mine:
        return True
    rules = [rule for one in mine for rule in one["spec"][way]]
    end = {"egress": "to", "ingress": "from"}[way]
    return any(_has_port(rule, port, protocol) and _has_peer(rule, end, mine[0], other) for rule in rules)


def _selects(policy: Json, pod: Peer) -> bool:
    return pod.namespace == policy["metadata"]["namespace"] and _matches(
        policy["spec"]["podSelector"], pod.labels
    )


def _has_port(rule: Json, port: int, protocol: str) -> bool:
    assert set(rule) <= {"from", "to", "ports"}, rule
    if "ports" not in rule:
        return True
    return any(one == {"protocol": protocol, "port": port} for one in rule["ports"])


def _has_peer(rule: Json, end: str, policy: Json, other: Peer) -> bool:
    if end not in rule:
        return True
    return any(_is(one, policy["metadata"]["namespace"], other) for one in rule[end])


def _is(wanted: Json, home: str, other: Peer) -> bool:
    if "ipBlock" in wanted:
        assert set(wanted) == {"ipBlock"}, wanted
        block = wanted["ipBlock"]
        return _within(other.address, [block["cidr"]]) and not _within(other.address, block.get("except", ()))
    assert set(wanted) <= {"namespaceSelector", "podSelector"}, wanted
    if not other.namespace:
        return False
    if "namespaceSelector" in wanted:
        in_place = _matches(wanted["namespaceSelector"], other.of_namespace)
    else:
        in_place = other.namespace == home
    return in_place and _matches(wanted.get("podSelector", {}), other.labels)


def _within(address: str, blocks: Iterable[str]) -> bool:
    one = ip_address(address)
    return any(one.version == ip_network(block).version and one in ip_network(block) for block in blocks)


def _matches(selector: Json, labels: Mapping[str, str]) -> bool:
    assert set(selector) <= {"matchLabels", "matchExpressions"}, selector
    for one in selector.get("matchExpressions", ()):
        assert one["operator"] == "In", one
        if labels.get(one["key"]) not in one["values"]:
            return False
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()
