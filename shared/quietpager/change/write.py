"""What every kind of change says and does: the interface between the one sender and the closed set.

    look ─▶ judge: as pinned? ─▶ send          each kind in a file of its own, `kinds` lists them

Who calls it: `change.send` for the write, `actions.plan` for the dry run, `change.kinds` for the inverse.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

from quietpager.model.cluster import Cluster, Json
from quietpager.model.data import Data
from quietpager.model.incident import AnyChange, Intent, IntentState

Found = tuple[IntentState, str, dict[str, object]]
"""What the objects themselves say of an intent: its state, the sentence, what is known of the write."""

InTime = Callable[[], bool]
"""Tells whether the claim still permits sending."""


class Right(Data):
    """One right on the API server that a kind of change needs: one verb on one resource, as in RBAC."""

    group: str
    resource: str
    verb: str


class Needs(Data):
    """Which guards an action may not spare itself, and how many people must approve it where it is asked."""

    fraction: bool = False
    pdb: bool = False
    rollout_of_others: bool = False
    approvals: Literal[1, 2] = 1


class Write(Data):
    """One write. Each kind has a field `kind`, and `pins` where it is pinned to something.

    `RIGHTS` are what its action's account needs to send it; `is_sent_by` asks for one. `NEEDS` are the guards
    that always apply. `INVERSE` says whether it can be taken back. `UNCAGED` says why the API server cannot
    hold it to its promise, where it cannot.
    """

    RIGHTS: ClassVar[tuple[Right, ...]] = ()
    NEEDS: ClassVar[Needs] = Needs()
    INVERSE: ClassVar[bool]
    UNCAGED: ClassVar[str] = ""

    @classmethod
    def is_sent_by(cls, right: Right) -> bool:
        """Tell whether this right is for sending it."""
        return right in cls.RIGHTS

    @property
    @abstractmethod
    def empty(self) -> bool:
        """Whether it would change nothing."""

    @abstractmethod
    def look(self, intent: Intent, cluster: Cluster) -> Json | None:
        """Read what it would write to; None where that is gone. Raises what the reader raises."""

    @abstractmethod
    def judge(self, intent: Intent, live: Json) -> Found | None:
        """Tell what the objects say of this intent; None means: as pinned, and nothing was sent yet."""

    @abstractmethod
    def send(
        self, intent: Intent, live: Json, cluster: Cluster, in_time: InTime
    ) -> tuple[str, dict[str, object]]:
        """Send it, once; gives the sentence, and what is known of the write.

        Raises:
            Rejected: the API server said no, and nothing was written.
            ClusterUnavailable: nobody knows.
        """

    @abstractmethod
    def try_out(self, intent: Intent, live: Json, cluster: Cluster) -> None:
        """Send it as a dry run, otherwise exactly as `send` does. Raises as `send`."""

    def inverse(self, forward: Intent) -> "Write":
        """Give what takes an applied write back; only where `INVERSE` is true."""
        raise AssertionError(f"nothing takes back what {forward.id} did; its action must say `inverse: none`")

    def stored(self) -> AnyChange:
        """Give it as a record keeps it."""
        return AnyChange.from_json(self.to_json())
