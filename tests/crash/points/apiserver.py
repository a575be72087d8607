"""An API server for the crash points: one workload for each schedule, and a log of what was written.

    python -m tests.crash.points.apiserver SOCKET LOG STORE

It is the one process that is never killed. The workload is the model's; the log is a file of JSON lines,
appended before the answer. Each line also says in which state the intent was committed at that moment:
the server looks into the store itself, so that "an earlier committed INTENT" is seen and not concluded.
"""

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field, replace
from typing import Any

from quietpager.change.marks import MARK
from quietpager.incident import records
from quietpager.model.time import system_clock, to_text
from tests.crash.points.ports import Scoped, open_store
from tests.model.tape import Call
from tests.model.world import Workload, World

Json = dict[str, Any]


@dataclass
class Server:
    """All workloads, and the log."""

    store: Scoped
    log: int
    loads: dict[str, Workload] = field(default_factory=dict)
    lines: dict[str, list[Json]] = field(default_factory=dict)

    def answer(self, question: Json) -> Json:
        """Answer one question."""
        scope, do = str(question["scope"]), question["do"]
        load = self.loads.get(scope, Workload())
        match do:
            case "get" | "list":
                found = World(workload=load).read(Call("cluster", do, tuple(question["args"]))).value
                return {"answer": found}
            case "json_patch" | "dry_run":
                return self._patch(scope, load, question)
            case "edit":
                self.loads[scope] = replace(load, limit="48Mi", generation=load.generation + 1)
            case "heal":
                self.loads[scope] = replace(load, healed=True)
            case "end":
                self.loads.pop(scope, None)
                return {"answer": self.lines.pop(scope, [])}
        return {"answer": None}

    def _patch(self, scope: str, load: Workload, question: Json) -> Json:
        after = load.patched(tuple(question["patch"]))
        if question["do"] == "json_patch":
            self._note(scope, load, after, question)
        if after is None:
            said = "the server rejected our request due to an error in our request"
            return {"rejected": [422, "Invalid", said]}
        if question["do"] == "json_patch":
            self.loads[scope] = after
        return {"answer": after.deployment()}

    def _note(self, scope: str, load: Workload, after: Workload | None, question: Json) -> None:
        intent = _intent(question["patch"])
        self.store.scope = scope
        record = self.store.get(records.intent(intent))
        line = {
            "scope": scope, "intent": intent, "accepted": after is not None, "by": question["by"],
            "state": None if record is None else record.body["state"], "at": to_text(system_clock()),
            "generation": load.generation,
        }  # fmt: skip
        os.write(self.log, json.dumps(line).encode() + b"\n")
        self.lines.setdefault(scope, []).append(line)


def _intent(patch: list[Json]) -> str:
    """Read whose patch it is: the mark that it sets."""
    for one in patch:
        if one["op"] != "test" and one["path"].startswith("/metadata/annotations"):
            value = one["value"]
            return str(value[MARK] if isinstance(value, dict) else value)
    return ""


async def main(path: str, log: str, url: str) -> None:
    """Serve until killed."""
    store = Scoped(open_store(url))
    # Not the file but this process is what must outlive the workers, so nothing is flushed to the disk.
    server = Server(store, os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(json.dumps(server.answer(json.loads(line))).encode() + b"\n")
            await writer.drain()
        writer.close()

    listening = await asyncio.start_unix_server(serve, path, limit=1 << 20)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
