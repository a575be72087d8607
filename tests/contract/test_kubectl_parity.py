"""The same kubeconfig makes us the same person as kubectl, or we refuse with a sentence.

Each case is one way to write a kubeconfig. `kubectl auth whoami` and our client ask a real API server who
they are. Three outcomes are allowed: both are the same user with the same groups; both refuse; only we
refuse, and the case says so. We never go on anonymously.
"""

import base64
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from infra.testbed.layout import BIN
from quietpager.cluster import credentials, official
from quietpager.cluster.client import connect
from quietpager.cluster.kubeconfig import IN_A_POD
from quietpager.model.cluster import ClusterUnavailable, Rejected
from tests import apiserver
from tests.apiserver import ANN, ApiServer

Json = dict[str, Any]
Who = tuple[str, tuple[str, ...]] | None
"""A user's name and groups; None: refused."""

REVIEW: Final = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
V1: Final = "client.authentication.k8s.io/v1"
V1BETA1: Final = "client.authentication.k8s.io/v1beta1"


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    gone = apiserver.missing() + [name for name in ("kubectl",) if not (BIN / name).exists()]
    if gone:
        pytest.skip(f"no {', '.join(gone)}; `make cluster` builds them")
    with apiserver.shared() as found:
        yield found


@dataclass
class Bench:
    """Writes kubeconfigs in a folder, and asks both sides who they are by it."""

    server: ApiServer
    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    context: str | None = None
    kubeconfig: str = ""

    def __post_init__(self) -> None:
        self.env = {"HOME": str(self.folder), "PATH": os.environ["PATH"]}

    def write(self, user: Json | None, name: str = "config", **more: Any) -> Path:
        """Write one file with one cluster, user and context, all of them called `here`."""
        cluster = {"server": self.server.url, "certificate-authority": self.server.ca}
        cluster = {
            key: value for key, value in (cluster | more.pop("cluster", {})).items() if value is not None
        }
        content = {
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": cluster}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
            "users": [{"name": "here", "user": user}],
        }  # fmt: skip
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(content | more), encoding="utf-8")
        self.kubeconfig = str(path)
        return path

    def program(self, answer: Json | str, name: str = "login", folder: Path | None = None) -> Path:
        """Write a program that prints an answer (or is that shell script)."""
        path = (folder or self.folder) / name
        path.parent.mkdir(exist_ok=True)
        body = answer if isinstance(answer, str) else f"echo '{json.dumps(answer)}'"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o700)
        return path

    def kubectl(self) -> Who:
        words = [str(BIN / "kubectl"), "auth", "whoami", "--output=json", "--request-timeout=10s"]
        words += [] if self.context is None else ["--context", self.context]
        done = subprocess.run(
            words, env=self.env | {"KUBECONFIG": self.kubeconfig}, cwd=self.folder, capture_output=True,
            text=True, check=False, stdin=subprocess.DEVNULL, timeout=50,
        )  # fmt: skip
        return _who(json.loads(done.stdout)) if done.returncode == 0 else None

    def ours(self) -> tuple[Who, str]:
        """Ask in this process; gives what we are, or the sentence."""
        try:
            with pytest.MonkeyPatch.context() as patch:
                for name in (
                    "HTTPS_PROXY",
                    "HTTP_PROXY",
                    "NO_PROXY",
                    "https_proxy",
                    "http_proxy",
                    "no_proxy",
                ):
                    patch.delenv(name, raising=False)
                for name, value in self.env.items():
                    patch.setenv(name, value)
                found = connect(kubeconfig=self.kubeconfig, context=self.context, manager="parity")
                try:
                    return whoami(found), ""
                finally:
                    found.close()
        except (ClusterUnavailable, Rejected) as no:
            return None, str(no)


def whoami(cluster: Any) -> Who:
    return _who(cluster._call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, REVIEW))


def _who(answer: Mapping[str, Any]) -> Who:
    user = answer["status"]["userInfo"]
    return user["username"], tuple(sorted(user.get("groups", ())))


@pytest.fixture
def bench(server: ApiServer, tmp_path: Path) -> Bench:
    return Bench(server, tmp_path)


def gives(version: str = V1, **status: Any) -> Json:
    return {"apiVersion": version, "kind": "ExecCredential", "status": status or {"token": ANN}}


def run(command: str, version: str = V1, **more: Any) -> Json:
    mode = {"interactiveMode": "Never"} if version == V1 else {}
    return {"exec": {"apiVersion": version, "command": command} | mode | more}


def coded(content: bytes) -> str:
    return base64.b64encode(content).decode()


# ---- what makes both of us the same user


def token(bench: Bench) -> None:
    bench.write({"token": ANN})


def token_file(bench: Bench) -> None:
    (bench.folder / "token").write_text(f"{ANN}\n")
    bench.write({"tokenFile": str(bench.folder / "token")})


def token_file_beside(bench: Bench) -> None:
    (bench.folder / "sub").mkdir()
    (bench.folder / "sub" / "token").write_text(f"  {ANN}\n")
    bench.write({"tokenFile": "token"}, "sub/config")


def token_and_token_file(bench: Bench) -> None:
    """The file goes first."""
    (bench.folder / "token").write_text(ANN)
    bench.write({"tokenFile": "token", "token": bench.server.token})


def certificate_files(bench: Bench) -> None:
    certificate, key = bench.server.certificate("bob")
    (bench.folder / "bob.crt").write_bytes(certificate)
    (bench.folder / "bob.key").write_bytes(key)
    bench.write({"client-certificate": "bob.crt", "client-key": "bob.key"})


def certificate_data(bench: Bench) -> None:
    certificate, key = bench.server.certificate("bob")
    bench.write(
        {
            "client-certificate-data": coded(certificate), "client-key-data": coded(key),
        }
    )  # fmt: skip


def certificate_and_token(bench: Bench) -> None:
    certificate, key = bench.server.certificate("bob")
    bench.write({"client-certificate-data": coded(certificate), "client-key-data": coded(key), "token": ANN})


def authority_data(bench: Bench) -> None:
    data = coded(Path(bench.server.ca).read_bytes())
    bench.write({"token": ANN}, cluster={"certificate-authority-data": data, "certificate-authority": None})


def authority_beside(bench: Bench) -> None:
    (bench.folder / "ours.crt").write_bytes(Path(bench.server.ca).read_bytes())
    bench.write({"token": ANN}, cluster={"certificate-authority": "ours.crt"})


def server_name(bench: Bench) -> None:
    bench.write({"token": ANN}, cluster={"tls-server-name": "localhost"})


def insecure(bench: Bench) -> None:
    fields = {"insecure-skip-tls-verify": True, "certificate-authority": None, "tls-server-name": "x.example"}
    bench.write({"token": ANN}, cluster=fields)


def plugin_absolute(bench: Bench) -> None:
    bench.write(run(str(bench.program(gives()))))


def plugin_relative(bench: Bench) -> None:
    """From the kubeconfig's folder on, not from the one that we stand in."""
    bench.program(gives(), "login", bench.folder / "sub")
    bench.write(run("./login"), "sub/config")


def plugin_on_path(bench: Bench) -> None:
    bench.program(gives(), "quietpager-test-login", bench.folder / "bin")
    bench.env["PATH"] = f"{bench.folder / 'bin'}{os.pathsep}{bench.env['PATH']}"
    bench.write(run("quietpager-test-login"))


def plugin_with_arguments_and_environment(bench: Bench) -> None:
    given = json.dumps(gives(token="TOKEN")).replace("TOKEN", "$1$REST")  # noqa: S106 (put together by the shell)
    quoted = given.replace('"', '\\"')
    path = bench.program(f'echo "{quoted}"')
    env = [{"name": "REST", "value": ANN[3:]}]
    bench.write(run(str(path), args=[ANN[:3]], env=env))


def plugin_v1beta1(bench: Bench) -> None:
    bench.write(run(str(bench.program(gives(V1BETA1))), V1BETA1))


def plugin_certificate(bench: Bench) -> None:
    certificate, key = bench.server.certificate("bob")
    status = {"clientCertificateData": certificate.decode(), "clientKeyData": key.decode()}
    (bench.folder / "answer").write_text(json.dumps(gives(**status)))
    bench.write(run(str(bench.program(f"cat {bench.folder / 'answer'}"))))


def plugin_that_wants_to_know_the_cluster(bench: Bench) -> None:
    """It only answers where it is told address, authority and settings."""
    path = bench.program(
        'case "$KUBERNETES_EXEC_INFO" in *certificate-authority-data*) ;; *) exit 1;; esac\n'
        'case "$KUBERNETES_EXEC_INFO" in *its-own-setting*) ;; *) exit 1;; esac\n'
        f"case \"$KUBERNETES_EXEC_INFO\" in *{bench.server.url}*) echo '{json.dumps(gives())}';; esac"
    )
    settings = [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "its-own-setting"}}]
    bench.write(run(str(path), provideClusterInfo=True), cluster={"extensions": settings})


def plugin_if_available(bench: Bench) -> None:
    bench.write(run(str(bench.program(gives())), interactiveMode="IfAvailable"))


def another_context(bench: Bench) -> None:
    bench.write(
        None,
        users=[{"name": "a", "user": {"token": "wrong"}}, {"name": "b", "user": {"token": ANN}}],
        contexts=[
            {"name": name, "context": {"cluster": "here", "user": name, "namespace": "shop"}} for name in "ab"
        ],
        **{"current-context": "a"},
    )
    bench.context = "b"


def several_files_first_context(bench: Bench) -> None:
    """The first file's current-context counts, and the first file's entry of a name."""
    first = bench.write({"token": ANN}, "first")
    second = bench.write({"token": bench.server.token}, "second", **{"current-context": "other"})
    bench.kubeconfig = os.pathsep.join([str(first), str(bench.folder / "none"), str(second)])


def several_files_parts(bench: Bench) -> None:
    """Cluster, user and context come from three files; relative paths count from their own file's folder."""
    (bench.folder / "users").mkdir()
    (bench.folder / "users" / "token").write_text(ANN)
    parts = (
        bench.write(None, "clusters/config", users=[], contexts=[], **{"current-context": ""}),
        bench.write(
            {"tokenFile": "token"}, "users/config", clusters=[], contexts=[], **{"current-context": ""}
        ),
        bench.write(None, "contexts/config", users=[], clusters=[]),
    )
    bench.kubeconfig = os.pathsep.join(map(str, parts))


def several_files_one_empty(bench: Bench) -> None:
    (bench.folder / "empty").write_text("")
    bench.kubeconfig = os.pathsep.join([str(bench.folder / "empty"), str(bench.write({"token": ANN}))])


def no_proxy_for_this_machine(bench: Bench) -> None:
    bench.env["HTTPS_PROXY"] = "http://127.0.0.1:1"
    bench.write({"token": ANN})


SAME: Final = (
    token, token_file, token_file_beside, token_and_token_file, certificate_files, certificate_data,
    certificate_and_token, authority_data, authority_beside, server_name, insecure, plugin_absolute,
    plugin_relative, plugin_on_path, plugin_with_arguments_and_environment, plugin_v1beta1,
    plugin_certificate, plugin_that_wants_to_know_the_cluster, plugin_if_available, another_context,
    several_files_first_context, several_files_parts, several_files_one_empty, no_proxy_for_this_machine,
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("write", SAME, ids=lambda one: one.__name__)
def test_we_are_whom_kubectl_is(bench: Bench, write: Callable[[Bench], None]) -> None:
    write(bench)
    theirs = bench.kubectl()
    assert theirs is not None, "the case itself is wrong: kubectl refuses"
    assert theirs[0] in {"ann", "bob"}
    assert bench.ours() == (theirs, "")


# ---- what both of us refuse


def wrong_token(bench: Bench) -> str:
    bench.write({"token": "wrong"})
    return "Unauthorized"


def no_file(bench: Bench) -> str:
    bench.kubeconfig = str(bench.folder / "none")
    return "there is no such file"


def no_context_of_that_name(bench: Bench) -> str:
    bench.write({"token": ANN})
    bench.context = "other"
    return "no context other; it has: here"


def no_cluster_of_that_name(bench: Bench) -> str:
    bench.write({"token": ANN}, clusters=[])
    return "names the cluster 'here', which is not there"


def no_user_of_that_name(bench: Bench) -> str:
    bench.write({"token": ANN}, users=[])
    return "names the user 'here', which is not there"


def server_name_of_another(bench: Bench) -> str:
    bench.write({"token": ANN}, cluster={"tls-server-name": "other.example"})
    return "gave no answer"


def unknown_authority(bench: Bench) -> str:
    bench.write({"token": ANN}, cluster={"certificate-authority": None})
    return "gave no answer"


def authority_missing(bench: Bench) -> str:
    bench.write({"token": ANN}, cluster={"certificate-authority": "none.crt"})
    return "certificate-authority of the cluster here cannot be read"


def authority_twice(bench: Bench) -> str:
    data = coded(Path(bench.server.ca).read_bytes())
    bench.write({"token": ANN}, cluster={"certificate-authority-data": data})
    return "has certificate-authority and certificate-authority-data; remove one"


def authority_that_is_none(bench: Bench) -> str:
    bench.write(
        {"token": ANN}, cluster={"certificate-authority-data": coded(b"x"), "certificate-authority": None}
    )
    return "certificate-authority of the cluster here holds no certificate"


def authority_and_insecure(bench: Bench) -> str:
    bench.write({"token": ANN}, cluster={"insecure-skip-tls-verify": True})
    return "remove one of them"


def insecure_in_quotes(bench: Bench) -> str:
    bench.write({"token": ANN}, cluster={"insecure-skip-tls-verify": "false"})
    return "must be true or false, without quotes"


def certificate_that_is_none(bench: Bench) -> str:
    bench.write({"client-certificate-data": coded(b"x"), "client-key-data": coded(b"y")})
    return "client-certificate of the user here cannot be used with its client-key"


def certificate_without_key(bench: Bench) -> str:
    bench.write({"client-certificate-data": coded(bench.server.certificate("bob")[0])})
    return "has no client-key"


def token_file_missing(bench: Bench) -> str:
    bench.write({"tokenFile": "none"})
    return "tokenFile .*none cannot be read"


def token_and_password(bench: Bench) -> str:
    bench.write({"token": ANN, "username": "ann", "password": "x"})
    return "token and username and password; only one"


def two_users_of_one_name(bench: Bench) -> str:
    bench.write(None, users=[{"name": "here", "user": {"token": one}} for one in (ANN, "wrong")])
    return "two users with the name here"


def plugin_missing(bench: Bench) -> str:
    bench.write(run("/nowhere/login", installHint="Ask the platform team."))
    return "/nowhere/login .*cannot be run.*anonymous. Ask the platform team"


def plugin_not_on_path(bench: Bench) -> str:
    bench.write(run("quietpager-no-such-login", installHint="Ask the platform team."))
    return "no such program on PATH.*Ask the platform team"


def plugin_fails(bench: Bench) -> str:
    bench.write(run(str(bench.program("exit 3"))))
    return "ended with the code 3"


def plugin_gives_nothing(bench: Bench) -> str:
    bench.write(run(str(bench.program({"apiVersion": V1, "kind": "ExecCredential", "status": {}}))))
    return "neither a token nor a certificate"


def plugin_certificate_without_key(bench: Bench) -> str:
    bench.write(run(str(bench.program(gives(clientCertificateData="x")))))
    return "a certificate without a key"


def plugin_answers_as_another_version(bench: Bench) -> str:
    bench.write(run(str(bench.program(gives(V1BETA1)))))
    return "v1beta1, and .*v1 was asked for"


def plugin_of_an_old_version(bench: Bench) -> str:
    bench.write(run(str(bench.program(gives())), "client.authentication.k8s.io/v1alpha1"))
    return "v1alpha1'; supported are"


def plugin_without_a_mode(bench: Bench) -> str:
    bench.write({"exec": {"apiVersion": V1, "command": str(bench.program(gives()))}})
    return "interactiveMode ''"


def plugin_that_must_ask_somebody(bench: Bench) -> str:
    bench.write(run(str(bench.program(gives())), interactiveMode="Always"))
    return "this is no terminal"


def plugin_without_command(bench: Bench) -> str:
    bench.write(run(""))
    return "has no command"


def provider_that_is_gone(bench: Bench) -> str:
    bench.write({"auth-provider": {"name": "gcp", "config": {"access-token": ANN}}})
    return "auth-provider, which is not supported"


def impersonates_without_the_right(bench: Bench) -> str:
    bench.write({"token": ANN, "as": "admin", "as-groups": ["system:masters"]})
    return "its user has as, as-groups, and quietpager does not"


BOTH_REFUSE: Final = (
    wrong_token, no_file, no_context_of_that_name, no_cluster_of_that_name, no_user_of_that_name,
    server_name_of_another, unknown_authority, authority_missing, authority_and_insecure,
    authority_twice, authority_that_is_none,
    insecure_in_quotes, certificate_without_key, certificate_that_is_none,
    token_file_missing, token_and_password,
    two_users_of_one_name, plugin_missing, plugin_not_on_path, plugin_fails, plugin_gives_nothing,
    plugin_certificate_without_key, plugin_answers_as_another_version, plugin_of_an_old_version,
    plugin_without_a_mode, plugin_that_must_ask_somebody, plugin_without_command, provider_that_is_gone,
    impersonates_without_the_right,
)  # fmt: skip


@pytest.mark.parametrize("write", BOTH_REFUSE, ids=lambda one: one.__name__)
def test_what_kubectl_refuses_we_refuse(
    bench: Bench, write: Callable[[Bench], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    sentence = write(bench)
    assert bench.kubectl() is None, "kubectl takes it; the case belongs to another list"
    who, said = bench.ours()
    assert who is None
    assert_is_sentence(said, sentence)


# ---- what kubectl takes and we refuse


def impersonates(bench: Bench) -> str:
    bench.write({"token": bench.server.token, "as": "ann"})
    return "its user has as, and quietpager does not impersonate"


def plugin_and_token(bench: Bench) -> str:
    bench.write({"token": ANN} | run(str(bench.program(gives()))))
    return "token and exec; only one of them"


def proxy_that_is_no_http(bench: Bench) -> str:
    with proxy() as (url, _):
        bench.write({"token": ANN}, cluster={"proxy-url": url.replace("http", "socks5")})
    return "proxy-url socks5:… is not supported"


def token_that_is_a_number(bench: Bench) -> str:
    bench.write({"token": 12345})
    return "token of the user here is not text"


ONLY_WE_REFUSE: Final = (impersonates, plugin_and_token, proxy_that_is_no_http, token_that_is_a_number)


@pytest.mark.parametrize("write", ONLY_WE_REFUSE, ids=lambda one: one.__name__)
def test_what_we_do_not_honour_we_refuse(bench: Bench, write: Callable[[Bench], str]) -> None:
    sentence = write(bench)
    who, said = bench.ours()
    assert who is None
    assert_is_sentence(said, sentence)


@pytest.mark.parametrize("user", [None, {}, {"token": ""}], ids=str)
def test_nobody_is_anonymous(bench: Bench, user: Json | None) -> None:
    """kubectl goes on as system:anonymous, whom this server lets in and forbids everything."""
    bench.write(user)
    who, said = bench.ours()
    assert who is None
    assert_is_sentence(said, "the user here has no credentials, so every call .* would be anonymous")


def assert_is_sentence(said: str, expected: str) -> None:
    import re  # noqa: PLC0415 (only here)

    assert re.search(expected, said), said
    assert len(said) < 400
    assert "Traceback" not in said


# ---- what changes while we run


def test_a_token_file_is_read_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "REREAD", timedelta(0))
    path = bench.folder / "token"
    path.write_text(ANN)
    found = connect(kubeconfig=bench.write({"tokenFile": "token"}), manager="m")
    assert whoami(found) == bench.kubectl()
    path.write_text(bench.server.token)
    assert (whoami(found) or "")[0] == "admin"
    path.unlink()
    with pytest.raises(ClusterUnavailable, match="cannot be read"):
        whoami(found)
    found.close()


def test_a_token_that_the_server_refused_is_asked_for_again(bench: Bench) -> None:
    path = bench.program(gives(token="old"))  # noqa: S106
    found = connect(kubeconfig=bench.write(run(str(path))), manager="m")
    with pytest.raises(Rejected):
        whoami(found)
    bench.program(gives())
    assert whoami(found) == bench.kubectl()
    found.close()


def test_a_plugin_is_asked_again_when_its_token_expires(bench: Bench) -> None:
    calls = bench.folder / "calls"
    soon = (datetime.now(UTC) + timedelta(seconds=5)).isoformat(timespec="seconds").replace("+00:00", "Z")
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds").replace("+00:00", "Z")
    for until, count in ((later, 1), (soon, 4)):
        calls.write_text("")
        answer = json.dumps(gives(token=ANN, expirationTimestamp=until))
        path = bench.program(f"echo x >> {calls}\necho '{answer}'")
        found = connect(kubeconfig=bench.write(run(str(path))), manager="m")
        for _ in range(3):
            assert (whoami(found) or "")[0] == "ann"
        found.close()
        assert calls.read_text().count("x") == count


def test_a_plugin_that_fails_later_is_no_anonymous_call(bench: Bench) -> None:
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="seconds")
    path = bench.program(gives(token=ANN, expirationTimestamp=past))
    found = connect(kubeconfig=bench.write(run(str(path))), manager="m")
    path.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(ClusterUnavailable, match="ended with the code 1"):
        whoami(found)
    found.close()


# ---- the way there


@contextmanager
def proxy(wants: str = "") -> Iterator[tuple[str, list[str]]]:
    """Serve CONNECT on loopback; gives the address, and the first lines and credentials that it got."""
    heard: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                threading.Thread(target=pump, args=(near,), daemon=True).start()

    def pump(near: socket.socket) -> None:
        with near, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += near.recv(4096) or b"\r\n\r\n"
            lines = head.decode().split("\r\n")
            heard.append(lines[0])
            if wants and not any(line.lower() == f"proxy-authorization: {wants}".lower() for line in lines):
                near.sendall(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
                return
            host, _, port = lines[0].split()[1].rpartition(":")
            with socket.create_connection((host, int(port))) as far:
                near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    for ready in select.select([near, far], [], [])[0]:
                        piece = ready.recv(65536)
                        if not piece:
                            return
                        (far if ready is near else near).sendall(piece)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.parametrize("who", ["", "u:p%40ss"], ids=["open", "with a password"])
def test_both_go_through_the_proxy_that_is_named(bench: Bench, who: str) -> None:
    wants = f"Basic {coded(b'u:p@ss')}" if who else ""
    with proxy(wants) as (url, heard):
        named = url.replace("//", f"//{who}@") if who else url
        bench.env["NO_PROXY"] = "*"
        bench.write({"token": ANN}, cluster={"proxy-url": named})
        theirs, count = bench.kubectl(), len(heard)
        assert theirs is not None
        assert count > 0
        assert bench.ours() == (theirs, "")
        assert len(heard) > count
        assert heard[-1].startswith("CONNECT 127.0.0.1:")


def test_a_proxy_that_is_away_is_no_way_round_it(bench: Bench) -> None:
    bench.write({"token": ANN}, cluster={"proxy-url": "http://127.0.0.1:1"})
    assert bench.kubectl() is None
    who, said = bench.ours()
    assert who is None
    assert_is_sentence(said, "gave no answer")


@pytest.mark.parametrize(
    ("env", "server", "expected"),
    [
        ({"HTTPS_PROXY": "http://p:1"}, "https://a.example", "http://p:1"),
        ({"https_proxy": "http://p:1"}, "https://a.example", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "https://a.example", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://a.example", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "https://127.0.0.1:6443", None),
    ],
)
def test_the_proxy_of_the_environment_is_the_one_for_the_scheme(
    env: Mapping[str, str], server: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert credentials._proxy_of_environment(server)[0] == expected


# ---- in a pod


def test_in_a_pod_the_service_account_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Token, authority and address come from where a kubelet puts them; the token is the API server's own."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "worker"}}
    path = "/api/v1/namespaces/default/serviceaccounts"
    assert bench.server.send("POST", path, account).code in {201, 409}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = bench.server.send("POST", f"{path}/worker/token", request)
    (bench.folder / "token").write_text(answer.body["status"]["token"])
    host, _, port = bench.server.url.removeprefix("https://").partition(":")
    monkeypatch.setenv(IN_A_POD, host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.delenv("QUIETPAGER_API_SERVER", raising=False)
    official.official_client()
    with pytest.raises(ClusterUnavailable, match="there is no API server to talk to"):
        connect(manager="m")
    from kubernetes.config import incluster_config  # noqa: PLC0415 (after our own import of it)

    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(bench.folder / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", bench.server.ca)
    found = connect(manager="m")
    name, groups = whoami(found) or ("", ())
    found.close()
    assert name == "system:serviceaccount:default:worker"
    assert "system:serviceaccounts:default" in groups
