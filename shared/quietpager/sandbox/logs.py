"""What containers have said: GET of a pod's `log`, as the kubelet answers through the API server.

Used by `api` alone. No process runs here, so what it says is read from its command: each `echo` in it
is a line, repeated where the command loops. Refusals are worded as in Kubernetes
(`pkg/registry/core/pod/strategy.go`, `pkg/kubelet/kubelet_pods.go`).
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from quietpager.sandbox import answers

Json = dict[str, Any]

_ECHO: Final = re.compile(r"""\becho (?:"([^"]*)"|'([^']*)'|([^;&|>\n]*))""")
_LOOPS: Final = re.compile(r"\bwhile\b")
_ROUNDS: Final = 20
"""So often has a loop run; nobody here keeps the time that it took."""


def read(pod: Json, query: Mapping[str, str]) -> bytes:
    """Answer a request for a log.

    Raises:
        Problem: 400, as the kubelet refuses.
    """
    meta, name = pod["metadata"], query.get("container", "")
    specs = {one["name"]: one for one in pod["spec"].get("containers") or ()}
    if not name and len(specs) == 1:
        [name] = specs
    if name not in specs:
        raise answers.bad_request(f"container {name} is not valid for pod {meta['name']}")
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    status: Json = next((one for one in statuses if one["name"] == name), {})
    where = f'container "{name}" in pod "{meta["name"]}"'
    if query.get("previous") == "true":
        if "terminated" not in (status.get("lastState") or {}):
            raise answers.bad_request(f"previous terminated {where} not found")
    elif not (status.get("state") or {}).keys() & {"running", "terminated"} and not status.get(
        "restartCount"
    ):
        waiting = ((status.get("state") or {}).get("waiting") or {}).get("reason", "ContainerCreating")
        raise answers.bad_request(f"{where} is waiting to start: {waiting}")
    lines = said(specs[name])
    tail = query.get("tailLines", "")
    if tail.isdecimal():
        lines = lines[max(len(lines) - int(tail), 0) :]
    text = b"".join(line.encode() + b"\n" for line in lines)
    most = query.get("limitBytes", "")
    return text[: int(most)] if most.isdecimal() else text


def said(container: Json) -> list[str]:
    """List the lines that a container's command echoes."""
    command = " ".join([*(container.get("command") or ()), *(container.get("args") or ())])
    lines = ["".join(found).strip() for found in _ECHO.findall(command)]
    return lines * _ROUNDS if _LOOPS.search(command) else lines
