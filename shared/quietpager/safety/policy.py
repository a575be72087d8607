"""The typed policy: every limit there is, with its default. Read from a YAML file by `load_policy`.

Seconds are seconds. The defaults are on and careful: autonomy `analyze` writes nothing.
"""

import os
from pathlib import Path

from pydantic import Field

from quietpager.model.data import Data
from quietpager.model.incident import Autonomy, lowest
from quietpager.model.yaml import read_yaml

POLICY_FILE = "QUIETPAGER_POLICY"
"""Environment variable: path of the policy file."""


class Dial(Data):
    """One setting of the dial; an empty field matches everything. The last that matches counts."""

    namespace: str = ""
    failure_class: str = ""
    autonomy: Autonomy


class Budget(Data):
    """At most so many acts in any window of so many seconds, for each scope."""

    window: float = Field(default=3600.0, gt=0)
    target: int = Field(default=1, ge=0)
    namespace: int = Field(default=3, ge=0)
    cluster: int = Field(default=10, ge=0)


class Policy(Data):
    """All limits. Who reads it: the transition functions, the guards, the clock."""

    autonomy: Autonomy = Autonomy.ANALYZE
    dials: tuple[Dial, ...] = ()
    opt_in_label: str = "quietpager.dev/enabled"
    ignore_annotation: str = "quietpager.dev/ignore"
    protected_prefixes: tuple[str, ...] = ("kube-", "openshift-", "knative-", "quietpager")
    tick: float = 5.0
    sweep: float = 30.0
    recheck: float = 10.0
    silence: float = 90.0
    healthy_rechecks: int = Field(default=3, ge=1)
    dwell_seconds: float | None = None
    dwell_restarts: int | None = None
    waiting_limit: float = 900.0
    window: float = 60.0
    window_factor: float = 2.0
    rollout: float = 60.0
    cool_down: float = 600.0
    breaker: float = 6 * 3600.0
    claim: float = 300.0
    act: float = 5.0
    skew: float = 1.0
    planning: float = 60.0
    approval: float = 1800.0
    reminder: float = 1800.0
    attempts: int = 2
    budget: Budget = Budget()

    def dial(self, rule: Autonomy, namespace: str | None, failure_class: str) -> Autonomy:
        """Combine the rule's autonomy with the policy's for this place; the lower one counts."""
        setting = self.autonomy
        for dial in self.dials:
            if dial.namespace in ("", namespace) and dial.failure_class in ("", failure_class):
                setting = dial.autonomy
        return lowest(rule, setting)

    @property
    def silent_after(self) -> float:
        """Seconds without a beat after which a part is stale: `silence`, but never less than three turns."""
        return max(self.silence, 3 * max(self.tick, self.sweep))

    def is_protected(self, namespace: str) -> bool:
        """Tell whether it is a platform namespace, where nothing is ever written."""
        return namespace.startswith(self.protected_prefixes) or namespace == ""

    def verification(self, time_to_failure: float) -> float:
        """Seconds that a fix must hold: a crash loop has quiet gaps, a leak takes its time."""
        return max(self.window, self.window_factor * time_to_failure)


def load_policy(path: str | None = None) -> Policy:
    """Read the policy file, or give the defaults where none is named.

    Raises:
        ValueError: the file is not a policy; pydantic's sentence says where.
    """
    name = path or os.environ.get(POLICY_FILE)
    if not name:
        return Policy()
    return Policy.model_validate(read_yaml(Path(name)) or {})
