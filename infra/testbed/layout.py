"""Where the test bed keeps what it builds and what it runs, and the addresses it uses.

Nothing of it lies in the repository. `QUIETPAGER_TESTBED` names another folder than the default
`~/.cache/quietpager/testbed` (the cache folder of the XDG base directory specification).
"""

import os
from pathlib import Path
from typing import Final

CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quietpager"
"""What is built once for this machine, also by the tests."""
HOME: Final = Path(os.environ.get("QUIETPAGER_TESTBED") or CACHE / "testbed")
BIN: Final = HOME / "bin"
"""Commands built from Go modules."""
IMAGES: Final = HOME / "images"
"""Archives of images, ready to import."""
BASE: Final = HOME / "base"
"""Debian packages and the root file system of the Python base image."""

CLUSTER: Final = HOME / "cluster"
"""Everything a running or stopped cluster owns: forget it and the cluster is new."""
RUN: Final = CLUSTER / "run"
"""Process ids, sockets, and what the machine was like before."""
LOGS: Final = CLUSTER / "log"
"""One file for each process, and the API server's audit log."""
PKI: Final = CLUSTER / "pki"
KUBECONFIGS: Final = CLUSTER / "kubeconfig"
KUBECONFIG: Final = KUBECONFIGS / "admin"
"""The administrator's kubeconfig; works on the machine itself, outside the network namespace."""
CONTAINERD_SOCKET: Final = RUN / "containerd.sock"
AUDIT_LOG: Final = LOGS / "audit.jsonl"
"""The API server's audit log: every write of the product, with its body."""

NETNS: Final = "quietpager"
"""The network namespace; `/run/netns/quietpager`."""
NODE: Final = "testbed"
"""The only node's name."""
NODE_ADDRESS: Final = "10.244.0.1"
"""The node's address, on the pods' bridge."""
PODS: Final = "10.244.0.0/24"
SERVICES: Final = "10.96.0.0/24"
API_SERVICE: Final = "10.96.0.1"
DNS_SERVICE: Final = "10.96.0.10"
HOST_ADDRESS: Final = "10.255.0.1"
"""The machine's end of the link into the network namespace."""
LINK_ADDRESS: Final = "10.255.0.2"
"""The namespace's end of it; the API server listens here too."""
API_PORT: Final = 6443
REGISTRY: Final = "127.0.0.1:5055"
"""The fake registry, inside the network namespace only."""
