"""The parts of the test bed that need no cluster; whether it comes up and leaves nothing is `make e2e`'s."""

import http.server
import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.images import oci
from infra.testbed import addons, build, machine, registry


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the fake registry on loopback; gives its address."""
    archive = tmp_path_factory.mktemp("registry") / "image.tar"
    layer = oci.files_layer({"bin/true": b"content"})
    oci.write_image("localhost/busybox:1", [layer], {"Cmd": ["true"]}, archive)
    registry.Handler.content = registry.read_archive(archive)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), registry.Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def ask(url: str, method: str = "GET") -> tuple[int, bytes]:
    request = urllib.request.Request(url, method=method)  # noqa: S310 (our own server)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 (the same)
            return answer.status, answer.read()
    except urllib.error.HTTPError as no:
        with no:
            return no.code, no.read()


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("missing", 404),
        ("private", 401),
        ("forbidden", 403),
        ("limited", 429),
        ("broken", 500),
        ("good", 200),
    ],
)
def test_each_kind_of_image_has_its_answer(shop: str, how: str, status: int) -> None:
    assert ask(f"{shop}/v2/{how}/app/manifests/1.2.3")[0] == status
    assert ask(f"{shop}/v2/{how}/app/manifests/1.2.3", "HEAD") == (status, b"")


def test_a_good_image_can_be_pulled_whole(shop: str) -> None:
    _, manifest = ask(f"{shop}/v2/good/app/manifests/latest")
    named = json.loads(manifest)
    for part in (named["config"], *named["layers"]):
        status, blob = ask(f"{shop}/v2/good/app/blobs/{part['digest']}")
        assert (status, len(blob)) == (200, part["size"])
    assert ask(f"{shop}/v2/good/app/blobs/sha256:{'0' * 64}")[0] == 404


def test_a_flaky_image_is_bad_first_good_on_the_second_try_and_bad_again_after_a_while() -> None:
    content = registry.Content({}, "")
    second_try, much_later = 10.0, 10.0 + registry.FORGETS_AFTER + 1
    assert content.is_still_bad("flaky/app", 0.0)
    assert content.is_still_bad("flaky/app", registry.FLAKY_SECONDS - 1)
    assert not content.is_still_bad("flaky/app", second_try)
    assert content.is_still_bad("flaky/other", second_try)
    assert content.is_still_bad("flaky/app", much_later)


def test_all_of_kubernetes_is_of_one_version() -> None:
    version = build.version_of("kubernetes", "k8s.io/kubernetes")
    text = (build.MODULES / "kubernetes" / "go.mod").read_text(encoding="utf-8")
    staging = set(re.findall(r"^\s*(?:replace )?k8s\.io/\S+ => k8s\.io/\S+ (\S+)$", text, re.MULTILINE))
    assert staging == {version.replace("v1.", "v0.")}


def test_a_version_that_is_not_required_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"etcd/go\.mod does not require k8s\.io/kubernetes"):
        build.version_of("etcd", "k8s.io/kubernetes")


def test_every_command_is_named_in_its_module() -> None:
    for command in build.commands(knative=True):
        tools = build.MODULES / command.module / "tools.go"
        if tools.exists():
            assert f'"{command.package}"' in tools.read_text(encoding="utf-8")


def test_only_image_names_of_knative_are_replaced() -> None:
    text = "image: ko://knative.dev/eventing/cmd/in_memory/channel_dispatcher\nother: ko.example/x\n"
    version = build.version_of("knative", addons.EVENTING)
    wanted = f"image: localhost/knative/channel_dispatcher:{version}\nother: ko.example/x\n"
    assert addons.resolved(text) == wanted


def test_what_is_missing_is_said_with_the_package_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "search_path", lambda: str(tmp_path))
    said = machine.missing()
    assert "containerd is missing: install containerd." in said
    assert "busybox is missing: install busybox-static." in said
