"""A real API server alone: etcd and kube-apiserver on loopback, in a temporary folder.

Without controllers nothing happens to an object after it was admitted, which is all that a test of
admission needs. It is another server than the test bed's; only the binaries are the same (`make cluster`
builds them). One for the whole run, also under xdist: the workers share it, the last one stops it.
"""

import fcntl
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

import trustme
import urllib3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from infra.testbed.layout import BIN

Json = dict[str, Any]

PARTS: Final = ("etcd", "kube-apiserver")
ANN: Final = "token-of-ann"
"""Another user's token, who may do nothing."""
PATIENCE: Final = 50.0
"""Seconds that the server may take to come up on a busy machine."""


def missing() -> list[str]:
    """Name the binaries that are not there."""
    return [name for name in PARTS if not (BIN / name).exists()]


@dataclass(frozen=True)
class Answer:
    """What the server said: its code, and the object or Status."""

    code: int
    body: Json

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


class ApiServer:
    """A client of it, as the administrator or as somebody whom the administrator impersonates."""

    def __init__(self, url: str, token: str, ca: str) -> None:
        self.url, self.token, self.ca = url, token, ca
        self._pool = urllib3.PoolManager(
            maxsize=16, block=True, ssl_context=ssl.create_default_context(cafile=ca)
        )

    def kubeconfig(self, folder: Path, user: Json | None = None, **more: Json) -> Path:
        """Write a kubeconfig that leads here, as the administrator or with the user's credentials.

        `cluster`, `context`: more fields of those two entries.
        """
        cluster = {"server": self.url, "certificate-authority": self.ca, **more.get("cluster", {})}
        context = {"cluster": "here", "user": "me", **more.get("context", {})}
        path = folder / f"kubeconfig-{uuid.uuid4().hex[:8]}"
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": cluster}],
            "contexts": [{"name": "here", "context": context}],
            "users": [{"name": "me", "user": {"token": self.token} if user is None else user}],
        }), encoding="utf-8")  # fmt: skip
        return path

    def certificate(self, name: str, group: str = "readers") -> tuple[bytes, bytes]:
        """Issue a client certificate for a user; gives it and its key, both PEM."""
        home = Path(self.ca).parent
        authority = trustme.CA.from_pem((home / "ca.crt").read_bytes(), (home / "ca.key").read_bytes())
        # Without any identity trustme writes an empty extension, which Go does not take.
        issued = authority.issue_cert(f"{name}@example.org", common_name=name, organization_name=group)
        return issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: str | None = None,
        groups: tuple[str, ...] = (),
        content: str = "application/json",
    ) -> Answer:
        """Send one request; any answer of the server is an answer."""
        headers = urllib3.HTTPHeaderDict({"Authorization": f"Bearer {self.token}", "Content-Type": content})
        if user is not None:
            headers["Impersonate-User"] = user
            for group in groups:
                headers.add("Impersonate-Group", group)
        data = None if body is None else json.dumps(body)
        answer = self._pool.request(
            method, self.url + path, body=data, headers=headers, retries=False, timeout=30
        )
        try:
            found = json.loads(answer.data)
        except ValueError:
            found = {"message": answer.data.decode(errors="replace")}
        return Answer(answer.status, found)


@contextmanager
def shared() -> Iterator[ApiServer]:
    """Start it, or join the one of this run; whoever leaves last stops it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    home = Path(tempfile.gettempdir()) / f"quietpager-apiserver-{run}"
    with _alone():
        home.mkdir(mode=0o700, exist_ok=True)
        told = home / "server.json"
        if not told.exists():
            told.write_text(json.dumps(_start(home)), encoding="utf-8")
        server = json.loads(told.read_text(encoding="utf-8"))
        _count(home, 1)
    try:
        yield ApiServer(server["url"], server["token"], server["ca"])
    finally:
        with _alone():
            if _count(home, -1) == 0:
                for pid in server["pids"]:
                    _end(pid)
                shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _alone() -> Iterator[None]:
    """Keep the other workers out; the lock is on the temporary folder itself, so that no file stays."""
    folder = os.open(tempfile.gettempdir(), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _count(home: Path, more: int) -> int:
    path = home / "users"
    users = int(path.read_text() if path.exists() else "0") + more
    path.write_text(str(users), encoding="ascii")
    return users


def _start(home: Path) -> Json:
    etcd, peer, port = _free_ports(3)
    token = uuid.uuid4().hex
    ca = _certificates(home)
    (home / "tokens.csv").write_text(
        f'{token},admin,admin,"system:masters"\n{ANN},ann,ann,"readers"\n', encoding="ascii"
    )
    pids = [_run(home, "etcd", _etcd(home, etcd, peer)), _run(home, "kube-apiserver", _api(home, etcd, port))]
    server: Json = {"url": f"https://127.0.0.1:{port}", "token": token, "ca": ca, "pids": pids}
    try:
        _wait(ApiServer(server["url"], token, ca), home)
    except BaseException:
        for pid in pids:
            _end(pid)
        raise
    return server


def _etcd(home: Path, port: int, peer: int) -> Iterator[str]:
    yield f"--data-dir={home / 'etcd'}"
    yield f"--listen-client-urls=http://127.0.0.1:{port}"
    yield f"--advertise-client-urls=http://127.0.0.1:{port}"
    yield f"--listen-peer-urls=http://127.0.0.1:{peer}"
    yield f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}"
    yield f"--initial-cluster=default=http://127.0.0.1:{peer}"
    yield from ("--unsafe-no-fsync", "--log-level=error")


def _api(home: Path, etcd: int, port: int) -> Iterator[str]:
    yield f"--etcd-servers=http://127.0.0.1:{etcd}"
    yield from ("--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={port}")
    yield f"--tls-cert-file={home / 'server.crt'}"
    yield f"--tls-private-key-file={home / 'server.key'}"
    yield from (f"--token-auth-file={home / 'tokens.csv'}", f"--client-ca-file={home / 'ca.crt'}")
    yield "--service-account-issuer=https://kubernetes.default.svc"
    yield f"--service-account-key-file={home / 'accounts.key'}"
    yield f"--service-account-signing-key-file={home / 'accounts.key'}"
    yield from ("--service-cluster-ip-range=10.96.0.0/24", "--authorization-mode=RBAC")
    # Without a controller no namespace has its default account, and no pod would be admitted.
    yield from ("--disable-admission-plugins=ServiceAccount", "--allow-privileged=true")
    # Nothing here is worth a peer's lease, nor the time to wait for one at the end.
    yield from ("--endpoint-reconciler-type=none", f"--cert-dir={home}")


def _certificates(home: Path) -> str:
    authority = trustme.CA(organization_name="quietpager tests")
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(home / "server.key")
    issued.cert_chain_pems[0].write_to_path(home / "server.crt")
    authority.cert_pem.write_to_path(home / "ca.crt")
    authority.private_key_pem.write_to_path(home / "ca.key")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (home / "accounts.key").write_bytes(key)
    return str(home / "ca.crt")


def _run(home: Path, name: str, flags: Iterator[str]) -> int:
    with (home / f"{name}.log").open("wb") as log:
        child = subprocess.Popen(
            (str(BIN / name), *flags), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    child.returncode = 0  # it is ended by its id, maybe by another worker: no warning that it still runs
    return child.pid


def _wait(server: ApiServer, home: Path) -> None:
    end = monotonic() + PATIENCE
    while monotonic() < end:
        with suppress(urllib3.exceptions.HTTPError):
            if server.send("GET", "/readyz").code == 200:
                return
        sleep(0.1)
    log = (home / "kube-apiserver.log").read_text(errors="replace")[-2000:]
    raise RuntimeError(f"The API server was not ready within {PATIENCE:.0f} s. Its log ends: {log}")


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, 9)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _free_ports(count: int) -> list[int]:
    """Find free ports: all are held until all are found."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports


def schemas(server: ApiServer) -> Mapping[str, Json]:
    """Read the OpenAPI schemas of apps/v1, as the deploy does."""
    found: Mapping[str, Json] = server.send("GET", "/openapi/v3/apis/apps/v1").body["components"]["schemas"]
    return found
