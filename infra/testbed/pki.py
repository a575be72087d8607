"""Certificates and kubeconfigs of the control plane: one authority, one identity for each part.

Who calls it: `start`, before the first process; idempotent. The names are what Kubernetes' own roles
are bound to (kubernetes.io: "PKI certificates and requirements").
"""

from dataclasses import dataclass
from typing import Final

import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from infra.testbed import layout

SA_KEY: Final = layout.PKI / "service-accounts.key"
SA_PUBLIC: Final = layout.PKI / "service-accounts.pub"
CA: Final = layout.PKI / "ca.crt"
CA_KEY: Final = layout.PKI / "ca.key"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is (user, group), the names a server answers to, and whether it calls the API."""

    name: str
    user: str
    group: str | None = None
    answers_to: tuple[str, ...] = ()
    server: str | None = None


IDENTITIES: Final = (
    Identity("admin", "admin", "system:masters", server=layout.LINK_ADDRESS),
    Identity("controller-manager", "system:kube-controller-manager", server=layout.NODE_ADDRESS),
    Identity("scheduler", "system:kube-scheduler", server=layout.NODE_ADDRESS),
    Identity("proxy", "system:kube-proxy", server=layout.NODE_ADDRESS),
    Identity("node", f"system:node:{layout.NODE}", "system:nodes", server=layout.NODE_ADDRESS),
    Identity(
        "kubelet", f"system:node:{layout.NODE}", "system:nodes", (layout.NODE, layout.NODE_ADDRESS)
    ),
    Identity("api-to-kubelet", "kube-apiserver-kubelet-client", "system:masters"),
    Identity(
        "api-server", "kube-apiserver",
        answers_to=(
            "127.0.0.1", layout.API_SERVICE, layout.NODE_ADDRESS, layout.LINK_ADDRESS, "localhost",
            "kubernetes", "kubernetes.default", "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ),
    ),
)  # fmt: skip


def make() -> None:
    """Make everything that is not there yet."""
    if layout.KUBECONFIG.exists():
        return
    for folder in (layout.PKI, layout.KUBECONFIGS):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = trustme.CA(organization_name="quietpager test bed")
    authority.cert_pem.write_to_path(CA)
    authority.private_key_pem.write_to_path(CA_KEY)
    _make_service_account_key()
    for one in sorted(IDENTITIES, key=lambda i: i.name == "admin"):  # the administrator last: see above
        # trustme marks the list of names critical, and Go refuses a critical list that is empty.
        names = one.answers_to or (f"{one.name}.testbed",)
        issued = authority.issue_cert(
            *names, common_name=one.user, organization_name=one.group or "quietpager"
        )
        issued.private_key_pem.write_to_path(layout.PKI / f"{one.name}.key")
        issued.cert_chain_pems[0].write_to_path(layout.PKI / f"{one.name}.crt")
        if one.server:
            _write_kubeconfig(one.name, one.server)


def _make_service_account_key() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    SA_KEY.write_bytes(private)
    SA_PUBLIC.write_bytes(public)


def _write_kubeconfig(name: str, server: str) -> None:
    cluster = {"server": f"https://{server}:{layout.API_PORT}", "certificate-authority": str(CA)}
    user = {
        "client-certificate": str(layout.PKI / f"{name}.crt"),
        "client-key": str(layout.PKI / f"{name}.key"),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": name}}],
        "current-context": "testbed",
    }
    path = layout.KUBECONFIGS / name
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
