"""The one node: containerd, kubelet, kube-proxy, and a registry that fails in every way there is.

Who calls it: `start`. Each function writes the part's configuration and gives its process.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from infra.testbed import layout, machine, pki
from infra.testbed.layout import BIN
from infra.testbed.processes import Process

Json = dict[str, Any]

NODE: Final = layout.CLUSTER / "node"
CNI: Final = layout.CLUSTER / "cni"
CERTS_D: Final = NODE / "certs.d"
PAUSE_IMAGE: Final = "localhost/pause:1"
PLUGINS: Final = "/usr/lib/cni"

CONTAINERD_CONFIG: Final = f"""\
version = 2
root = "{layout.CLUSTER / "containerd"}"
state = "{layout.RUN / "containerd"}"
# Snapshotters this machine may lack would only log errors; overlayfs is the one in use.
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "{layout.CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # The pods' namespaces then lie in our folder, and no other runtime's are mistaken for ours.
  netns_mounts_under_state_dir = true
  # A kubelet inside a container or a small VM may not lower anybody's OOM score.
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{PLUGINS}"
  conf_dir = "{CNI / "net.d"}"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{CERTS_D}"
"""
"""containerd 1.6. Without `SystemdCgroup = false` it would need systemd, which a CI machine has not."""

REGISTRY_HOST: Final = "registry.example.com"
"""Images of this name are pulled from the fake registry; example.com belongs to nobody."""


def containerd() -> Process:
    """The container runtime."""
    _write(NODE / "containerd.toml", CONTAINERD_CONFIG)
    hosts = f'server = "http://{layout.REGISTRY}"\n[host."http://{layout.REGISTRY}"]\n'
    _write(CERTS_D / REGISTRY_HOST / "hosts.toml", hosts + '  capabilities = ["pull", "resolve"]\n')
    _write(CNI / "net.d" / "10-testbed.conflist", json.dumps(_network()))
    return Process("containerd", ("containerd", "--config", str(NODE / "containerd.toml")))


def _network() -> Json:
    address = {
        "type": "host-local",
        "dataDir": str(CNI / "data"),
        "ranges": [[{"subnet": layout.PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": machine.BRIDGE,
        "isGateway": True,
        "ipMasq": False,  # there is nowhere to go
        "hairpinMode": True,  # a pod may reach itself through its Service
        "ipam": address,
    }
    return {"cniVersion": "1.0.0", "name": "testbed", "plugins": [bridge]}


def registry() -> Process:
    """The fake registry, on loopback inside the namespace."""
    port = layout.REGISTRY.rpartition(":")[2]
    command = (sys.executable, "-m", "infra.testbed.registry", port, str(layout.IMAGES / "busybox.tar"))
    return Process("registry", command, env={"PYTHONPATH": str(Path(__file__).parents[2])})


def kubelet() -> Process:
    """The kubelet, below our cgroup and in our folders only."""
    folder = layout.CLUSTER / "kubelet"
    resolv = NODE / "resolv.conf"
    _write(resolv, "")  # outside names: SERVFAIL, which is what "no network" looks like to a pod
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.NODE_ADDRESS,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki.CA)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.PKI / "kubelet.crt"),
        "tlsPrivateKeyFile": str(layout.PKI / "kubelet.key"),
        "containerRuntimeEndpoint": f"unix://{layout.CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{machine.CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "clusterDNS": [layout.DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolv),
        "podLogsDir": str(layout.CLUSTER / "pod-logs"),
        "volumePluginDir": str(folder / "volume-plugins"),
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        # Else a kubelet that pulled an image once would ask a registry about every other name of the
        # same content, `localhost/busybox` of the fake registry's image (Kubernetes 1.35).
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        # The machine's disk is shared with everything else on it, so nearly full is normal.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "imageGCHighThresholdPercent": 99,
        "imageGCLowThresholdPercent": 98,
    }
    _write(NODE / "kubelet.yaml", yaml.safe_dump(config, sort_keys=False))
    return Process("kubelet", (
        str(BIN / "kubelet"), f"--config={NODE / 'kubelet.yaml'}",
        f"--kubeconfig={layout.KUBECONFIGS / 'node'}", f"--hostname-override={layout.NODE}",
        f"--node-ip={layout.NODE_ADDRESS}", f"--root-dir={folder}",
        f"--cert-dir={layout.PKI / 'kubelet'}",
    ))  # fmt: skip


def kube_proxy() -> Process:
    """ClusterIPs, by iptables of the namespace."""
    config: Mapping[str, Any] = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "0.0.0.0",  # noqa: S104 (inside the namespace)
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "clientConnection": {"kubeconfig": str(layout.KUBECONFIGS / "proxy")},
        "clusterCIDR": layout.PODS,
        "hostnameOverride": layout.NODE,
        "mode": "iptables",
        "conntrack": {"maxPerCore": 0, "min": 0},  # nf_conntrack_max is the machine's, not ours
        "iptables": {"minSyncPeriod": "100ms"},
    }
    _write(NODE / "kube-proxy.yaml", yaml.safe_dump(config, sort_keys=False))
    return Process("kube-proxy", (str(BIN / "kube-proxy"), f"--config={NODE / 'kube-proxy.yaml'}"))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
