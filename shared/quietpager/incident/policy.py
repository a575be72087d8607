"""The typed policy: every limit there is, with its default and its meaning. Read by `load_policy`.

Seconds are seconds. The defaults are on and careful: autonomy `analyze` writes nothing. The meanings are
what `docs/policy.md` and the JSON Schema (`quietpager policy schema`) say.
"""

import difflib
import os
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError
from yaml import YAMLError

from quietpager.incident.freeze import Freeze
from quietpager.model.data import Data
from quietpager.model.finding import Dwell
from quietpager.model.incident import Autonomy, OwnerMode, lowest
from quietpager.model.text import clean
from quietpager.model.yaml import line_of, parse_yaml

PLATFORM = ("kube-", "openshift-", "knative-", "quietpager")
"""Namespaces that begin so are the platform's and our own; no policy file can take one off."""

POLICY_FILE = "QUIETPAGER_POLICY"
"""Environment variable: path of the policy file."""

MOST_BYTES = 1 << 18
"""Of a policy file; four times what a ConfigMap of rules takes."""


class Part(Data):
    """A part of the policy: no NaN and no infinity, for neither is a limit.

    Who writes a credential into a repository's url all the same must not find it in a log.
    """

    model_config = ConfigDict(allow_inf_nan=False, hide_input_in_errors=True)


class Dial(Part):
    """One setting of the dial; an empty field matches everything. The last that matches counts."""

    namespace: str = Field(default="", description="namespaces, `*` and `?` allowed; empty: every one")
    failure_class: str = Field(default="", description="a rule's failure class; empty: every one")
    autonomy: Autonomy = Field(description="the most it may do there")


class Limit(Part):
    """At most so many acts in any window of so many seconds."""

    acts: int = Field(ge=0, le=1000, description="so many at most")
    window: float = Field(gt=0, description="s; in any window of this length")


class Budget(Part):
    """At most so many acts in any window of so many seconds, for each scope."""

    window: float = Field(
        default=3600.0, gt=0, description="s; the length of any window the next five count in"
    )
    target: int = Field(default=1, ge=0, le=1000, description="acts on one workload in any window")
    namespace: int = Field(default=3, ge=0, le=1000, description="acts in one namespace in any window")
    node: int = Field(default=1, ge=0, le=1000, description="acts on one node in any window")
    domain: int = Field(
        default=3, ge=0, le=1000, description="acts that remove pods in one failure domain in any window"
    )
    cluster: int = Field(default=10, ge=0, le=1000, description="acts in the cluster in any window")
    nodes: Limit = Field(
        default=Limit(acts=2, window=86400.0), description="acts on nodes, all of them together"
    )
    actions: dict[str, Limit] = Field(
        default={}, description="a limit for one action by its name; 0 acts: never by itself"
    )


class Ownership(Part):
    """What is done about a field that GitOps, Helm, an operator or an autoscaler owns (guard 5)."""

    default: OwnerMode = Field(
        default="propose",
        description="what is done about a field that GitOps, Helm, an operator or an autoscaler owns: "
        "`propose`, `patch` or `patch+propose`",
    )
    namespaces: dict[str, OwnerMode] = Field(default={}, description="the same for single namespaces")

    def mode(self, namespace: str | None) -> OwnerMode:
        """Give what holds in a namespace."""
        return self.namespaces.get(namespace or "", self.default)


class Repository(Part):
    """A Git repository that holds manifests; no credential belongs here, those come from the environment."""

    url: str = Field(
        pattern=r"^(https://[^@\s]+|ssh://\S+|[A-Za-z0-9._]+@[^\s:]+:\S+|file:///\S+)$",
        description="where it is; the credential is in `QUIETPAGER_GIT_TOKEN`, or in ssh's own environment",
    )
    namespaces: tuple[str, ...] = Field(default=(), description="namespaces that it is for; none: for all")
    branch: str = Field(
        default="", pattern=r"^([A-Za-z0-9_][A-Za-z0-9._/-]*)?$",
        description="the branch to start from; none: the remote's default",
    )  # fmt: skip
    path: str = Field(
        default="", pattern=r"^([A-Za-z0-9_][A-Za-z0-9._/ -]*)?$", description="the folder to look in"
    )
    github: str = Field(
        default="", pattern=r"^(https?://\S+)?$",
        description="address of GitHub's REST API, where a pull request is wanted and not only a branch",
    )  # fmt: skip


class Storm(Part):
    """When to suspect the observer rather than the cluster."""

    incidents: int = Field(
        default=20,
        ge=1,
        le=1000,
        description="more new incidents than this in the window stop all acting; those of namespaces that "
        "are never written to do not count",
    )
    each: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="of these, the most that one namespace counts for, and never more than `incidents`: so "
        "it takes five namespaces to stop the cluster, and no tenant alone stops the others",
    )
    namespace: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="more new incidents than this in one namespace stop acting there, and only there; "
        "half of what stops all, for all of it comes from one tenant",
    )
    window: float = Field(default=300.0, gt=0, description="s; the window all of them are counted in")
    nodes: float = Field(
        default=0.2, ge=0, le=1,
        description="a larger part of the nodes than this unhealthy, and more than one, stop all acting",
    )  # fmt: skip


class Places(Part):
    """Where the cluster's admin lets anything be written; the namespace's own label must say so as well."""

    allow: tuple[str, ...] = Field(
        default=(),
        description="namespaces that may be written to if they also carry the opt-in label, `*` and `?` "
        "allowed; none: no namespace at all",
    )
    deny: tuple[str, ...] = Field(
        default=(),
        description="namespaces that are never written to, whatever `allow` says; `*` and `?` allowed",
    )


class Change(Part):
    """How many odd nodes are everyday life, and no drain and no upgrade."""

    cordoned: int = Field(default=0, ge=0, description="more cordoned nodes than this are a drain under way")
    kubelets: int = Field(
        default=1, ge=1, description="more versions of kubelets than this are an upgrade under way"
    )


class Retention(Part):
    """How long a record is kept that nothing needs any more; the audit is kept for ever."""

    findings: float = Field(
        default=86400.0, ge=3600, description="s; a finding that opened nothing, after it was last seen"
    )
    incidents: float = Field(
        default=90 * 86400.0, ge=86400,
        description="s; an incident after it was closed, with its plans, intents and questions; at least the "
        "cool-down",
    )  # fmt: skip
    past: float = Field(
        default=365 * 86400.0, ge=86400, description="s; what is remembered of a closed incident, to compare"
    )
    limits: float = Field(
        default=30 * 86400.0, ge=86400,
        description="s; a budget slot, a breaker or a cool-down after it has ended; at least the longest "
        "budget window",
    )  # fmt: skip
    pause: float = Field(
        default=3600.0, gt=0, description="s; from the end of one walk over the records to the next one"
    )


_LOOK = "s; how often "


class Policy(Part):
    """All limits. Who reads it: the transition functions, the guards, the clock."""

    autonomy: Autonomy = Field(
        default=Autonomy.ANALYZE,
        description="the most it may do where no dial matches; a rule's own autonomy can only lower it",
    )
    dials: tuple[Dial, ...] = Field(
        default=(),
        description="other autonomy for a namespace or a failure class; the last that matches counts",
    )
    opt_in_label: str = Field(
        default="quietpager.dev/enabled",
        min_length=1,
        description="a namespace without this label set to `true` is never written to",
    )
    namespaces: Places = Places()
    ignore_annotation: str = Field(
        default="quietpager.dev/ignore",
        min_length=1,
        description="an object that has it is never written to",
    )
    protected_prefixes: tuple[str, ...] = Field(
        default=PLATFORM,
        description="namespaces that begin so are never written to; the default's always belong to it",
    )
    tick: float = Field(
        default=5.0,
        gt=0,
        description=f"{_LOOK}the clock starts scheduled work; retries of messages wait at least this long",
    )
    sweep: float = Field(default=30.0, gt=0, description=f"{_LOOK}all pods are listed and looked at")
    anchor: float = Field(
        default=300.0,
        gt=0,
        description=f"{_LOOK}the heads of all audit chains are anchored",
    )
    silence: float = Field(
        default=90.0,
        gt=0,
        description="s; a part without a heartbeat for so long is stale; at least three ticks or sweeps",
    )
    recheck: float = Field(default=10.0, gt=0, description=f"{_LOOK}an open incident is looked at again")
    healthy_rechecks: int = Field(
        default=3, ge=1, description="healthy looks in a row that it takes to close"
    )
    dwell_seconds: float | None = Field(
        default=None, ge=0, description="s; in place of every rule's own dwell; none: the rule's counts"
    )
    dwell_unknown: float | None = Field(
        default=None,
        ge=0,
        description="s; how long a workload is unwell before the unknown is analysed; none: its rule's dwell",
    )
    dwell_restarts: int | None = Field(
        default=None,
        ge=0,
        description="in place of every rule's own number of restarts; none: the rule's counts",
    )
    waiting_limit: float = Field(
        default=900.0,
        gt=0,
        description="s; a WAITING incident that neither heals nor can be judged goes to a person",
    )
    window: float = Field(default=60.0, gt=0, description="s; the least time a fix must hold")
    window_factor: float = Field(
        default=2.0,
        ge=0,
        description="times the last time to failure; a fix must hold that long, if longer",
    )
    rollout: float = Field(
        default=60.0,
        ge=0,
        description="s; allowed for the rollout that a change sets off, before the window counts",
    )
    cool_down: float = Field(
        default=600.0,
        ge=0,
        description="s; no second act on a target inside it; a relapse inside it is the same incident",
    )
    breaker: float = Field(
        default=6 * 3600.0,
        ge=0,
        description="s; no automatic act on this class and target after one that did not help",
    )
    claim: float = Field(default=300.0, gt=0, description="s; an intent nobody claims in this time expires")
    act: float = Field(default=5.0, gt=0, description="s; from claim to write")
    skew: float = Field(
        default=300.0,
        ge=0,
        description="s; how far a clock may be from the true time; twice as much pads the budget's windows",
    )
    planning: float = Field(
        default=60.0, gt=0, description="s; after which a plan that did not come back is asked for again"
    )
    approval: float = Field(
        default=1800.0,
        gt=0,
        description="s; how long a question to a person stands; a reminder comes at half time",
    )
    reminder: float = Field(
        default=1800.0,
        gt=0,
        description="s; first reminder of what is with a person; each later one comes later",
    )
    attempts: int = Field(
        default=2,
        ge=1,
        description="tries of one remedy that ended without a write, before the next remedy",
    )
    fraction: float = Field(
        default=1 / 3,
        ge=0,
        le=1,
        description="of a workload's pods, the largest part that one act may remove",
    )
    floor: int = Field(default=1, ge=0, description="healthy pods of a workload that an act must leave")
    freeze: tuple[Freeze, ...] = Field(
        default=(), description="windows in which nothing is written, recurring or once"
    )
    change: Change = Change()
    storm: Storm = Storm()
    budget: Budget = Budget()
    ownership: Ownership = Ownership()
    repositories: tuple[Repository, ...] = Field(
        default=(), description="Git repositories of manifests, where a change is proposed; none: a patch"
    )
    retention: Retention = Retention()
    notify_tries: int = Field(
        default=6, ge=1, description="times a channel may fail with one message; then that is audited"
    )

    def dial(self, rule: Autonomy, namespace: str | None, failure_class: str) -> Autonomy:
        """Combine the rule's autonomy with the policy's for this place; the lower one counts."""
        setting = self.autonomy
        for dial in self.dials:
            here = not dial.namespace or fnmatchcase(namespace or "", dial.namespace)
            if here and dial.failure_class in ("", failure_class):
                setting = dial.autonomy
        return lowest(rule, setting)

    def repository(self, namespace: str) -> Repository | None:
        """Find the repository of a namespace; the first that fits counts."""
        return next((r for r in self.repositories if not r.namespaces or namespace in r.namespaces), None)

    @property
    def silent_after(self) -> float:
        """Seconds without a beat after which a part is stale: `silence`, but never less than three turns."""
        return max(self.silence, 3 * max(self.tick, self.sweep))

    def is_protected(self, namespace: str) -> bool:
        """Tell whether it is a platform namespace, where nothing is ever written."""
        return namespace.startswith((*PLATFORM, *self.protected_prefixes)) or namespace == ""

    def names(self, namespace: str) -> bool:
        """Tell whether the cluster's admin lets anything be written there; the label is asked for besides.

        Who may label a namespace is not always the admin: platforms let tenants write theirs.
        """
        allowed = any(fnmatchcase(namespace, one) for one in self.namespaces.allow)
        return allowed and not any(fnmatchcase(namespace, one) for one in self.namespaces.deny)

    def may_write(self, namespace: str) -> bool:
        """Tell whether anything can ever be written there, as far as the policy alone decides."""
        return self.names(namespace) and not self.is_protected(namespace)

    def verification(self, time_to_failure: float) -> float:
        """Seconds that a fix must hold: a crash loop has quiet gaps, a leak takes its time."""
        return max(self.window, self.window_factor * time_to_failure)

    def dwell(self, rule: Dwell) -> Dwell:
        """Combine a rule's dwell with the policy's, which counts where it is set."""
        return Dwell(
            seconds=rule.seconds if self.dwell_seconds is None else self.dwell_seconds,
            restarts=rule.restarts if self.dwell_restarts is None else self.dwell_restarts,
        )

    def lasted(self, rule: Dwell, seconds: float, restarts: int) -> bool:
        """Tell whether a symptom of that age, with so many restarts, is more than a transient."""
        dwell = self.dwell(rule)
        return seconds >= dwell.seconds or 0 < dwell.restarts <= restarts

    def frozen(self, now: datetime, namespace: str) -> tuple[Freeze, datetime] | None:
        """Find the freeze window that is open there, and when it closes; the one that closes last."""
        found = [(one, end) for one in self.freeze if (end := one.until(now, namespace)) is not None]
        return max(found, key=lambda pair: pair[1], default=None)


def load_policy(path: str | None = None) -> Policy:
    """Read the policy file, or give the defaults where none is named.

    Raises:
        ValueError: the file is not a policy. Each line of the text names the file, the line, the field,
            and what is allowed there.
        OSError: the file cannot be read.
    """
    name = path or os.environ.get(POLICY_FILE)
    if not name:
        return Policy()
    with Path(name).open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise ValueError(f"{name} is larger than {MOST_BYTES} bytes; that is no policy.")
    try:
        # Editors on Windows begin a file with a byte order mark.
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = raw.count(b"\n", 0, wrong.start) + 1
        raise ValueError(f"{name}, line {line}: it is not written in UTF-8") from None
    if not text.strip():
        raise ValueError(f"{name}, line 1: it is empty; a policy that changes no default is {{}}")
    return read_policy(text, name)


def read_policy(text: str, name: str) -> Policy:
    """Read a policy; `name` is what its faults call it. Raises ValueError as `load_policy` does."""
    try:
        found, lines = parse_yaml(text)
    except YAMLError as wrong:
        raise ValueError(f"{name} is no YAML: {clean(str(wrong), 300)}") from None
    except ValueError as wrong:
        raise ValueError(f"{name}, {clean(str(wrong), 300)}") from None
    try:
        return Policy.model_validate({} if found is None else found)
    except ValidationError as wrong:
        faults = sorted(_fault(name, lines, dict(one)) for one in wrong.errors())
        raise ValueError("\n".join(text for _, text in faults)) from None


def _fault(name: str, lines: dict[tuple[str, ...], int], error: dict[str, Any]) -> tuple[int, str]:
    """Give the line of a fault, and its sentence."""
    place = tuple(str(part) for part in error["loc"])
    line = line_of(lines, place)
    said = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "allowed is")
    field = ".".join(place)
    if error["type"] == "extra_forbidden":
        known = _siblings(place[:-1])
        near = difflib.get_close_matches(place[-1], known, 1)
        hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(known)}."
        return line, f"{name}, line {line}: there is no field {clean(field, 200)}; {hint}"
    # Who writes a credential into a repository's url all the same must not find it in a log.
    hidden = place[:1] == ("repositories",) or isinstance(error.get("input"), dict | list)
    given = "" if hidden else f" is {clean(repr(error['input']), 80)}"
    return line, f"{name}, line {line}: {clean(field, 200) or 'the policy'}{given}: {said}."


def _siblings(place: tuple[str, ...]) -> list[str]:
    """Name the fields that are allowed at a place."""
    model: Any = Policy
    for part in place:
        if part.isdecimal() or not hasattr(model, "model_fields"):
            continue
        model = {"dials": Dial, "freeze": Freeze, "change": Change, "namespaces": Places, "storm": Storm,
                 "budget": Budget, "nodes": Limit, "actions": Limit, "ownership": Ownership,
                 "repositories": Repository}.get(part, model)  # fmt: skip
    fields: dict[str, Any] = model.model_fields
    return [field.alias or key for key, field in fields.items()]
