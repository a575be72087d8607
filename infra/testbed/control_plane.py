"""The control plane: etcd, the API server, the controllers and the scheduler, as plain processes.

Who calls it: `start`. Each function gives a process with its flags and the reason for each that is not
obvious. Flags are those of Kubernetes 1.35 and etcd 3.6.
"""

from typing import Final

import yaml

from infra.testbed import layout, pki
from infra.testbed.layout import BIN
from infra.testbed.processes import Process

ETCD_URL: Final = "http://127.0.0.1:2379"
PEER_URL: Final = "http://127.0.0.1:2380"
AUDIT_POLICY: Final = layout.CLUSTER / "audit-policy.yaml"

WRITES: Final = ["create", "update", "patch", "delete", "deletecollection"]
POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        # What the product changes, with the patch itself: tests join it to the product's own audit.
        {"level": "Request", "userGroups": ["system:serviceaccounts:quietpager"], "verbs": WRITES},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts:quietpager"]},
        # The kill switch, thrown by a person.
        {"level": "Metadata", "resources": [{"group": "rbac.authorization.k8s.io"}], "verbs": WRITES},
        {"level": "None"},
    ],
}


def etcd() -> Process:
    """The store of the API server. A test bed may lose what it wrote last: hence no fsync."""
    return Process("etcd", (
        str(BIN / "etcd"), "--name=testbed", f"--data-dir={layout.CLUSTER / 'etcd'}",
        f"--listen-client-urls={ETCD_URL}", f"--advertise-client-urls={ETCD_URL}",
        f"--listen-peer-urls={PEER_URL}", f"--initial-advertise-peer-urls={PEER_URL}",
        f"--initial-cluster=testbed={PEER_URL}", "--unsafe-no-fsync", "--log-level=warn",
    ))  # fmt: skip


def api_server() -> Process:
    """The API server. With open watches it would take a minute to end, so it gets ten seconds."""
    AUDIT_POLICY.write_text(yaml.safe_dump(POLICY, sort_keys=False), encoding="utf-8")
    return Process("kube-apiserver", (
        str(BIN / "kube-apiserver"), f"--etcd-servers={ETCD_URL}",
        # On every address: pods come over the bridge, tests on the machine over the link.
        "--bind-address=0.0.0.0", f"--advertise-address={layout.NODE_ADDRESS}",
        f"--secure-port={layout.API_PORT}",
        f"--tls-cert-file={layout.PKI / 'api-server.crt'}",
        f"--tls-private-key-file={layout.PKI / 'api-server.key'}",
        f"--client-ca-file={pki.CA}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki.SA_PUBLIC}",
        f"--service-account-signing-key-file={pki.SA_KEY}",
        f"--service-cluster-ip-range={layout.SERVICES}",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--kubelet-client-certificate={layout.PKI / 'api-to-kubelet.crt'}",
        f"--kubelet-client-key={layout.PKI / 'api-to-kubelet.key'}",
        "--kubelet-preferred-address-types=InternalIP",  # the node's name is in no DNS
        f"--audit-policy-file={AUDIT_POLICY}", f"--audit-log-path={layout.AUDIT_LOG}",
        "--audit-log-mode=blocking-strict",  # a test that joins it must not miss what is in a buffer
        # An hour by default; whole runs in a row left ten thousand, which whoever lists Events has to read.
        "--event-ttl=20m",
    ), patience=10)  # fmt: skip


def controller_manager() -> Process:
    """The controllers, with their own service accounts as in production."""
    config = f"{layout.KUBECONFIGS / 'controller-manager'}"
    return Process("kube-controller-manager", (
        str(BIN / "kube-controller-manager"), f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}", f"--authorization-kubeconfig={config}",
        "--bind-address=127.0.0.1", "--leader-elect=false", "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki.SA_KEY}", f"--root-ca-file={pki.CA}",
        f"--cluster-signing-cert-file={pki.CA}", f"--cluster-signing-key-file={pki.CA_KEY}",
        # Its default lies under /usr, where a test bed must not write.
        f"--flex-volume-plugin-dir={layout.CLUSTER / 'kubelet' / 'volume-plugins'}",
    ))  # fmt: skip


def scheduler() -> Process:
    """The scheduler."""
    config = f"{layout.KUBECONFIGS / 'scheduler'}"
    return Process("kube-scheduler", (
        str(BIN / "kube-scheduler"), f"--kubeconfig={config}", f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}", "--bind-address=127.0.0.1", "--leader-elect=false",
    ))  # fmt: skip
