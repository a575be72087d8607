"""Reads the user of a kubeconfig. It honours each field, or refuses it with a sentence.

Who calls it: `client.connect`. `settle` fills the official client's configuration from the two entries that
a context names; what it gives back is asked for headers before every call, so that a token is renewed.

No call is anonymous because something went wrong: what cannot be honoured is a sentence. kubectl's own rules
are in client-go, `tools/clientcmd/validation.go` and `client_config.go`.
"""

import os
import shutil
import ssl
import tempfile
import weakref
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from quietpager.cluster.exec_plugin import Given, Plugin, plugin_of
from quietpager.cluster.kubeconfig_files import Chosen, Part
from quietpager.model.cluster import ClusterUnavailable
from quietpager.model.time import system_clock

IMPERSONATES: Final = ("as", "as-uid", "as-groups", "as-user-extra")
REREAD: Final = timedelta(seconds=60)
"""After so long a tokenFile is read again; client-go reads one at most every minute, too."""
EARLY: Final = timedelta(seconds=10)
"""So long before it expires a plugin's credential is renewed."""
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_WHO: Final = (
    "token", "tokenFile", "username", "password", "exec", "auth-provider",
    "client-certificate", "client-certificate-data", "client-key", "client-key-data",
)  # fmt: skip
"""What a kubeconfig's user may be known by (client-go, `clientcmd/api/v1.AuthInfo`)."""

Headers = dict[str, str]


class Credentials:
    """What is sent with every call. Thread-safe."""

    def headers(self) -> Headers:
        """Give the headers that say who we are.

        Raises:
            ClusterUnavailable: they cannot be renewed; the call must not be made without them.
        """
        return {}

    def refused(self) -> None:
        """Hear that the server did not accept them (401): what can be renewed is renewed by the next call."""


class Fixed(Credentials):
    """A token or a password that stands in the kubeconfig."""

    def __init__(self, authorization: str) -> None:
        """Keep the header's value."""
        self._headers = {"authorization": authorization}

    def headers(self) -> Headers:
        """Give the one header."""
        return dict(self._headers)


class TokenFile(Credentials):
    """A token in a file that somebody renews; the last one that could be read counts."""

    def __init__(self, path: Path) -> None:
        """Read it once; raises ClusterUnavailable where there is no token in it."""
        self._path, self._lock = path, Lock()
        self._token, self._read_at = self._read(), system_clock()

    def headers(self) -> Headers:
        """Give the token, read again where it is older than a minute."""
        with self._lock:
            if system_clock() - self._read_at >= REREAD:
                self._token, self._read_at = self._read(), system_clock()
            return _bearer(self._token)

    def refused(self) -> None:
        """Read the file again before the next call."""
        with self._lock:
            self._read_at = datetime.min.replace(tzinfo=UTC)

    def _read(self) -> str:
        try:
            token = self._path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as no:
            why = getattr(no, "strerror", None) or "it is not ASCII"
            raise ClusterUnavailable(f"the tokenFile {self._path} cannot be read: {why}") from no
        if not token:
            raise ClusterUnavailable(f"the tokenFile {self._path} is empty")
        return token


class FromPlugin(Credentials):
    """What a program gives; asked again when it expires, or when the server refused it."""

    def __init__(self, plugin: Plugin, files: "Files") -> None:
        """Ask it once; raises ClusterUnavailable where it gives nothing."""
        self._plugin, self._files, self._lock = plugin, files, Lock()
        self._certificate: tuple[str, str] | None = None
        self._given, self._good = self._ask(), True

    @property
    def certificate(self) -> tuple[str, str] | None:
        """The files of the certificate and the key that it gave; None where it gave a token alone."""
        return self._certificate

    def headers(self) -> Headers:
        """Give the token, or nothing where a certificate says who we are."""
        with self._lock:
            until = self._given.until
            if not self._good or (until is not None and system_clock() >= until - EARLY):
                self._given, self._good = self._ask(), True
            return _bearer(self._given.token) if self._given.token else {}

    def refused(self) -> None:
        """Ask the program again before the next call."""
        with self._lock:
            self._good = False

    def _ask(self) -> Given:
        given = self._plugin.ask()
        if given.certificate:
            # The same files again: whatever connects from now on reads them.
            certificate = self._files.write("plugin.crt", given.certificate.encode())
            self._certificate = (certificate, self._files.write("plugin.key", given.key.encode()))
        return given


class Files:
    """A private folder for what TLS wants to read from files; it goes with the last who holds it."""

    def __init__(self) -> None:
        """Make no folder yet: most need none."""
        self._folder: Path | None = None

    def write(self, name: str, content: bytes) -> str:
        """Write a file that only we may read; gives its path."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="quietpager-credentials-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        return str(path)


def settle(configuration: Any, chosen: Chosen) -> Credentials:
    """Fill the official client's configuration; gives what every call is sent with.

    Raises:
        ClusterUnavailable: a field cannot be honoured, or no credentials come of those that are named.
    """
    files, cluster, user = Files(), chosen.cluster, chosen.user
    configuration.quietpager_files = files  # they live as long as the connections that read them
    server = cluster.text("server").rstrip("/")
    if not server.startswith(("http://", "https://")):
        raise ClusterUnavailable(f"{cluster.name} has no server with http:// or https://")
    configuration.host = server
    configuration.proxy, configuration.no_proxy = _proxy_of_environment(server)
    _proxy(configuration, cluster)
    _trust(configuration, cluster, files)
    if user is not None:
        _refuse(user)
    if user is None or not any(user.fields.get(key) for key in _WHO):
        return _nobody(server, user)
    if urlsplit(server).scheme == "http" and urlsplit(server).hostname not in LOOPBACK:
        raise ClusterUnavailable(
            f"{server} is no https, so the credentials of {user.name} would be sent in clear text"
        )
    found = _who(user, cluster, files)
    certificate = _certificate(user, files)
    if isinstance(found, FromPlugin) and found.certificate is not None:
        certificate = found.certificate
    if certificate is not None:
        configuration.cert_file, configuration.key_file = certificate
    return found


def _refuse(user: Part) -> None:
    """Refuse what is not honoured."""
    if asked := [key for key in IMPERSONATES if user.fields.get(key)]:
        # A person must not act with more rights here than with kubectl.
        raise ClusterUnavailable(
            f"its user has {', '.join(asked)}, and quietpager does not impersonate for a person. Name a "
            "--context whose user has the rights itself"
        )
    if user.fields.get("auth-provider"):
        raise ClusterUnavailable(
            f"{user.name} has an auth-provider, which is not supported; use a plugin (exec), which "
            "`kubectl` and your cloud's login program set up"
        )


def _nobody(server: str, user: Part | None) -> Credentials:
    """Go without credentials where there is nothing to protect: plain http, as of a sandbox or a proxy."""
    if server.startswith("http://"):
        return Credentials()
    who = "the context names no user" if user is None else f"{user.name} has no credentials"
    raise ClusterUnavailable(f"{who}, so every call to {server} would be anonymous")


def _who(user: Part, cluster: Part, files: Files) -> Credentials:
    """Find what says who we are besides a certificate; exactly one of them may be there."""
    token, token_file = user.text("token"), user.path("tokenFile")
    name, password = user.text("username"), user.text("password")
    ways = {"token": token or token_file, "username and password": name or password}
    named = [way for way, there in (ways | {"exec": user.fields.get("exec")}).items() if there]
    if len(named) > 1:
        raise ClusterUnavailable(f"{user.name} has {' and '.join(named)}; only one of them may be there")
    if token_file is not None:
        return TokenFile(token_file)
    if token:
        return Fixed(f"Bearer {token}")
    if name or password:
        return Fixed(_basic(name, password))
    return FromPlugin(plugin_of(user, cluster), files) if "exec" in named else Credentials()


def _certificate(user: Part, files: Files) -> tuple[str, str] | None:
    """Find the client certificate and its key, as files."""
    certificate, key = _pem(user, "client-certificate", files), _pem(user, "client-key", files)
    if certificate and key:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key)
        except (OSError, ValueError) as no:
            text = f"client-certificate of {user.name} cannot be used with its client-key: {no}"
            raise ClusterUnavailable(text) from no
        return certificate, key
    if certificate or key:
        missing = "client-key" if certificate else "client-certificate"
        raise ClusterUnavailable(f"{user.name} has no {missing}, which belongs to the other half")
    return None


def _trust(configuration: Any, cluster: Part, files: Files) -> None:
    """Say which server is believed."""
    authority = _pem(cluster, "certificate-authority", files)
    if authority:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(authority)
        except (OSError, ValueError) as no:
            raise ClusterUnavailable(
                f"certificate-authority of {cluster.name} holds no certificate: {no}"
            ) from no
    if cluster.flag("insecure-skip-tls-verify"):
        if authority:
            raise ClusterUnavailable(
                f"{cluster.name} has a certificate-authority and insecure-skip-tls-verify; remove one of them"
            )
        configuration.verify_ssl = False
    configuration.ssl_ca_cert = authority or None
    configuration.tls_server_name = cluster.text("tls-server-name") or None


def _pem(part: Part, key: str, files: Files) -> str:
    """Give the path of a certificate or key, which stands in the kubeconfig or in a file that it names."""
    if part.text(f"{key}-data") and part.text(key):
        raise ClusterUnavailable(f"{part.name} has {key} and {key}-data; remove one of them")
    if data := part.text(f"{key}-data"):
        try:
            return files.write(f"{key}.pem", b64decode(data, validate=False))
        except ValueError as no:
            raise ClusterUnavailable(f"{key}-data of {part.name} is not base64") from no
    path = part.path(key)
    if path is not None and not path.is_file():
        raise ClusterUnavailable(f"{key} of {part.name} cannot be read: there is no file {path}")
    return "" if path is None else str(path)


def _proxy(configuration: Any, cluster: Part) -> None:
    """Take over `proxy-url`, which counts whatever NO_PROXY says."""
    named = cluster.text("proxy-url")
    if not named:
        return
    parts = urlsplit(named)
    if parts.scheme not in {"http", "https"}:
        raise ClusterUnavailable(f"its proxy-url {parts.scheme}:… is not supported; only http and https are")
    if parts.username:
        password = unquote(parts.password or "")
        configuration.proxy_headers = {"proxy-authorization": _basic(unquote(parts.username), password)}
        named = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    configuration.proxy, configuration.no_proxy = named, None


def _proxy_of_environment(server: str) -> tuple[str | None, str | None]:
    """Read HTTPS_PROXY (HTTP_PROXY for plain http) and NO_PROXY; this machine itself needs no proxy.

    As Go's `http.ProxyFromEnvironment`. The official client takes HTTP_PROXY for https, too, and forgets
    NO_PROXY.
    """
    parts = urlsplit(server)
    if parts.hostname in LOOPBACK:
        return None, None
    name = f"{parts.scheme}_proxy"
    return _variable(name), _variable("no_proxy")


def _variable(name: str) -> str | None:
    return os.environ.get(name.upper()) or os.environ.get(name)


def _bearer(token: str) -> Headers:
    return {"authorization": f"Bearer {token}"}


def _basic(name: str, password: str) -> str:
    return f"Basic {b64encode(f'{name}:{password}'.encode()).decode('ascii')}"
