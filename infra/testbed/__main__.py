"""`python -m infra.testbed {start,stop,clean,status,build}`: what the Makefile's `cluster` targets run.

Reads like the order in which a cluster comes up: build, take what is needed of the machine, control
plane, node, DNS, Knative.
"""

import argparse
import shutil

from infra.progress import Progress
from infra.testbed import addons, build, control_plane, images, layout, machine, node, pki
from infra.testbed.processes import alive, start, stop, wait
from quietpager.model.time import system_clock

PROCESSES = (
    # In the order of stopping: first nobody starts new pods, then pods, then what they were told by.
    ("kubelet", 5.0), ("registry", 1.0), ("kube-proxy", 2.0), ("kube-scheduler", 2.0),
    ("kube-controller-manager", 2.0), ("kube-apiserver", 10.0), ("containerd", 5.0), ("etcd", 5.0),
)  # fmt: skip


def up(*, knative: bool, say: Progress) -> None:
    """Bring the cluster up, from whatever state it is in.

    Raises:
        SystemExit: the machine lacks something, a build failed or a part did not become ready.
    """
    if lacks := machine.missing():
        raise SystemExit("The test bed cannot run here:\n" + "\n".join(f"  {one}" for one in lacks))
    build.build(build.commands(knative=knative), say)
    images.make(knative=knative, say=say)
    machine.take()
    machine.join()  # a starter that is killed leaves a `kubectl wait` behind
    pki.make()
    say("network namespace, cgroup and certificates")
    start(control_plane.etcd())
    start(control_plane.api_server())
    start(node.containerd())  # it needs no API server, so the images go in while that comes up
    start(node.registry())
    images.load(knative=knative)
    say("images in containerd")
    wait("The API server", _api_is_ready, 60)
    say("API server ready")
    start(control_plane.controller_manager())
    start(control_plane.scheduler())
    begun = system_clock() if start(node.kubelet()) else None
    start(node.kube_proxy())
    wait("The node", _node_is_ready, 90)
    wait("kube-proxy", _proxy_is_ready, 30)
    say("node ready")
    addons.dns(begun)
    say("DNS ready")
    if knative:
        addons.knative(begun, say)
        say("Knative ready")


def down(say: Progress) -> None:
    """Stop everything that is in our cgroup and give back what was taken."""
    stop("kubelet", 5)
    images.end_all_containers()
    say("pods ended")
    for name, patience in PROCESSES:
        stop(name, patience)
    machine.give_back()
    shutil.rmtree(node.CNI / "data", ignore_errors=True)  # addresses of pods that are no more
    say("stopped; the state is kept in " + str(layout.CLUSTER))


def clean(*, everything: bool, say: Progress) -> None:
    """Stop, and forget the cluster; with `everything` also what was built."""
    down(say)
    for folder in (layout.CLUSTER, *((layout.BIN, layout.IMAGES, layout.BASE) if everything else ())):
        shutil.rmtree(folder, ignore_errors=True)
    say("forgotten")


def status(say: Progress) -> None:
    """Say which processes live."""
    for name, _ in PROCESSES:
        pid = alive(name)
        say(f"{name:24} {'not running' if pid is None else f'running, process {pid}'}")


def _api_is_ready() -> bool:
    return not addons.kubectl("get", "--raw=/readyz", "--request-timeout=2s", check=False).returncode


def _node_is_ready() -> bool:
    wish = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    return addons.kubectl("get", f"node/{layout.NODE}", "-o", wish, check=False).stdout == "True"


def _proxy_is_ready() -> bool:
    command = machine.inside("curl", "--fail", "--silent", "http://127.0.0.1:10256/healthz")
    return not machine.run(*command, check=False).returncode


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m infra.testbed", description=__doc__)
    parser.add_argument("command", choices=("start", "stop", "clean", "status", "build"))
    parser.add_argument("--no-knative", action="store_true", help="Kubernetes only")
    parser.add_argument("--all", action="store_true", help="clean: also forget what was built")
    wanted = parser.parse_args()
    say = Progress()
    match wanted.command:
        case "start":
            up(knative=not wanted.no_knative, say=say)
            say(f"up; export KUBECONFIG={layout.KUBECONFIG}")
        case "stop":
            down(say)
        case "clean":
            clean(everything=wanted.all, say=say)
        case "status":
            status(say)
        case "build":
            build.build(build.commands(knative=not wanted.no_knative), say)
            images.make(knative=not wanted.no_knative, say=say)


if __name__ == "__main__":
    main()
