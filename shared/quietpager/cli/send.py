"""`quietpager send`: post one Event or CloudEvent by hand, and see what came back."""

import json
import os
from collections.abc import Callable
from uuid import uuid4

from quietpager.model.cluster import Json
from quietpager.model.message import EVENT_ADD
from quietpager.model.time import system_clock, to_text
from quietpager.outgoing import NoAnswer, ask
from quietpager.runtime.connect import STORE, open_store


def structured(body: bytes) -> Json:
    """Make a structured CloudEvent: as it is if it is one, else around a Kubernetes Event.

    Raises:
        ValueError: the file is no JSON object.
    """
    raw = json.loads(body)
    if not isinstance(raw, dict):
        raise ValueError("The file must hold one JSON object: an Event or a CloudEvent.")  # noqa: TRY004
    if "specversion" in raw:
        return raw
    meta = raw.get("metadata") if isinstance(raw.get("metadata"), dict) else {}
    return {
        "specversion": "1.0", "id": str(uuid4()), "source": "/quietpager/send", "type": EVENT_ADD,
        "kind": "Event", "name": str((meta or {}).get("name", "")) or "unnamed",
        "time": to_text(system_clock()), "datacontenttype": "application/json", "data": raw,
    }  # fmt: skip


def send(body: bytes, to: str, say: Callable[[str], None]) -> int:
    """Post it, print the answer and what the store holds now; gives the exit code."""
    try:
        event = structured(body)
    except ValueError as wrong:
        say(f"Not sent: {wrong}")
        return 2
    head = {"Content-Type": "application/cloudevents+json"}
    try:
        answer = ask("POST", to, seconds=15, body=json.dumps(event).encode(), head=head)
    except NoAnswer as away:
        say(f"Nobody answers at {to}: {away}")
        return 1
    status, said = answer.status, answer.body
    kind = next((value for name, value in answer.headers.items() if name.lower() == "ce-type"), None)
    kind = kind if status < 400 else None
    say(f"{status} {kind or ''}".rstrip())
    if said:
        say(said.decode("utf-8", "replace"))
    _holds(say)
    return 0 if status < 400 else 1


def _holds(say: Callable[[str], None]) -> None:
    if not os.environ.get(STORE):
        say(f"(set {STORE} to see what the store holds)")
        return
    store = open_store()
    for kind in ("FINDING", "INCIDENT", "REHEARSAL", "INTENT"):
        say(f"store: {len(store.scan(kind))} {kind.lower()} records")
    for item in store.due_items():
        say(f"due: {item.id} at {to_text(item.at)}")
    store.close()
