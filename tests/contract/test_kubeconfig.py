"""Every field of a kubeconfig is honoured or refused with a sentence; no call is anonymous by accident."""

import json
from pathlib import Path
from typing import Any

import pytest
from urllib3.exceptions import InsecureRequestWarning

from quietpager.cluster import exec_plugin
from quietpager.cluster.client import connect
from quietpager.model.cluster import ClusterUnavailable
from tests import apiserver

EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never"}


def kubeconfig(folder: Path, user: dict[str, Any], **cluster: Any) -> Path:
    path = folder / "config"
    path.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1", **cluster}}],
        "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": user}],
    }), encoding="utf-8")  # fmt: skip
    return path


def plugin(folder: Path, body: str, **more: Any) -> dict[str, Any]:
    program = folder / "plugin"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o700)
    return {"exec": EXEC | {"command": str(program)} | more}


GIVES = json.dumps({"apiVersion": EXEC["apiVersion"], "kind": "ExecCredential", "status": {"token": "t"}})


@pytest.mark.parametrize(
    "user",
    [{"as": "ann"}, {"as-groups": ["g"]}, {"as-uid": "1"}, {"as-user-extra": {"a": ["b"]}}],
    ids=lambda user: next(iter(user)),
)
def test_impersonation_is_refused_and_never_passed_over(tmp_path: Path, user: dict[str, Any]) -> None:
    with pytest.raises(ClusterUnavailable, match=f"its user has {next(iter(user))}, and quietpager"):
        connect(kubeconfig=kubeconfig(tmp_path, {"token": "t", **user}), manager="m")


@pytest.mark.parametrize("body", ["exit 1", "echo no JSON", "echo '{}'", "kill -9 $$"])
def test_a_plugin_that_fails_is_no_anonymous_call(tmp_path: Path, body: str) -> None:
    user = plugin(tmp_path, body, installHint="Install it from the portal.")
    with pytest.raises(ClusterUnavailable, match=r"plugin \(exec\) gave no credentials.* from the portal"):
        connect(kubeconfig=kubeconfig(tmp_path, user), manager="m")


def test_a_plugin_that_is_missing_is_no_anonymous_call(tmp_path: Path) -> None:
    user = {"exec": EXEC | {"command": "/nowhere/login"}}
    with pytest.raises(ClusterUnavailable, match="/nowhere/login"):
        connect(kubeconfig=kubeconfig(tmp_path, user), manager="m")


def test_without_the_check_the_call_goes_on_anonymously(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant."""
    monkeypatch.setattr(exec_plugin, "fault_of", lambda *_: "")
    found = connect(kubeconfig=kubeconfig(tmp_path, plugin(tmp_path, "echo '{}'")), manager="m")
    assert found._credentials() == {}


@pytest.mark.parametrize("how", ["absolute", "relative"])
def test_a_plugin_that_works_is_asked(tmp_path: Path, how: str) -> None:
    user = plugin(tmp_path, f"echo '{GIVES}'")
    if how == "relative":
        user["exec"]["command"] = "./plugin"
    found = connect(kubeconfig=kubeconfig(tmp_path, user), manager="m")
    assert found._credentials() == {"authorization": "Bearer t"}


def test_a_token_file_beside_the_kubeconfig_counts(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file")
    found = connect(kubeconfig=kubeconfig(tmp_path, {"tokenFile": "token"}), manager="m")
    assert found._credentials() == {"authorization": "Bearer from-a-file"}


def test_a_proxy_is_used_or_refused(tmp_path: Path) -> None:
    good = kubeconfig(tmp_path, {"token": "t"}, **{"proxy-url": "http://127.0.0.1:2"})
    found = connect(kubeconfig=good, manager="m")
    assert found._configuration.proxy == "http://127.0.0.1:2"
    assert type(found._pool).__name__ == "ProxyManager"
    bad = kubeconfig(tmp_path, {"token": "t"}, **{"proxy-url": "socks5://u:p@127.0.0.1:2"})
    with pytest.raises(ClusterUnavailable, match="its proxy-url socks5:") as no:
        connect(kubeconfig=bad, manager="m")
    assert "u:p" not in str(no.value)


def test_on_a_real_api_server_the_fields_of_the_cluster_count(tmp_path: Path) -> None:
    if gone := apiserver.missing():
        pytest.skip(f"no {', '.join(gone)}; `make cluster` builds them")
    with apiserver.shared() as server:
        for fields, works in (
            ({}, True),
            ({"tls-server-name": "localhost"}, True),
            ({"tls-server-name": "other.example"}, False),
        ):
            found = connect(kubeconfig=server.kubeconfig(tmp_path, cluster=fields), manager="m")
            if works:
                assert found.get("Namespace", None, "default") is not None
            else:
                with pytest.raises(ClusterUnavailable):
                    found.get("Namespace", None, "default")
            found.close()
        insecure = {"insecure-skip-tls-verify": True, "tls-server-name": "other.example"}
        insecure["certificate-authority"] = ""  # kubectl refuses both of them together, and so do we
        found = connect(kubeconfig=server.kubeconfig(tmp_path, cluster=insecure), manager="m")
        with pytest.warns(InsecureRequestWarning):
            assert found.get("Namespace", None, "default") is not None
        found.close()
