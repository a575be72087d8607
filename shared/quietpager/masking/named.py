"""Masks a value whose name says that it is secret: `DB_PASS=x`, `--token x`, YAML, headers, commands.

Who calls it: `mask`. The difficult half is what must stay: `"secrets-store-inline" : rpc error`, `secretName:
db`, `unexpected token: }` name no secret, and they are what a person must read.
"""

import re
from functools import cached_property
from typing import Final

from quietpager.masking.shape import MASK

_WORD: Final = r"""
    passw(?:or)?d | passwort | passphrase | pwd | secret | token | credentials? | creds | cookie
  | session[_-]?id
  | (?: api | access | private | account | auth | client | encryption | signing | master | shared | service
      | app | storage | ssh | license | admin | root | db | database | priv | consumer | host
      | subscription )[_.-]?key
  | (?: (?<![a-z]) | (?<=pg) | (?<=db) | (?<=sql) | (?<=user) | (?<=root) | (?<=admin) | (?<=smtp) | (?<=mail)
      | (?<=ldap) | (?<=redis) | (?<=bind) | (?<=key) | (?<=store) | (?<=require) | (?<=http) ) pass (?![a-z])
  | signature | (?<![a-z]) sig (?![a-z]) | authorization | connection[_-]?string | (?<![a-z]) dsn (?![a-z])
  | (?-i: (?<=[A-Z0-9]_) (?:KEY|PW|PSW|SALT|AUTH|PIN) (?![A-Za-z]) ) | (?<![\w-]) _auth (?![a-z])
"""
_MAYBE: Final = re.compile(
    r"(?i)pass|pwd|secret|token|cred|cookie|session|key|sig|auth|connection.?string|dsn|_(?:pw|psw|salt|pin)"
)
"""What a text must have so that any pattern with `_WORD` could find something in it."""


class _Late:
    """A pattern that is compiled when it is first needed: these five cost 35 ms of every cold start."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    @cached_property
    def now(self) -> re.Pattern[str]:
        return re.compile(self._pattern)


_NAMED: Final = _Late(
    rf"""(?ix)
    ( (?: {_WORD} ) ) ( [\w.-]{{0,60}} ) (?: \[ \w{{0,8}} \] )?
    ( \\? ["']? ) ( [ \t]{{0,8}} ) ( := | =>? | :(?!:) ) ( \s{{0,8}} )
    ( \\"(?:[^"\\\n]|\\[^"\n])*(?:\\")? | @?"(?:[^"\\\n]|\\.)*"? | '(?:[^'\\\n]|\\.)*'? | `[^`\n]*`?
    | (?!\[?\{{) [^\s,;&"'}})\]]{{1,2000}} )"""
)
_FOLDED: Final = re.compile(r"([|>][+-]?)(?:\s+(?![\w.-]{1,60}:|\[masked\])\S+)+")
"""A YAML block whose lines were joined: up to the next name."""
_REST: Final = re.compile(r"""[^\s,;&"'})\]]*""")
_HARMLESS_NAME: Final = re.compile(
    r"""(?ix) (?: ^|[_.-]|(?<=[a-z]) )
    (?: names? | refs? | keyref | selector | types? | paths? | files? | dirs? | counts? | size |
      length | len | expir\w* | ttl | seconds | url | uri | endpoint | version | provider\w* |
      policy | mode | enabled | required | namespace | class | stores? | inline | manager | status |
      age | limit | lifetime | audiences? | issuer | algorithm | alg | reviews? | requests? |
      controller | operator | driver | reloader | generator | mount | volume | usage | used | source
      | projection | method | rotation\w* | cache | sync\w* | lookup | error | hash_algorithm |
      field | header )s? $"""
)
_PLURAL: Final = re.compile(r"(?i)s(?:_?(?:per_?\w+|total|left|used|count|in|out))?$")
_SAID: Final = frozenset(
    [
        "a",
        "an",
        "and",
        "any",
        "api",
        "are",
        "authentication",
        "authorization",
        "bad",
        "cannot",
        "code",
        "configmap",
        "connection",
        "context",
        "could",
        "couldn't",
        "denied",
        "dial",
        "does",
        "end",
        "eof",
        "error",
        "exec",
        "expected",
        "expired",
        "failed",
        "failure",
        "flag",
        "for",
        "forbidden",
        "found",
        "from",
        "get",
        "grpc",
        "has",
        "http",
        "identifier",
        "if",
        "in",
        "incorrect",
        "instead",
        "internal",
        "invalid",
        "is",
        "it",
        "key",
        "kubernetes",
        "line",
        "lookup",
        "malformed",
        "missing",
        "must",
        "net/http",
        "no",
        "none",
        "not",
        "of",
        "ok",
        "on",
        "open",
        "operation",
        "option",
        "optional",
        "or",
        "permission",
        "pods",
        "post",
        "put",
        "read",
        "received",
        "refused",
        "rejected",
        "request",
        "required",
        "rpc",
        "secret",
        "secrets",
        "server",
        "should",
        "so",
        "stat",
        "status",
        "string",
        "success",
        "syntax",
        "the",
        "this",
        "timed",
        "timeout",
        "to",
        "too",
        "unable",
        "unauthorized",
        "unexpected",
        "unknown",
        "unset",
        "unsupported",
        "user",
        "using",
        "via",
        "waiting",
        "was",
        "when",
        "while",
        "with",
        "wrong",
        "x509",
        "yes",
        "you",
        "your",
    ]
)
"""Words that go on with a sentence behind `secret: `; none of them behind `=` or in quotes."""
_NOTHING: Final = re.compile(
    r"(?i)(?:true|false|null|nil|none|undefined|<\w{0,20}>|\*{3,}|x{4,}|\[masked\]@?.*|\$\d{1,3}|\?|%s|\$\{\w+\}|\$\(\w+\)|\{\}?|\[\]?|[|>][+-]?)[.,;]?"
)
_OURS: Final = re.compile(r"[a-z0-9-]{1,63}/[a-z0-9][a-z0-9.-]{0,252}")
_SCHEMES: Final = frozenset(["bearer", "basic", "token", "digest", "negotiate", "aws4-hmac-sha256", "apikey"])

_COOKIES: Final = re.compile(
    r"""(?i)\b((?:set-)?cookies?2?\\?["']?[ \t]{0,4}[:=]>?[ \t]{0,4}\[?\\?["']?)"""
    r"""(?=[^\n"'\\=]{0,200}=)[^\n"'\\]+"""
)
_AUTHORIZATION: Final = re.compile(
    r"""(?i)\b((?:proxy-)?authorization\\?["']?[ \t]{0,4}[:=]>?[ \t]{0,4}\[?\\?["']?)"""
    r"""([\w-]{1,30}[ \t]{1,4})?([^\n"'\\]+)"""
)
_BLOCK: Final = _Late(
    rf"""(?imx) ^ ( ([ \t-]{{0,40}}) ["']? [\w.-]{{0,60}}? (?: {_WORD} ) [\w.-]{{0,60}} ["']? : [ \t]{{0,8}}
    [|>] [+-]? \d? [ \t]{{0,8}} (?:\#[^\n]*)? \n ) ( (?: \2 [ \t]+ \S [^\n]* (?:\n|\Z) | [ \t]*\n )+ )"""
)
_YAML_LINE: Final = _Late(
    rf"""(?imx) ( (?: ^ [ \t]{{0,40}} (?:-[ \t]+)? ["']? [\w.-]{{0,60}}? (?: {_WORD} )
    | (?: passw(?:or)?d | passphrase ) )
    ["']? : [ \t]{{1,8}} ) ( [^\s"'|>&*\[{{] [^\n]* ) $"""
)
_LIST_ENTRY: Final = _Late(
    rf"""(?ix) ( name \\?["']? [ \t]{{0,4}} [:=] \s{{0,4}} \\?["']? [\w.-]{{0,60}}? (?: {_WORD} )
    [\w.-]{{0,60}} \\?["']? (?: ,?\s{{1,80}}? | , ) )
    ( \\?["']? value \\?["']? [ \t]{{0,4}} [:=] [ \t]{{0,4}} )
    ( \\"[^"\n]*" | "(?:[^"\\\n]|\\.)*"? | '[^'\n]*'? | [^\s,}}]+ )"""
)
_SECRET_DATA: Final = re.compile(r"(?m)^([ \t]{0,40})(stringData:[ \t]*\n)((?:\1[ \t]+\S[^\n]*(?:\n|\Z))+)")
_SECRET_LINE: Final = re.compile(r"(?m)\b(stringData:[ \t]+)([^\s{\[][^\n]*)")
_DATA_LINE: Final = re.compile(r"(?m)^([ \t]*[\w.-]{1,253}:[ \t]+)(\S[^\n]*)$")
_OPTION: Final = _Late(
    rf"""(?ix) (?<![\w.-]) ( --? [\w-]{{0,40}}? (?: {_WORD} ) ([\w-]{{0,40}}) )
    ( [ \t]{{1,8}} | =  | ["'] [ \t]{{0,4}} , \s{{0,4}} (?=["']) )
    (?!-) ( "(?:[^"\\\n]|\\.)*"? | '[^'\n]*'? | [^\s"',\]]+ )"""
)
_COMMAND: Final = re.compile(
    r"""(?x) \b ( (?: (?:mysql|mysqldump|mysqladmin|mariadb|mariadb-dump|sshpass) \b [^\n|;]{0,200}? [ \t] -p
    | redis-cli \b [^\n|;]{0,200}? [ \t] (?:-a|--pass) [ \t]+
    | (?:curl|wget|http) \b [^\n|;]{0,200}? [ \t] (?:-u|--user|--proxy-user) [ \t=]* ["']? [^\s:"']{0,80} :
    | docker [ \t]+ login \b [^\n|;]{0,200}? [ \t] -p [ \t]*
    | ldap(?:search|modify|add|whoami) \b [^\n|;]{0,200}? [ \t] -w [ \t]*
    | requirepass [ \t]+ | masterauth [ \t]+
    | (?i:identified) [ \t]+ (?i:by) [ \t]+ (?: (?i:password) [ \t]+ )?
    | (?: machine | host ) [ \t]+ \S{1,200} \s+ (?: login | user ) \s+ \S{1,100} \s+ passw(?:or)?d \s+
    | login [ \t]+ \S{1,100} \s+ password \s+
    ) [ \t]{0,2} ) ( '[^'\n]*'? | "[^"\n]*"? | [^\s"']+ )"""
)
_SPOKEN: Final = re.compile(
    r"""(?i)\b((?:password|passwd|passphrase|passcode)[ \t](?:is|was|(?:set|changed)[ \t]to)[ \t]"""
    r""":?[ \t]{0,2}|password[ \t](?=["']))"""
    r"""(?:"([^"\n]{1,200})"?|'([^'\n]{1,200})'?|(\S+))"""
)
_XML: Final = re.compile(
    r"(?i)(<[\w:-]{0,40}?(?:passw(?:or)?d|passphrase|secret|token|api-?key)[\w:-]{0,40}"
    r"(?:[ ][^<>]{0,100})?>)([^<\s][^<]{0,400})(?=<)"
)
_PGPASS: Final = re.compile(
    r"(?m)(?<![^\s\"'=])((?:\*|[\w.-]{1,200}):(?:\d{4,5}|\*):(?:\*|[\w-]{1,63}):(?:\*|[\w.@-]{1,63}):)([^\s\"']+)"
)
_DOCKER: Final = re.compile(r"""(\\?["']auth\\?["'][ \t]{0,4}:[ \t]{0,4}\\?["'])([A-Za-z0-9+/=_-]{6,})""")


def mask_headers(text: str) -> str:
    """Mask the credentials of HTTP headers: whole, for a cookie that comes later is one as well."""
    if "ookie" in text or "OOKIE" in text:
        text = _COOKIES.sub(lambda found: found[1] + MASK, text)
    if "uthorization" in text.lower():
        text = _AUTHORIZATION.sub(_authorization, text)
    return text


def _authorization(found: re.Match[str]) -> str:
    scheme, value = found[2] or "", found[3]
    if scheme.strip().lower() in _SCHEMES:
        return f"{found[1]}{scheme}{MASK}"
    said = (scheme or value).strip().split(maxsplit=1)
    if not said or said[0].lower().rstrip(".,;:") in _SAID or value.startswith(MASK):
        return found[0]
    return found[1] + MASK


def mask_named(text: str) -> str:
    """Mask what stands behind a name that calls it a secret; more lines than one first."""
    if _MAYBE.search(text):
        text = _by_word(text)
    text = _COMMAND.sub(lambda found: found[1] + _quoted(found[2]), text)
    text = _SPOKEN.sub(_spoken, text)
    text = _XML.sub(lambda found: found[1] + MASK, text)
    text = _DOCKER.sub(lambda found: found[1] + MASK, text)
    return _PGPASS.sub(lambda found: found[1] + MASK, text)


def _by_word(text: str) -> str:
    if "\n" in text:
        text = _BLOCK.now.sub(lambda found: f"{found[1]}{found[2]}  {MASK}\n", text)
        text = _SECRET_DATA.sub(
            lambda f: f[1] + f[2] + _DATA_LINE.sub(lambda line: line[1] + MASK, f[3]), text
        )
    if "stringData:" in text:
        text = _SECRET_LINE.sub(lambda found: found[1] + MASK, text)
    text = _YAML_LINE.now.sub(_yaml, text)
    if "alue" in text:
        text = _LIST_ENTRY.now.sub(lambda found: f"{found[1]}{found[2]}{_quoted(found[3])}", text)
    text = _values(text)
    return _OPTION.now.sub(_option, text)


def _quoted(value: str) -> str:
    """Leave the quotes, so that JSON stays JSON."""
    lead = next((q for q in ('\\"', '"', "'") if value.startswith(q)), "")
    return f"{lead}{MASK}{lead if len(value) > len(lead) and value.endswith(lead) else ''}"


def _yaml(found: re.Match[str]) -> str:
    value = found[2].strip()
    first = value.split(maxsplit=1)[0]
    if _NOTHING.fullmatch(first) or "[masked" in value or first.isdigit() or _OURS.fullmatch(first):
        return found[0]
    # One word is for the general pattern; several are a passphrase, unless they are a sentence or fields.
    several = (
        " " in value and first.lower().rstrip(".,:") not in _SAID and not re.search(r"[=:,;]|\. ", value)
    )
    return found[1] + MASK if several and len(value) < 80 else found[0]


def _values(text: str) -> str:
    """Mask each named value. What is kept is read on: it may hold another name and its value."""
    done: list[str] = []
    at = 0
    while (found := _NAMED.now.search(text, at)) is not None:
        start, end = found.span(7)
        done.append(text[at:start])
        at = start
        if (block := _FOLDED.match(text, start)) is not None:
            done.append(f"{block[1]} {MASK}")
            at = block.end()
            continue
        if not _kept(found):
            quoted = found[7][0] in _QUOTES
            done.append(_quoted(found[7]) if quoted else MASK)
            rest = None if quoted else _REST.match(text, end)
            at = end if rest is None else rest.end()
    return "".join([*done, text[at:]])


_QUOTES: Final = "\"'`\\@"
_PLACE: Final = re.compile(r"\d{1,6}(?::\d{1,6})?")
_SOURCE_FILE: Final = re.compile(r"\.(?:java|kt|scala|go|py|js|ts|mjs|cjs|rb|rs|cs|php|c|cc|cpp|h|ex|exs)$")


def _kept(found: re.Match[str]) -> bool:
    """Tell that a named value is none: it goes on with a sentence, or the name is not that of a secret."""
    word, suffix, quote, space, sign, gap, value = found.groups()
    quoted = value[0] in _QUOTES
    bare = value.lower()
    told = sign == ":" and not quoted
    before = found.string[max(found.start() - 1, 0) : found.start()]
    return bool(
        bare in _SCHEMES
        or "[masked" in value
        or _NOTHING.fullmatch(value)
        or (quote and space and not quoted)  # `volume "x-token" : rpc error`: Kubernetes' own way to cite
        or (suffix and _HARMLESS_NAME.search(suffix))
        or (suffix and _SOURCE_FILE.search(suffix) and _PLACE.fullmatch(value))
        or (not quoted and value.isdigit() and len(value) < 7 and _PLURAL.search(suffix or "-"))
        or (word.lower() == "pass" and not suffix and value.isdigit())
        or (word == "PASS" and not suffix and told and gap and not (before.isalnum() or before == "_"))
        or (
            told
            and (gap or quote)
            and (bare.rstrip(".,:;") in _SAID or (value.isdigit() and len(value) == 3))
        )
        or (told and gap and value.endswith(":") and _HARMLESS_NAME.fullmatch(value[:-1]))
        or (
            told
            and not suffix
            and (word == "Secret" or (word == "secret" and not gap))
            and _OURS.fullmatch(bare)
        )
        or (word.lower() == "token" and gap and not any(c.isalnum() for c in value))
    )


def _option(found: re.Match[str]) -> str:
    name, suffix, gap, value = found.groups()
    sentence = gap.isspace() and value.lower().rstrip(".,:;") in _SAID
    if (
        sentence
        or "[masked" in value
        or _NOTHING.fullmatch(value)
        or (suffix and _HARMLESS_NAME.search(suffix))
    ):
        return found[0]
    return f"{name}{gap}{_quoted(value)}"


def _spoken(found: re.Match[str]) -> str:
    value = found[2] or found[3] or found[4]
    if (
        value.lower().rstrip(".,:;") in _SAID
        or "[masked" in value
        or (found[4] and not re.search(r"\d|\W\w", value))
    ):
        return found[0]
    return f"{found[1]}{MASK}"
