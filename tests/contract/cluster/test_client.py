"""The client, where no API server answers as it should."""

import contextlib
import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from quietpager.cluster.client import connect
from quietpager.model.cluster import ClusterUnavailable
from quietpager.sandbox.server import running
from tests.contract.cluster.support import (
    Json,
)


def test_no_answer_is_unavailable() -> None:
    client = connect("http://127.0.0.1:9", manager="contract")
    with pytest.raises(ClusterUnavailable):
        client.get("Pod", "default", "p")
    with pytest.raises(ClusterUnavailable):
        client.json_patch("Deployment", "default", "d", [])
    with pytest.raises(ClusterUnavailable):
        next(client.watch("Pod", None, "1", 1))


def test_a_name_is_never_a_path() -> None:
    client = connect("http://127.0.0.1:9", manager="contract")
    with pytest.raises(ValueError, match="namespace"):
        client.get("Pod", None, "p")


@pytest.mark.parametrize("code", [429, 500, 503, 504])
def test_an_overloaded_server_is_unavailable_and_asked_once(code: int) -> None:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_PATCH(self) -> None:
            asked.append(self.path)
            self.send_response(code)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"busy")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        client = connect(f"http://127.0.0.1:{server.server_port}", manager="me")
        with pytest.raises(ClusterUnavailable, match=str(code)):
            client.json_patch("Deployment", "a/b", "d", [], dry_run=True)
        client.close()
        server.shutdown()
        thread.join()
    assert asked == ["/apis/apps/v1/namespaces/a%2Fb/deployments/d?fieldManager=me&dryRun=All"]


def test_an_endless_log_is_read_no_further_than_asked() -> None:
    sent: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(100 << 20))
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(100):
                    self.wfile.write(b"\xff\x00" * (1 << 19))
                    sent.append(1)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        client = connect(f"http://127.0.0.1:{server.server_port}", manager="me")
        got = client.logs("a", "p", "c", most=5000)
        client.close()
        server.shutdown()
        thread.join()
    assert got == b"\xff\x00" * 2500
    assert len(sent) < 50  # megabytes of a hundred: we hung up


def test_a_kubeconfig_is_read(tmp_path: Path) -> None:
    with running() as url:
        cluster = {"name": "c", "cluster": {"server": url}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        user = {"name": "u", "user": {"token": "t"}}
        kubeconfig: Json = {"clusters": [cluster], "contexts": [context], "users": [user]}
        path = tmp_path / "config"
        path.write_text(json.dumps(kubeconfig | {"current-context": "x"}))
        client = connect(kubeconfig=path, manager="contract")
        assert client.get("Namespace", None, "default")
        client.close()


def test_without_any_address_there_is_no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("QUIETPAGER_API_SERVER", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ClusterUnavailable):
        connect(manager="contract")
    with pytest.raises(ClusterUnavailable):
        connect(kubeconfig=tmp_path / "none", manager="contract")


def test_the_official_clients_models_are_not_loaded() -> None:
    code = (
        "import sys; from quietpager.cluster.client import connect; "
        "connect('http://127.0.0.1:9', manager='m'); "
        "assert not any(m.startswith('kubernetes.client.models') for m in sys.modules); "
        "from kubernetes.client import V1Pod; from kubernetes import config, watch"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_whom_a_call_is_made_as_is_said_with_every_call() -> None:
    asked: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Impersonate-User"))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_PATCH = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        client = connect(f"http://127.0.0.1:{server.server_port}", manager="me", impersonate="somebody")
        client.get("Pod", "a", "b")
        client.json_patch("Deployment", "a", "b", [])
        client.acting_as("me", "else").list("Pod")
        client.acting_as("me").list("Pod")
        client.close()
        server.shutdown()
        thread.join()
    assert asked == ["somebody", "somebody", "else", None]
