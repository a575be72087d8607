"""Joins the API server's log to the audit and the records, intent by intent, and says what is wrong."""

from collections import Counter
from typing import Any, Final

from quietpager.incident import records
from quietpager.model.incident import Intent, IntentState
from quietpager.model.store import AuditEntry
from tests.crash.points.ports import Scoped

Json = dict[str, Any]

DOUBLE: Final = "double effect"
UNANNOUNCED: Final = "effect without an earlier committed and claimed intent"
WRONG: Final = "wrong recorded outcome"
OPEN: Final = "intent without a final state"
STOPPED: Final = "claim after the stop"
FOREIGN: Final = "write over somebody else's change"
CRASHED: Final = "process that ended by itself"
KINDS: Final = (DOUBLE, UNANNOUNCED, WRONG, OPEN, STOPPED, FOREIGN, CRASHED)
STOP: Final = "stop"
"""Audit entry that the controller writes together with the switch."""

_NEVER: Final = (IntentState.REFUSED, IntentState.EXPIRED)
_WRITTEN: Final = (IntentState.APPLIED, IntentState.UNDONE)
_NOT_FINAL: Final = (IntentState.INTENT, IntentState.CLAIMED)


def judge(store: Scoped, chain: str, log: list[Json]) -> list[tuple[str, str]]:
    """Give what is wrong with one schedule's end: the kind, and a sentence."""
    entries = store.audit(chain)
    names = [str(entry.body["intent"]) for entry in entries if entry.kind == "intent"]
    kept = store.get_many([records.intent(name) for name in names])
    intents = {name: Intent.from_json(kept[records.intent(name)].body) for name in names}
    writes = [line for line in log if line["accepted"]]
    found = [(DOUBLE, said) for said in _doubles(writes)]
    found += [(UNANNOUNCED, said) for said in _unannounced(writes, entries)]
    for intent in intents.values():
        found += _outcomes(intent, writes, entries)
        found += [(FOREIGN, said) for said in _foreign(intent, writes)]
    return found + [(STOPPED, said) for said in _after_stop(entries)]


def _doubles(writes: list[Json]) -> list[str]:
    times = Counter(line["intent"] for line in writes)
    return [f"{intent} was written {n} times" for intent, n in times.items() if n > 1]


def _unannounced(writes: list[Json], entries: list[AuditEntry]) -> list[str]:
    claimed = {entry.body["intent"] for entry in entries if entry.kind == "claimed"}
    intended = {entry.body["intent"] for entry in entries if entry.kind == "intent"}
    found = []
    for line in writes:
        intent, state = line["intent"], line["state"]
        if state in (None, "INTENT"):
            found.append(f"{intent} was written while its record was {state or 'absent'}")
        elif intent not in claimed & intended:
            found.append(f"{intent} was written, and the audit has no intent and claim of it")
    return found


def _outcomes(intent: Intent, writes: list[Json], entries: list[AuditEntry]) -> list[tuple[str, str]]:
    written = any(line["intent"] == intent.id for line in writes)
    if intent.state in _NOT_FINAL:
        return [(OPEN, f"{intent.id} is {intent.state} at the end")]
    if intent.state in _NEVER and written:
        return [(WRONG, f"{intent.id} is recorded {intent.state}, but it was written")]
    if intent.state in _WRITTEN and not written:
        return [(WRONG, f"{intent.id} is recorded {intent.state}, but it was never written")]
    ends = {state.value.lower() for state in IntentState} - {"intent", "claimed"}
    said = [e.kind for e in entries if e.kind in ends and e.body.get("intent") == intent.id]
    if len(said) > 1 or (said and said != [intent.state.value.lower()]):
        return [(WRONG, f"{intent.id} is {intent.state}; the audit says {' and '.join(said)}")]
    return []


def _foreign(intent: Intent, writes: list[Json]) -> list[str]:
    pinned = intent.generation
    return [
        f"{intent.id} was planned on generation {pinned} and written on {line['generation']}"
        for line in writes
        if line["intent"] == intent.id and line["generation"] != pinned
    ]


def _after_stop(entries: list[AuditEntry]) -> list[str]:
    kinds = [entry.kind for entry in entries]
    after = entries[kinds.index(STOP) :] if STOP in kinds else []
    return [f"{e.body['intent']} was claimed after the stop" for e in after if e.kind == "claimed"]
