"""The one page that a person gets about a problem no rule knows. Who makes it: `quietpager.analysis`.

Every text in it went through redaction before the page existed; whoever shows it may show all of it.
"""

from datetime import datetime

from quietpager.masking.told import Told
from quietpager.model.data import Data


class Fact(Data):
    """One sentence and where it was read."""

    text: Told
    source: Told


class RuledOut(Data):
    """What it is not, and what says so."""

    what: Told
    why: Told


class Changed(Data):
    """Something that was changed near the symptom; `at` is None where nobody says when."""

    what: Told
    source: Told
    at: datetime | None = None


class Suspect(Data):
    """A candidate cause. A page lists them in order, the likeliest first."""

    what: Told
    why: Told


class Similar(Data):
    """A past incident that reads alike, how it ended, and what was tried on the way."""

    incident: str
    what: Told
    ended: Told
    tried: tuple[Told, ...] = ()


class Page(Data):
    """Everything on one page, in the order a person wants it.

    `missing` says in sentences what could not be read, so that its absence proves nothing.
    """

    summary: Told
    at: datetime
    since: datetime
    causes: tuple[Suspect, ...] = ()
    facts: tuple[Fact, ...] = ()
    ruled_out: tuple[RuledOut, ...] = ()
    changed: tuple[Changed, ...] = ()
    look_next: tuple[Told, ...] = ()
    similar: tuple[Similar, ...] = ()
    helped: tuple[Told, ...] = ()
    missing: tuple[Told, ...] = ()
