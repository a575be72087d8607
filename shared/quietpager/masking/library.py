"""Uses the detectors of detect-secrets for well-known formats of tokens. Called by `mask`.

Only detectors that take linear time are used, and none that judges a line by its words alone:
`KeywordDetector` takes the rest of the line, and with it the cause. Left out because a container could
keep them busy: `jwt`, `npm`, `openai` (each start reads on to the end), `cloudant`, `ibm_*`, `softlayer`
(three repeats of spaces side by side). `named` and `mask` have patterns of their own for what those find.

Importing it costs some 100 ms (it brings `requests`, which we never use: nothing is verified anywhere). So
it is imported for the first text that has a word in which it could find something.
"""

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Final

from quietpager.masking.shape import MASK

DETECTORS: Final = (
    ("artifactory", "ArtifactoryDetector"),
    ("aws", "AWSKeyDetector"),
    ("azure_storage_key", "AzureStorageKeyDetector"),
    ("discord", "DiscordBotTokenDetector"),
    ("github_token", "GitHubTokenDetector"),
    ("gitlab_token", "GitLabTokenDetector"),
    ("mailchimp", "MailchimpDetector"),
    ("pypi_token", "PypiTokenDetector"),
    ("sendgrid", "SendGridDetector"),
    ("slack", "SlackDetector"),
    ("square_oauth", "SquareOAuthDetector"),
    ("stripe", "StripeDetector"),
    ("telegram_token", "TelegramBotTokenDetector"),
    ("twilio", "TwilioKeyDetector"),
)
"""Module and class of each detector; what it finds is in its public `denylist` of patterns."""

ENTROPY: Final = 4.5
"""Bits for each character from which a quoted base64 text counts as a secret: the library's own default."""

_WORTH_IT: Final = re.compile(r"(?=[\w.+/=:-]{0,19}[0-9A-Z])[\w.+/=:-]{20}")
"""No detector finds anything in shorter words: the shortest are Artifactory's, which `named` finds, too."""
_QUOTED: Final = re.compile(r"""(["'])([A-Za-z0-9+/=_-]{20,})(?=\1)""")


def mask_known(text: str) -> str:
    """Replace what a detector knows; what stands around it, that its pattern needs, stays."""
    if not _WORTH_IT.search(text):
        return text
    patterns, entropy_of = _detectors()
    for pattern in patterns:
        text = pattern.sub(_inside, text)
    return _QUOTED.sub(
        lambda found: f"{found[1]}{MASK}" if entropy_of(found[2]) > ENTROPY else found[0], text
    )


def _inside(found: re.Match[str]) -> str:
    start, end = found.span(1) if found.re.groups == 1 and len(found[1] or "") >= 16 else found.span()
    inner = found.string[start:end]
    kept = inner.strip(' \t\r\n"=:')
    return found[0].replace(kept, MASK)


@cache
def _detectors() -> tuple[tuple[re.Pattern[str], ...], Callable[[str], float]]:
    found: list[re.Pattern[str]] = []
    for module, name in DETECTORS:
        detector = getattr(import_module(f"detect_secrets.plugins.{module}"), name)()
        found += detector.denylist
    strings = import_module("detect_secrets.plugins.high_entropy_strings")
    return tuple(found), strings.Base64HighEntropyString(limit=ENTROPY).calculate_shannon_entropy
