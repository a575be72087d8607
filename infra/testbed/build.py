"""Builds the cluster's commands from Go modules, once for each state of our go.mod files.

Who calls it: `make cluster`, before anything is started. The versions stand in the go.mod files under
`go/` and nowhere else. A command is built again when its module's files or the Go toolchain changed.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from infra.testbed.layout import BIN

MODULES: Final = Path(__file__).parent / "go"
ENVIRONMENT: Final = {
    "CGO_ENABLED": "0",  # static, so that a command is a whole image by itself
    "GOFLAGS": "-mod=readonly -buildvcs=false -trimpath",
}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its module under `go/`, its package, and the linker flags it needs."""

    name: str
    module: str
    package: str
    linker: str = "-s -w"


def _kubernetes(name: str) -> Command:
    # Without its version in it, the API server would introduce itself as v0.0.0.
    version = (
        f"-s -w -X k8s.io/component-base/version.gitVersion={version_of('kubernetes', 'k8s.io/kubernetes')}"
    )
    return Command(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", version)


def _knative(folder: str) -> Command:
    return Command(folder.rpartition("/")[2], "knative", f"knative.dev/eventing/cmd/{folder}")


def commands(*, knative: bool) -> tuple[Command, ...]:
    """List what a cluster needs, the longest build first."""
    kubernetes = (
        "kube-apiserver", "kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubectl",
    )  # fmt: skip
    eventing = (
        "controller", "webhook", "mtchannel_broker", "in_memory/channel_controller",
        "in_memory/channel_dispatcher", "broker/ingress", "broker/filter", "apiserver_receive_adapter",
        "mtping",
    )  # fmt: skip
    return (
        *(_kubernetes(name) for name in kubernetes),
        Command("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
        Command("coredns", "coredns", "."),
        Command("pause", "pause", "."),
        *(_knative(folder) for folder in (eventing if knative else ())),
    )


def version_of(module: str, dependency: str) -> str:
    """Read the version of a dependency from one of our go.mod files.

    Raises:
        ValueError: the file does not require it.
    """
    for line in (MODULES / module / "go.mod").read_text(encoding="utf-8").splitlines():
        words = line.removeprefix("require").split()
        if words[:1] == [dependency]:
            return words[1]
    raise ValueError(f"infra/testbed/go/{module}/go.mod does not require {dependency}.")


def module_folder(module: str, dependency: str) -> Path:
    """Find where Go keeps the sources of a dependency, downloading them if need be."""
    done = _go(module, "mod", "download", "-json", f"{dependency}@{version_of(module, dependency)}")
    return Path(json.loads(done.stdout)["Dir"])


def build(wanted: tuple[Command, ...], say: Say) -> None:
    """Build what is not there, and say how long each took.

    Raises:
        SystemExit: a build failed; the text is the compiler's.
    """
    BIN.mkdir(parents=True, exist_ok=True)
    toolchain = subprocess.run(("go", "version"), check=True, capture_output=True, text=True).stdout
    for command in wanted:
        target, stamp = BIN / command.name, BIN / f".{command.name}.stamp"
        wish = _digest(command, toolchain)
        if target.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wish:
            continue
        begun = monotonic()
        fresh = target.with_name(f".{command.name}.new")
        _go(command.module, "build", "-ldflags", command.linker, "-o", str(fresh), command.package)
        fresh.replace(target)
        stamp.write_text(wish, encoding="utf-8")
        say(f"built {command.name} in {monotonic() - begun:.0f} s")


def _digest(command: Command, toolchain: str) -> str:
    parts = [toolchain, command.package, command.linker]
    parts += [p.read_text(encoding="utf-8") for p in sorted((MODULES / command.module).iterdir())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _go(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ("go", *arguments), cwd=MODULES / module, env=os.environ | ENVIRONMENT,
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"`go {' '.join(arguments)}` failed in infra/testbed/go/{module}:\n{done.stderr}")
    return done
