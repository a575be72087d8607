"""A real API server takes what is rendered, with Knative's own schemas and webhooks; nothing is changed.

A dry run by the server goes the whole way of a write but the last step: field validation (strict: a field
that no schema knows is an error), defaulting, admission, Knative's webhooks.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.deploy.__main__ import POLICY
from infra.testbed.addons import kubectl
from quietpager.render import Settings, manifests
from quietpager.runtime.context import functions_folder
from tests.e2e.bed import NAMESPACE

Json = dict[str, Any]

MANAGER = "quietpager-dry-run"


def rendered(*, func: bool, authentication: bool = False) -> list[Json]:
    settings = Settings(
        cluster="testbed", policy=POLICY.read_text(encoding="utf-8"), func=func, authentication=authentication
    )
    return manifests(functions_folder(), settings)


def refusal(objects: list[Json], folder: Path) -> str:
    """Ask the API server; give what it says against it, or nothing."""
    file = folder / "objects.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}), encoding="utf-8")
    done = kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts",
        f"--field-manager={MANAGER}", "-f", str(file), check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.parametrize(
    "chosen",
    [{"func": False}, {"func": True}, {"func": False, "authentication": True}],
    ids=["deployments", "func", "authentication"],
)
def test_the_api_server_takes_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], chosen: dict[str, bool]
) -> None:
    objects = rendered(**chosen)
    assert refusal(objects, tmp_path) == ""
    with capsys.disabled():
        print(f"\n{len(objects)} rendered objects taken by the API server ({chosen})")


def first(kind: str) -> Json:
    return next(one for one in rendered(func=False, authentication=True) if one["kind"] == kind)


@pytest.mark.parametrize(
    ("kind", "change", "word"),
    [
        ("Trigger", {"filter": {"attributes": {"type": "x"}}, "filterz": []}, "filterz"),
        ("Trigger", {"filters": [{"exact": {"type": "x"}, "prefix": {"type": "x"}}]}, "multiple dialects"),
        ("Trigger", {"filters": [{"exact": {"Upper": "x"}}]}, "Upper"),
        ("PingSource", {"schedule": "@every 5s"}, "schedule"),
        ("Broker", {"delivery": {"backoffPolicy": "sometimes"}}, "backoffPolicy"),
        ("Deployment", {"replica": 1}, "replica"),
        ("EventPolicy", {"filter": []}, "filter"),
        ("EventPolicy", {"from": [{}]}, "from"),
        ("NetworkPolicy", {"egres": []}, "egres"),
        ("NetworkPolicy", {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0"}}]}]}, "cidr"),
    ],
)
def test_what_is_wrong_would_be_refused(kind: str, change: Json, word: str, tmp_path: Path) -> None:
    one = first(kind)
    odd = one | {"metadata": one["metadata"] | {"name": "odd"}, "spec": one["spec"] | change}
    assert word in refusal([odd], tmp_path)


def test_a_pod_that_is_not_restricted_would_be_refused(tmp_path: Path) -> None:
    template = first("Deployment")["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "odd", "namespace": NAMESPACE},
        "spec": template["spec"] | {"hostNetwork": True},
    }
    assert "violates PodSecurity" in refusal([pod], tmp_path)
