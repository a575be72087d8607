"""The channels to people, in one place: the terminal, a generic webhook, Slack.

`QUIETPAGER_CHANNELS` holds the list as YAML, or the path of a file with it (a mounted Secret):

    - {kind: terminal}
    - {kind: slack, url: https://hooks.slack.com/services/…}
    - {name: pager, kind: webhook, url: https://…, secret: …}

Without it there is the terminal alone. A URL is a secret, as `secret` is: neither is ever in a log, an
error or the audit; a channel is known there by its name. What comes from the cluster is text to every
channel, never markup. Who calls it: the handler, and `alarm`, which needs neither store nor broker.
"""

import hashlib
import hmac
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol

import yaml
from pydantic import ConfigDict, Field, SecretStr, TypeAdapter, ValidationError

from quietpager.masking.told import masked
from quietpager.model.data import Data
from quietpager.model.time import Clock, system_clock
from quietpager.model.yaml import NotPlain, load_yaml
from quietpager.outgoing import NoAnswer, ask

CHANNELS: Final = "QUIETPAGER_CHANNELS"
"""Environment variable: the list of channels as YAML, or the path of a file with it."""

TIMEOUT: Final = 2.5
"""Seconds that a channel has; a few slow ones still fit into a Trigger's ten."""

SIGNATURE: Final = "X-Quietpager-Signature"
"""Header of a webhook with a `secret`: `v1=` and the HMAC-SHA256 of moment and body (`signed`), in hex."""

TIMESTAMP: Final = "X-Quietpager-Timestamp"
"""Header of a webhook with a `secret`: when it was signed, in whole seconds since 1970."""

ONE_LINE: Final = "QUIETPAGER_ONE_LINE"
"""Environment variable: any value makes one line of the three, as `quietpager run` prints them."""


class NotTold(Exception):  # noqa: N818 (a sentence for the audit)
    """A channel did not take a message; the text names no address."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told: three lines of plain text, and what a machine may want besides.

    `id` is the same each time the same thing is told. `link` is an address, or a command.
    """

    id: str
    what: str
    broke: str
    doing: str
    link: str
    more: Mapping[str, str]

    def __post_init__(self) -> None:
        """Mask the text, whoever made it; `id` and `link` are our own."""
        for name in ("what", "broke", "doing", "more"):
            object.__setattr__(self, name, masked(getattr(self, name)))

    @property
    def lines(self) -> str:
        """The three lines."""
        return f"[{self.what}] {self.broke}\n  {self.doing}\n  {self.link}\n"


class Channel(Protocol):
    """One way to reach people."""

    @property
    def name(self) -> str:
        """What it is called in log and audit."""
        ...

    def tell(self, notice: Notice) -> None:
        """Tell once; raises NotTold."""
        ...


class _Setting(Data):
    # A wrong entry is said without its content, which may be a secret.
    model_config = ConfigDict(hide_input_in_errors=True)

    name: str = Field(default="", pattern=r"^[a-z0-9-]{0,40}$")


class TerminalSetting(_Setting):
    """Standard output."""

    kind: Literal["terminal"]


class WebhookSetting(_Setting):
    """A POST of JSON, signed where there is a `secret`."""

    kind: Literal["webhook"]
    url: SecretStr
    secret: SecretStr | None = None


class SlackSetting(_Setting):
    """A Slack incoming webhook."""

    kind: Literal["slack"]
    url: SecretStr


Setting = Annotated[TerminalSetting | WebhookSetting | SlackSetting, Field(discriminator="kind")]
_LIST: Final = TypeAdapter(tuple[Setting, ...], config=ConfigDict(hide_input_in_errors=True))


@dataclass(frozen=True, slots=True)
class Terminal:
    """Standard output of the process."""

    name: str

    def tell(self, notice: Notice) -> None:
        """Write the three lines, or one."""
        one = " | ".join(part.strip() for part in notice.lines.splitlines()) + "\n"
        try:
            sys.stdout.write(one if os.environ.get(ONE_LINE) else notice.lines)
            sys.stdout.flush()
        except (OSError, ValueError) as no:
            raise NotTold(f"standard output is closed ({type(no).__name__})") from None


@dataclass(frozen=True, slots=True)
class Webhook:
    """A generic receiver of JSON."""

    name: str
    url: SecretStr
    secret: SecretStr | None
    clock: Clock = system_clock

    def tell(self, notice: Notice) -> None:
        """Post the notice; a receiver knows one that comes twice by its `id`."""
        fields = {
            "id": notice.id, "what": notice.what, "broke": notice.broke, "doing": notice.doing,
            "link": notice.link, **notice.more,
        }  # fmt: skip
        body = json.dumps(fields).encode()
        head: dict[str, str] = {}
        if self.secret is not None:
            head = signed(self.secret.get_secret_value().encode(), body, int(self.clock().timestamp()))
        _post(self.url, body, head, credential=False)


def signed(secret: bytes, body: bytes, at: int) -> dict[str, str]:
    """Give the headers that prove who sent a body, and when: a message that was overheard does not stay good.

    Args:
        secret: shared with the receiver.
        body: as it is sent.
        at: seconds since 1970.
    """
    mac = hmac.new(secret, b"v1:%d:%s" % (at, body), hashlib.sha256)
    return {TIMESTAMP: str(at), SIGNATURE: f"v1={mac.hexdigest()}"}


@dataclass(frozen=True, slots=True)
class Slack:
    """A Slack incoming webhook. Text is `plain_text` in blocks, and escaped in the fallback."""

    name: str
    url: SecretStr

    def tell(self, notice: Notice) -> None:
        """Post the notice."""
        _post(self.url, json.dumps(slack_body(notice)).encode(), {}, credential=True)


def slack_body(notice: Notice) -> dict[str, Any]:
    """Write a notice for Slack: nothing in it is a mention, a link or markup but our own address.

    Escaping is Slack's own (`&`, `<`, `>`; api.slack.com, "Formatting text"): a mention is `<!…>` or
    `<@…>`. `plain_text` is at most 3000 characters in a section.
    """
    link: dict[str, Any] = {"type": "plain_text", "text": notice.link, "emoji": False}
    if notice.link.startswith(("http://", "https://")):
        link = {
            "type": "mrkdwn",
            "text": f"<{slack_escaped(notice.link)}|Open the incident>",
            "verbatim": True,
        }
    return {
        "text": slack_escaped(f"[{notice.what}] {notice.broke}"),
        "mrkdwn": False,
        "link_names": False,
        "unfurl_links": False,
        "blocks": [
            {"type": "header", "text": _slack_plain(f"[{notice.what}] {notice.broke}", 150)},
            {"type": "section", "text": _slack_plain(notice.doing, 3000)},
            {"type": "context", "elements": [link]},
        ],
    }


def _slack_plain(text: str, longest: int) -> dict[str, Any]:
    # An entity counts with all its characters, and half of one is none.
    while len(slack_escaped(text)) > longest:
        text = text[: len(text) * 9 // 10]
    return {"type": "plain_text", "text": slack_escaped(text) or "-", "emoji": False}


def slack_escaped(text: str) -> str:
    """Escape what begins markup; `@` and `#` are followed by a joiner that shows nothing."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return plain.replace("@", "@\N{WORD JOINER}")


def _post(url: SecretStr, body: bytes, head: Mapping[str, str], *, credential: bool) -> None:
    address = url.get_secret_value().strip()
    head = {"Content-Type": "application/json", **head}
    try:
        answer = ask("POST", address, seconds=TIMEOUT, body=body, head=head, credential=credential)
    except NoAnswer as no:
        raise NotTold(str(no)) from None
    if not 200 <= answer.status < 300:
        raise NotTold(f"it answered {answer.status}")


def load_channels(env: Mapping[str, str] = os.environ) -> tuple[Channel, ...]:
    """Read the channels, in their order.

    Raises:
        ValueError: it is no list of channels; the text shows nothing of what is written there.
    """
    given = env.get(CHANNELS, "").strip()
    if not given:
        return (Terminal("terminal"),)
    try:
        text = Path(given).read_text(encoding="utf-8") if given.startswith("/") else given
        settings = _LIST.validate_python(load_yaml(text))
    except OSError as no:
        raise ValueError(f"The file that {CHANNELS} names cannot be read ({no.strerror}).") from None
    except ValidationError as no:
        faults = "; ".join(
            f"{'.'.join(str(at) for at in e['loc'] if isinstance(at, int) or at in _KNOWN)}: {e['type']}"
            for e in no.errors(include_input=False, include_context=False, include_url=False)
        )
        raise ValueError(f"{CHANNELS} is no list of channels: {faults}.") from None
    except NotPlain:
        # Its sentence quotes what is written there.
        plain = "without anchors, aliases, types of its own and keys that are there twice"
        raise ValueError(f"{CHANNELS} must be plain YAML, {plain}.") from None
    except (yaml.YAMLError, ValueError):
        raise ValueError(f"{CHANNELS} is no YAML.") from None
    found = tuple(_channel(one) for one in settings)
    if len({one.name for one in found}) != len(found) or not found:
        raise ValueError(f"{CHANNELS} names no channel, or one twice; give each its own `name`.")
    return found


_KNOWN: Final = frozenset({"kind", "name", "url", "secret", "terminal", "webhook", "slack"})


def _channel(setting: TerminalSetting | WebhookSetting | SlackSetting) -> Channel:
    name = setting.name or setting.kind
    match setting:
        case WebhookSetting():
            return Webhook(name, setting.url, setting.secret)
        case SlackSetting():
            return Slack(name, setting.url)
        case TerminalSetting():
            return Terminal(name)


def alarm(
    text: str,
    *,
    link: str = "quietpager incidents",
    headline: str = "quietpager itself is not well",
    env: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Tell every channel at once, with neither store nor broker; gives those that failed, and why.

    Raises:
        ValueError: the list of channels cannot be read.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    notice = Notice(f"alarm-{digest}", "alarm", headline, text, link, {})
    failed: dict[str, str] = {}
    for channel in load_channels(env):
        try:
            channel.tell(notice)
        except NotTold as no:
            failed[channel.name] = str(no)
    return failed
