"""What runs as pods before the product does: cluster DNS and Knative Eventing, from its own manifests.

Who calls it: `start`, once the node is Ready. Knative is unmodified: its YAML comes out of its Go module
and only the `ko://` names of images are replaced, which is what `ko resolve` does.
"""

import json
import re
import subprocess
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from infra.testbed import layout
from infra.testbed.build import Say, module_folder, version_of
from infra.testbed.layout import BIN
from infra.testbed.processes import wait

EVENTING: Final = "knative.dev/eventing"
NAMESPACE: Final = "knative-eventing"
CONFIG: Final = layout.CLUSTER / "knative"
DEPLOYMENTS: Final = (
    "eventing-webhook", "eventing-controller", "mt-broker-controller", "mt-broker-ingress",
    "mt-broker-filter", "imc-controller", "imc-dispatcher",
)  # fmt: skip
WEBHOOKS: Final = (
    "mutatingwebhookconfiguration/webhook.eventing.knative.dev",
    "validatingwebhookconfiguration/validation.webhook.eventing.knative.dev",
    "mutatingwebhookconfiguration/inmemorychannel.eventing.knative.dev",
    "validatingwebhookconfiguration/validation.inmemorychannel.eventing.knative.dev",
)


def kubectl(*arguments: str, check: bool = True, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl as the test bed's administrator; it is given `text` to read.

    Raises:
        SystemExit: it failed; the text is kubectl's.
    """
    command = (str(BIN / "kubectl"), f"--kubeconfig={layout.KUBECONFIG}", *arguments)
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=text)
    if check and done.returncode:
        raise SystemExit(f"`kubectl {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done


def dns(since: datetime | None) -> None:
    """Bring up cluster DNS; `since`: when this kubelet was started, if it was just now."""
    _apply([Path(__file__).parent / "manifests" / "coredns.yaml"])
    kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")
    wait("Cluster DNS", lambda: _is_fresh("kube-system", since), 120)


def knative_image(command: str) -> str:
    """Name the image of one of Knative's commands, as the manifests will."""
    return f"localhost/knative/{command}:{version_of('knative', EVENTING)}"


def knative(since: datetime | None, say: Say) -> None:
    """Bring up Knative Eventing, or wait for the one that is there; `since` as for `dns`."""
    if kubectl("-n", NAMESPACE, "get", "deployment/imc-dispatcher", check=False).returncode:
        _install()
        say("Knative's manifests applied")
    for name in DEPLOYMENTS:
        kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{name}", "--timeout=180s")
    wait("Knative Eventing", lambda: _is_fresh(NAMESPACE, since), 180)
    for webhook in WEBHOOKS:
        # Until its controller has written rules and authority, a webhook intercepts nothing, and
        # objects would go in without their defaults.
        wait(f"The webhook {webhook}", lambda webhook=webhook: _intercepts(webhook), 60)  # type: ignore[misc]


def _is_fresh(namespace: str, since: datetime | None) -> bool:
    """Tell whether all pods are ready by now, and not by a status from before a restart.

    After a warm start the API server still holds what the last kubelet reported: everything Ready.
    """
    pods = json.loads(kubectl("-n", namespace, "get", "pods", "-o", "json").stdout)["items"]
    containers = [one for pod in pods for one in pod["status"].get("containerStatuses", [{}])]
    return bool(containers) and all(_is_up(one, since) for one in containers)


def _is_up(container: dict[str, Any], since: datetime | None) -> bool:
    running = container.get("state", {}).get("running")
    if not running or not container.get("ready"):
        return False
    # The API's times have whole seconds.
    return since is None or datetime.fromisoformat(running["startedAt"]) >= since.replace(microsecond=0)


def _install() -> None:
    root = module_folder("knative", EVENTING)
    config = root / "config"
    core, channel = config / "core", config / "channels" / "in-memory-channel"
    broker = config / "brokers" / "mt-channel-broker"
    _apply([core / "100-namespace.yaml"])
    # Custom resource definitions are too large for the annotation of a client-side apply.
    _apply([core / "resources", channel / "resources"])
    wait("The default ServiceAccount of knative-eventing", _has_service_account, 30)
    _apply([core, core / "roles", core / "configmaps", channel, channel / "roles", channel / "configmaps",
            broker / "roles", root / "third_party" / "eventing-integrations-latest"])  # fmt: skip
    # Off by default; the tests read from them that nothing was delivered twice.
    metrics = json.dumps({"data": {"metrics-protocol": "prometheus"}})
    kubectl("-n", NAMESPACE, "patch", "configmap/config-observability", "--type=merge", f"--patch={metrics}")
    # Applied once and never again: its `replicas: 0` would stop the ticks, while PingSources stay Ready.
    once = core / "deployments"
    _apply([once / "controller.yaml", once / "webhook.yaml", once / "pingsource-mt-adapter.yaml",
            broker / "deployments", channel / "deployments"])  # fmt: skip
    _apply([core / "webhooks", channel / "webhooks"])


def _has_service_account() -> bool:
    return not kubectl("-n", NAMESPACE, "get", "serviceaccount/default", check=False).returncode


def _intercepts(webhook: str) -> bool:
    hooks = json.loads(kubectl("get", webhook, "-o", "json").stdout)["webhooks"]
    return all(hook.get("rules") and hook["clientConfig"].get("caBundle") for hook in hooks)


def _apply(paths: Iterable[Path]) -> None:
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.glob("*.yaml")))]
    text = "\n---\n".join(resolved(file.read_text(encoding="utf-8")) for file in files)
    CONFIG.mkdir(parents=True, exist_ok=True)
    bundle = CONFIG / "applied.yaml"
    bundle.write_text(text, encoding="utf-8")
    kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=testbed", "-f", str(bundle))


def resolved(text: str) -> str:
    """Give a manifest with our names for Knative's images."""
    return re.sub(
        rf"ko://{re.escape(EVENTING)}/cmd/(?:[a-z_]+/)*([a-z_]+)", lambda m: knative_image(m[1]), text
    )
