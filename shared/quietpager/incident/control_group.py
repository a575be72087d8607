"""The control group of a fix: did others heal that nobody touched? Pure.

Without it "it got better after the change" may only mean "time passed": a registry that comes back heals
all that could not pull from it, the one that was rolled back and those that were left alone.

    ours      failing ──── write ── healthy ────────────────▶ CLOSED(fixed)
    sibling   failing ─────────────────── healthy ── …        same failure class, never written to, well now
              so: "not proven: it healed, but so did one untouched sibling with the same failure"

A sibling speaks against a fix only if it was still seen failing when, or hardly before, the change was
written; one that had healed earlier says nothing about what happened then. It may have been healed by a
person without a word to us: then the fix is called unproven too often, which harms nobody, for what is
well is never undone.

Who calls it: `govern/decide`, when a fix is about to be called one.
"""

from collections.abc import Iterable
from datetime import timedelta

from quietpager.incident.policy import Policy
from quietpager.model.incident import WITH_PERSON, Incident, State


def is_claimed(before: Incident, after: Incident | None) -> bool:
    """Tell whether a step says that a change helped."""
    if before.state is not State.VERIFYING or after is None:
        return False
    return after.verified or (after.state is State.CLOSED and after.reason == "fixed")


def siblings(ours: Incident, others: Iterable[Incident], policy: Policy) -> tuple[Incident, ...]:
    """Find the others with the same failure that were left alone, and healed since our write."""
    return tuple(one for one in others if _is_sibling(ours, one) and _healed_since(ours, one, policy))


def _is_sibling(ours: Incident, other: Incident) -> bool:
    """Same cluster and failure, another cause; neither we nor anybody through us did a thing about it."""
    same = (other.cluster, other.failure_class) == (ours.cluster, ours.failure_class)
    return same and other.cause != ours.cause and not other.acted and not other.decided_by


def _healed_since(ours: Incident, other: Incident, policy: Policy) -> bool:
    if ours.acted_at is None or other.failing_at is None:
        return False
    # It is looked at every `recheck` seconds, so it may have failed for so long after the look.
    if other.failing_at + timedelta(seconds=policy.recheck) < ours.acted_at:
        return False
    if other.state is State.CLOSED:
        return other.reason in ("healed_by_itself", "fixed_by_person")
    waits = other.state in (State.WAITING, State.PLANNING, *WITH_PERSON)
    return waits and other.healthy_streak >= policy.healthy_rechecks
