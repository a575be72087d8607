"""Who may not. The sandbox knows nobody, so the real API server is asked alone."""

import json
import uuid
from pathlib import Path

import yaml

from infra.testbed import layout
from infra.testbed.addons import kubectl
from quietpager.cluster.client import connect
from tests.contract.cluster.support import TESTBED, on_real, refused


@TESTBED
def test_who_may_not_is_rejected(tmp_path: Path) -> None:
    with on_real() as admin:
        name = f"contract-{uuid.uuid4().hex[:8]}"
        admin.create("Namespace", {"metadata": {"name": name}})
        try:
            kubectl("-n", name, "create", "serviceaccount", "nobody")
            token = kubectl("-n", name, "create", "token", "nobody").stdout
            client = connect(kubeconfig=_kubeconfig_of(token, tmp_path), manager="contract")
            who = f'User "system:serviceaccount:{name}:nobody" cannot'
            with refused(403, "Forbidden") as caught:
                client.list("Pod")
            assert who in caught.value.message
            with refused(403, "Forbidden"):
                client.get("Pod", name, "p")
            with refused(403, "Forbidden"):
                client.json_patch("Deployment", name, "web", [], dry_run=True)
            with refused(403, "Forbidden"):
                next(client.watch("Event", name, "1", 1))
            client.close()
        finally:
            admin.delete("Namespace", None, name)
    stranger = connect(kubeconfig=_kubeconfig_of("not-a-token", tmp_path), manager="contract")
    with refused(401, "Unauthorized"):
        stranger.list("Pod")
    stranger.close()


def _kubeconfig_of(token: str, folder: Path) -> Path:
    config = yaml.safe_load(layout.KUBECONFIG.read_text(encoding="utf-8"))
    config["users"] = [{"name": one["name"], "user": {"token": token}} for one in config["users"]]
    path = folder / "config"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path
