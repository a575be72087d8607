"""learn/codify: counts what was tried in a closed incident, and whether it helped; keeps its words.

At least once is enough: an incident's part in the ledger is kept with it, and replaced, never added
twice. One that was reopened and closed again corrects what it had said.
"""

from quietpager.errors import BadMessage, Retry
from quietpager.incident import records
from quietpager.learning.ledger import Key, corrected, past_of
from quietpager.model.incident import Incident, State
from quietpager.model.ledger import Count, Past
from quietpager.model.message import INCIDENT, Message
from quietpager.model.store import ABSENT, Conflict, Put, Record, Write
from quietpager.runtime.context import Context

TRIES = 6
"""How often a lost race is tried again at once; other incidents count in the same records."""


def handle(message: Message, ctx: Context) -> list[Message]:
    """Take one closed incident into the ledger.

    Raises:
        BadMessage: it is no message about a closed incident.
        Retry: other writers were faster, again and again.
    """
    if message.type != f"{INCIDENT}closed":
        raise BadMessage(f"codify learns from closed incidents, not from {message.type[:100]}.")
    for _ in range(TRIES):
        try:
            _learn(str(message.data.get("incident")), ctx)
        except Conflict:
            continue
        return []
    raise Retry(f"the ledger was written by others {TRIES} times in a row")


def _learn(name: str, ctx: Context) -> None:
    record = ctx.store.get(records.incident(name))
    incident = None if record is None else Incident.from_json(record.body)
    if incident is None or incident.state is not State.CLOSED:
        return
    past = past_of(incident)
    known = ctx.store.get(records.past(name))
    before = None if known is None else Past.from_json(known.body)
    if before == past:
        return
    old = () if before is None else before.counts
    keys: set[Key] = {(one.failure_class, one.action) for one in (*old, *past.counts)}
    rows = ctx.store.get_many([records.ledger(*key) for key in sorted(keys)])
    ledger = {key: Count.from_json(rows[k].body) for key in keys if (k := records.ledger(*key)) in rows}
    writes: list[Write] = [_put(records.past(name), past.to_json(), known)]
    for key, count in corrected(ledger, old, past.counts).items():
        place = records.ledger(*key)
        writes.append(_put(place, count.to_json(), rows.get(place)))
    ctx.store.transact(writes)


def _put(key: str, body: dict[str, object], found: Record | None) -> Put:
    return Put(key, body, ABSENT if found is None else found.version)
