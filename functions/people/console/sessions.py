"""Sessions of people who are signed in. The store keeps them, so an admin can end them, and they expire.

The browser holds a random id, the store its hash: who reads the store can sign in as nobody. A session ends
twelve hours after it began whatever happens, after two hours without a page that a person asked for, at
sign-out, when an admin ends it, and when the account gets another password or role, or is removed.

An id without a record is a visitor who is not signed in: that costs the store nothing. Signing in always
makes a new id, so an id that somebody planted in a browser never becomes a session. The token of every form
is derived from the id, so that of another session does not fit.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from quietpager.incident import records
from quietpager.model.data import Data
from quietpager.model.store import ABSENT, Audit, Conflict, Delete, Put, Record, Store
from quietpager.model.time import Clock
from quietpager.people.roles import Role
from quietpager.people.users import Users

LASTS: Final = timedelta(hours=12)
"""A shift: how long a session lasts at most. Nothing renews it."""

IDLE: Final = timedelta(hours=2)
"""How long it lasts without a page that a person asked for. The queue that renews itself does not count."""

SEEN_EVERY: Final = timedelta(minutes=5)
"""How often the last use is written down, at most."""

PER_ACCOUNT: Final = 10
"""Sessions that an account has at a time; one more ends the oldest."""

PURGE: Final = 50
"""Expired records that one sign-in removes at most."""

CHAIN: Final = "sessions"
"""The audit chain of sessions that an admin ended."""

_ID: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Kept(Data):
    """The record of one session. `expires` is final; a record past it may be deleted by anybody."""

    account: str
    role: Role
    mark: str
    created: datetime
    expires: datetime
    seen: datetime
    notice: str = ""

    def over(self, now: datetime) -> bool:
        """Tell whether it has expired."""
        return now >= self.expires or now - self.seen >= IDLE


@dataclass
class Session:
    """What one request has: an id, and of somebody who is signed in the record."""

    id: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    fresh: bool = True
    """The browser does not have this id yet."""
    kept: Kept | None = None
    version: int = ABSENT

    @property
    def csrf(self) -> str:
        """The token of this session's forms; without the id nobody can work it out."""
        return hmac.new(self.id.encode(), b"form", hashlib.sha256).hexdigest()[:32]

    @property
    def key(self) -> str:
        """Name its record."""
        return records.session(hashlib.sha256(self.id.encode()).hexdigest())


class Sessions:
    """All sessions. Any call: `StoreUnavailable`, `UnreadableUsers`."""

    def __init__(self, store: Callable[[], Store], clock: Clock, users: Users) -> None:
        """Nothing is opened yet."""
        self._store, self._clock, self._users = store, clock, users

    def open(self, given: str | None, *, by_person: bool) -> Session:
        """Find the session of a request; nobody's where there is none, or it is over.

        Args:
            given: the cookie.
            by_person: a person asked for the page, so the session is not idle.
        """
        if given is None or not _ID.fullmatch(given):
            return Session()
        session = Session(given, fresh=False)
        record = self._store().get(session.key)
        if record is None:
            return session
        kept, now = Kept.from_json(record.body), self._clock()
        if kept.over(now) or not self._holds(kept):
            self._delete(record)
            return session
        session.kept, session.version = kept, record.version
        if by_person and now - kept.seen >= SEEN_EVERY:
            self._save(session, kept.but(seen=now))
        return session

    def _holds(self, kept: Kept) -> bool:
        return hmac.compare_digest(kept.mark, self._users.mark(kept.account) or "-")

    def begin(self, account: str) -> Session:
        """Sign somebody in: a new id and its record. Removes what is over, and the oldest of too many."""
        now, role, mark = self._clock(), self._users.role(account), self._users.mark(account)
        if role is None or mark is None:  # removed a moment ago
            return Session()
        self._tidy(account, now)
        session = Session()
        kept = Kept(account=account, role=role, mark=mark, created=now, expires=now + LASTS, seen=now)
        self._store().transact([Put(session.key, kept.to_json(), ABSENT)])
        session.kept, session.version = kept, ABSENT + 1
        return session

    def _tidy(self, account: str, now: datetime) -> None:
        found = [(record, Kept.from_json(record.body)) for record in self._store().scan(records.SESSION)]
        for record in [record for record, kept in found if kept.over(now)][:PURGE]:
            self._delete(record)
        mine = [
            (kept.created, record) for record, kept in found if kept.account == account and not kept.over(now)
        ]
        mine.sort(key=lambda one: one[0])
        for _, record in mine[: max(0, len(mine) - PER_ACCOUNT + 1)]:
            self._delete(record)

    def end(self, session: Session) -> None:
        """Sign out: the record is gone, so the cookie is worth nothing, wherever a copy of it is."""
        record = self._store().get(session.key)
        if record is not None:
            self._delete(record, again=True)

    def of_accounts(self) -> dict[str, list[Kept]]:
        """Give what is signed in now, newest first, by account."""
        now, found = self._clock(), dict[str, list[Kept]]()
        for record in self._store().scan(records.SESSION):
            kept = Kept.from_json(record.body)
            if not kept.over(now) and self._holds(kept):
                found.setdefault(kept.account, []).append(kept)
        return {name: sorted(them, key=lambda one: one.seen, reverse=True) for name, them in found.items()}

    def end_all(self, account: str, by: str) -> int:
        """End every session of an account, as an admin; audited. Gives how many there were."""
        mine = [
            record
            for record in self._store().scan(records.SESSION)
            if Kept.from_json(record.body).account == account
        ]
        for record in mine:
            self._delete(record, again=True)
        body = {"account": account, "sessions": len(mine)}
        self._store().transact([Audit(CHAIN, self._clock(), "ended", by, body)])
        return len(mine)

    def say(self, session: Session, sentence: str) -> None:
        """Keep a sentence for the next page of this session."""
        if session.kept is not None:
            self._save(session, session.kept.but(notice=sentence))

    def said(self, session: Session) -> str:
        """Take the sentence that was kept; the next page has none."""
        if session.kept is None or not session.kept.notice:
            return ""
        sentence = session.kept.notice
        self._save(session, session.kept.but(notice=""))
        return sentence

    def _save(self, session: Session, kept: Kept) -> None:
        """Write the record if nobody has meanwhile: a session that was ended is never brought back."""
        with suppress(Conflict):
            self._store().transact([Put(session.key, kept.to_json(), session.version)])
            session.kept, session.version = kept, session.version + 1

    def _delete(self, record: Record | None, *, again: bool = False) -> None:
        """Delete a record; `again`: also where it was only used meanwhile."""
        while record is not None:
            try:
                self._store().transact([Delete(record.key, record.version)])
            except Conflict as other:
                record = other.found if again else None
            else:
                return
