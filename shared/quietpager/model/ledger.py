"""The ledger of closed incidents: counts for each failure class and action, and one record for each incident.

Who writes them: `learn/codify`. Who reads them: the analyst ("what helped then"), `quietpager ledger`.
"""

from datetime import datetime

from quietpager.masking.told import Told
from quietpager.model.data import Data
from quietpager.model.page import Similar


class Count(Data):
    """How often an action was carried out for a failure class, and how that ended.

    `tried` counts changes that were sent. `undone` ones are among those that did not help. `unproven` ones
    healed, but so did others that nobody touched; they count as neither. What is in none of `helped`,
    `not_helped` and `unproven` could not be verified.
    """

    failure_class: str
    action: str
    tried: int = 0
    helped: int = 0
    not_helped: int = 0
    undone: int = 0
    unproven: int = 0

    def plus(self, other: "Count", times: int = 1) -> "Count":
        """Add another count of the same class and action, or with -1 take it away."""
        return self.but(
            tried=self.tried + times * other.tried,
            helped=self.helped + times * other.helped,
            not_helped=self.not_helped + times * other.not_helped,
            undone=self.undone + times * other.undone,
            unproven=self.unproven + times * other.unproven,
        )

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"{self.action} for {self.failure_class}: tried {self.tried}, helped {self.helped}, "
            f"did not help {self.not_helped}, undone {self.undone}, "
            f"not proven {self.unproven}"
        )


class Past(Data):
    """One closed incident as it is remembered. `words` is what `Store.similar` finds it by.

    `counts` is what the ledger holds because of it, so that an incident that is reopened and closed
    once more replaces its own part and never counts twice.
    """

    story: Similar
    failure_class: str
    closed_at: datetime
    words: Told
    counts: tuple[Count, ...] = ()
