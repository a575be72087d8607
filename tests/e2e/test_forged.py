"""A forged Event: a user who may only `edit` a namespace claims that a healthy pod is in trouble."""

import json
import subprocess
import time
from datetime import UTC, datetime

import pytest

from infra.testbed import layout
from infra.testbed.addons import kubectl
from tests.e2e.bed import Bed, api_writes, apply, apply_fault, now, pods, until

pytestmark = pytest.mark.timeout(200)


def as_editor(namespace: str, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run kubectl with nothing but a token of a ServiceAccount that has the `edit` role."""
    token = kubectl("-n", namespace, "create", "token", "mallory").stdout.strip()
    server = f"https://{layout.LINK_ADDRESS}:{layout.API_PORT}"
    command = (
        str(layout.BIN / "kubectl"), "--kubeconfig=/dev/null", f"--server={server}", f"--token={token}",
        f"--certificate-authority={layout.PKI / 'ca.crt'}", "-n", namespace, *arguments,
    )  # fmt: skip
    return subprocess.run(command, input=text, check=False, capture_output=True, text=True)


def forged(pod: dict[str, object], reason: str, message: str) -> dict[str, object]:
    meta = pod["metadata"]
    assert isinstance(meta, dict)
    at = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    about = {"apiVersion": "v1", "kind": "Pod", "namespace": meta["namespace"], "name": meta["name"]}
    return {
        "apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": reason, "message": message,
        "metadata": {"generateName": "forged-", "namespace": meta["namespace"]},
        "involvedObject": about | {"uid": meta["uid"]}, "count": 50, "firstTimestamp": at,
        "lastTimestamp": at, "source": {"component": "kubelet", "host": layout.NODE},
    }  # fmt: skip


def test_a_forged_event_causes_nothing(bed: Bed) -> None:
    with bed.team("forged") as namespace:
        apply_fault("bad-tag", namespace)
        bed.wait_healthy(namespace, "web")
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "mallory", "namespace": namespace},
        }
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "mallory", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [{"kind": "ServiceAccount", "name": "mallory", "namespace": namespace}],
        }  # fmt: skip
        apply(account, binding)
        begun = now()
        pod = pods("web", namespace)[0]
        lies = (
            ("BackOff", "Back-off restarting failed container web in pod web"),
            ("Failed", 'Failed to pull image "localhost/busybox:1": not found'),
        )
        for reason, message in lies:
            done = as_editor(namespace, "create", "-f", "-", text=json.dumps(forged(pod, reason, message)))
            assert done.returncode == 0, done.stderr  # the `edit` role may write Events: that is the threat
        until("the forgeries' arrival as signals", lambda: arrived(bed, namespace, begun) == len(lies), 30)
        until("two more sweeps", lambda: sweeps(bed, begun) >= 2, 120)
        assert bed.incidents(namespace) == []
        assert [w for w in api_writes(begun) if w.namespace == namespace] == []


def arrived(bed: Bed, namespace: str, since: datetime) -> int:
    """Count the signals that were made of Events of this namespace; the forgeries do get that far."""
    return sum(
        m["type"] == "dev.quietpager.signal" and m.get("namespace") == namespace and m["origin"] == "event"
        for m in bed.spy.messages() if m["at"] > since.timestamp()
    )  # fmt: skip


def sweeps(bed: Bed, since: datetime) -> int:
    return sum(m.get("job") == "sweep" for m in bed.spy.messages() if m["at"] > since.timestamp())
