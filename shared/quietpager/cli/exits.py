"""How each command ends: one table of exit codes, for scripts, and the two ways to end early.

Who calls it: the commands. `docs/cli.md` is generated from `EXITS`; `tests/contract/test_exit_codes.py` makes
every row happen.

    0   it was done, or the answer is yes
    1   it was asked and the answer is no, or only a part was done
    2   it could not be done or read at all: a wrong option, no store, no cluster, a file that is none
"""

from collections.abc import Mapping
from typing import IO, Any, Final

import click


class CannotBegin(click.ClickException):
    """Nothing could be done or read; the message is the sentence to show. Exit 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the sentence, without click's own word before it."""
        click.echo(self.message, file=file, err=file is None)


class SaysNo(CannotBegin):
    """It was asked, and the answer is no, such as "there is no such incident". Exit 1."""

    exit_code = 1


_STORE: Final = "the store cannot be used"
_ANSWER: Final[Mapping[int, str]] = {
    0: "the answer counts",
    1: "it does not: no such incident, another plan is asked by now, or somebody answered before",
    2: _STORE,
}
EXITS: Final[Mapping[str, Mapping[int, str]]] = {
    "approve": _ANSWER,
    "action new": {0: "the folder is there", 1: "nothing was written; the sentence says why"},
    "audit anchor": {
        0: "anchored, or nothing is new",
        1: "a chain is shorter or another one than at the anchor before, or the folder cannot be used",
        2: _STORE,
    },
    "audit export": {
        0: "written",
        1: "there is no such chain",
        2: f"{_STORE}, or the file cannot be written",
    },
    "audit verify": {0: "no fault", 1: "a fault", 2: f"{_STORE}, or the file cannot be read"},
    "console": {0: "it was stopped", 2: f"{_STORE}: it does not start without"},
    "console-user": {0: "changed", 1: "not changed; the sentence says why"},
    "demo": {
        0: "every outcome is the expected one",
        1: "one is not",
        2: "the store that was asked for cannot be had",
    },
    "incidents": {0: "listed, also if there are none", 2: _STORE},
    "ledger": {0: "shown", 2: _STORE},
    "migrate": {0: "up to date", 1: "not, or not the rights; the sentence says why", 2: "no store is named"},
    "modify": _ANSWER,
    "policy check": {0: "the file is right", 1: "it is not", 2: "there is no such file"},
    "policy explain": {0: "explained", 1: "there is no such incident", 2: _STORE},
    "policy schema": {0: "printed"},
    "reject": _ANSWER,
    "render": {0: "rendered", 1: "a folder, a rule, the policy or an address is wrong; nothing is rendered"},
    "replay": {
        0: "every case was answered; with --json always",
        2: "a case could not be read; the others were answered",
    },
    "resume": {0: "it may write", 1: "it may not, or not everything; the sentences say which half was done"},
    "rule new": {0: "the folder is there", 1: "nothing was written; the sentence says why"},
    "run": {
        0: "it was stopped",
        2: "it could not begin: no cluster, no store, or a policy file that is wrong",
    },
    "scan": {
        0: "the cluster was read, whatever was found",
        2: "nothing could be read: no cluster, no rights, or no such namespace",
    },
    "send": {
        0: "taken",
        1: "nobody answers, or the answer is an error",
        2: f"the file is no Event, or {_STORE}",
    },
    "serve": {0: "it was stopped", 2: "there is no such function"},
    "show": {0: "shown", 1: "there is no such incident", 2: _STORE},
    "status": {0: "every part is alive", 1: "one is not, or cannot be judged"},
    "stop": {0: "stopped, by both switches", 1: "one of them was not reached; the sentences say which"},
    "take-over": _ANSWER,
    "watchdog": {1: "it cannot begin: a wrong duration, or channels that cannot be read"},
}
"""Command → exit code → when. Besides, every command ends with 2 where an option or argument is wrong."""
