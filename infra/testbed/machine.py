"""What the test bed takes from the machine, and gives back: network namespace, link, cgroup, settings.

Who calls it: `start` before the first process, `stop` after the last one. Whatever is taken is found
again by its name, never by memory of a process, so that `stop` works after a `kill -9` of the starter.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from infra.testbed import layout

BRIDGE: Final = "quietpager0"
HOST_LINK: Final = "qp-host"
INNER_LINK: Final = "qp-node"
CGROUP: Final = "quietpager"
SYSTEM: Final = f"{CGROUP}/system"
"""The cgroup of the cluster's own processes; pods live in `quietpager/kubepods` beside it."""

PACKAGES: Final = {
    "go": "golang (1.25 or newer)",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "busybox": "busybox-static",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "socat": "socat",
    "ethtool": "ethtool",
    "curl": "curl",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "apt-get": "apt: function images are made of Debian packages",
}
"""What must be on the machine, and the Debian package that brings it."""

# The kubelet sets these for the whole machine, not for a namespace (kubelet's setupKernelTunables).
SETTINGS: Final = (
    "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
)  # fmt: skip
# With the bridge module loaded here, these belong to the namespace; without it they cannot be set.
INNER_SETTINGS: Final = {
    "net/ipv4/ip_forward": "1",
    "net/bridge/bridge-nf-call-iptables": "1",
    "net/ipv4/conf/all/route_localnet": "1",
}


def missing() -> list[str]:
    """Say in sentences what the machine lacks; empty when the test bed can run."""
    lacks = [
        f"{name} is missing: install {package}."
        for name, package in PACKAGES.items()
        if shutil.which(name, path=search_path()) is None
    ]
    if os.geteuid() != 0:
        lacks.append("Root is needed: the test bed makes a network namespace, cgroups and mounts.")
    return lacks


def search_path() -> str:
    """Give the PATH with the folders of system commands, which a person's own often lacks."""
    return f"{os.environ.get('PATH', '')}:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin"


def inside(*command: str) -> tuple[str, ...]:
    """Make a command run inside the network namespace.

    `ip netns exec` would mount a new /sys over the cgroups, so it is `nsenter`.
    """
    return ("nsenter", f"--net=/run/netns/{layout.NETNS}", *command)


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a short command and give what it printed."""
    env = os.environ | {"PATH": search_path()}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    if check and done.returncode:
        raise SystemExit(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done


# Taking


def take() -> None:
    """Remember the machine's settings, make the cgroup and the network namespace; idempotent."""
    for folder in (layout.RUN, layout.LOGS):
        folder.mkdir(parents=True, exist_ok=True)
    _remember()
    for folder in cgroup_folders():
        for name in (CGROUP, SYSTEM):
            (folder / name).mkdir(exist_ok=True)
            _give_cpus(folder / name)
    if not Path(f"/run/netns/{layout.NETNS}").exists():
        _make_network()


def join() -> None:
    """Put this process and all it starts from now on into the cgroup, so that `stop` ends them too."""
    for folder in cgroup_folders():
        (folder / SYSTEM / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")


def _remember() -> None:
    before = layout.RUN / "machine-before.json"
    if before.exists():  # a start that was killed left the true values; ours by now may be the kubelet's
        return
    values = {name: (Path("/proc/sys") / name).read_text(encoding="ascii").strip() for name in SETTINGS}
    values["/run/netns"] = "mounted" if _is_mounted("/run/netns") else "not mounted"
    before.write_text(json.dumps(values), encoding="utf-8")


def cgroup_folders() -> list[Path]:
    """Find the root of every cgroup hierarchy: one with version 2, one for each controller with 1."""
    lines = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    ones = [Path(line[1]) for line in lines if line[2] == "cgroup"]
    return ones or _unified(lines)


def _unified(mounts: list[list[str]]) -> list[Path]:
    return [Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"]


def _all_cgroup_folders() -> list[Path]:
    """Add the version-2 hierarchy that version-1 machines mount beside: runc makes folders there too."""
    lines = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    return list(dict.fromkeys([*cgroup_folders(), *_unified(lines)]))


def _give_cpus(folder: Path) -> None:
    """Give a new version-1 cpuset its parent's processors; an empty one takes no process."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        mine = folder / name
        if mine.exists() and not mine.read_text(encoding="ascii").strip():
            mine.write_text((folder.parent / name).read_text(encoding="ascii"), encoding="ascii")


def _make_network() -> None:
    run("ip", "netns", "add", layout.NETNS)
    for command in (
        ("ip", "link", "set", "lo", "up"),
        ("ip", "link", "add", BRIDGE, "type", "bridge"),
        ("ip", "addr", "add", f"{layout.NODE_ADDRESS}/24", "dev", BRIDGE),
        ("ip", "link", "set", BRIDGE, "up"),
    ):
        run(*inside(*command))
    for name, value in INNER_SETTINGS.items():
        run(*inside("sh", "-c", f"echo {value} > /proc/sys/{name}"))
    # The machine's way in: to pods, to ClusterIPs and to the API server. Nothing leads further out.
    run("ip", "link", "add", HOST_LINK, "type", "veth", "peer", "name", INNER_LINK, "netns", layout.NETNS)
    run("ip", "addr", "add", f"{layout.HOST_ADDRESS}/30", "dev", HOST_LINK)
    run("ip", "link", "set", HOST_LINK, "up")
    run(*inside("ip", "addr", "add", f"{layout.LINK_ADDRESS}/30", "dev", INNER_LINK))
    run(*inside("ip", "link", "set", INNER_LINK, "up"))
    for network in (layout.PODS, layout.SERVICES):
        run("ip", "route", "add", network, "via", layout.LINK_ADDRESS)
    # There is no default route in there, and a process of the node needs one before the Service's
    # address is rewritten: without it the API server cannot call webhooks ("network is unreachable").
    run(*inside("ip", "route", "add", layout.SERVICES, "dev", BRIDGE, "src", layout.NODE_ADDRESS))


# Giving back


def give_back() -> None:
    """End what still runs in the cgroup, unmount, remove namespace, link and cgroup, restore settings."""
    _kill_all()
    for mount in _own_mounts():
        if run("umount", mount, check=False).returncode:
            run("umount", "--lazy", mount, check=False)
    run("ip", "netns", "del", layout.NETNS, check=False)  # takes its end of the link and all iptables
    run("ip", "link", "del", HOST_LINK, check=False)
    for folder in _all_cgroup_folders():
        for path in sorted((folder / CGROUP).glob("**/"), key=lambda p: len(p.parts), reverse=True):
            with suppress(OSError):
                path.rmdir()
    before = layout.RUN / "machine-before.json"
    if before.exists():
        values = json.loads(before.read_text(encoding="utf-8"))
        for name in SETTINGS:
            (Path("/proc/sys") / name).write_text(values[name], encoding="ascii")
        if values["/run/netns"] == "not mounted" and not list(Path("/run/netns").glob("*")):
            run("umount", "/run/netns", check=False)  # `ip netns add` mounts it over itself, once
        before.unlink()


def members() -> set[int]:
    """Find every process in our cgroup, pods' processes included."""
    found = set()
    for folder in cgroup_folders():
        for procs in (folder / CGROUP).glob("**/cgroup.procs"):
            with suppress(OSError):
                found |= {int(line) for line in procs.read_text(encoding="ascii").split()}
    return found


def _kill_all(seconds: float = 10) -> None:
    end = monotonic() + seconds
    while (left := members()) and monotonic() < end:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        sleep(0.1)


def _own_mounts() -> Iterator[str]:
    """Give our mount points, the innermost first: containers, Secret volumes, pods' namespaces.

    The pods' namespaces too lie below the cluster's folder: see `netns_mounts_under_state_dir`.
    """
    own = f"{layout.CLUSTER}/"
    points = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    yield from sorted((p for p in points if p.startswith(own)), reverse=True)


def _is_mounted(path: str) -> bool:
    lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    return any(line.split()[1] == path for line in lines)
