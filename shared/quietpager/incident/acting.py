"""What comes of an intent: verified, undone, tried again, or handed over.

The first line of a handler's docstring is its row of the generated table. Who calls it: `incident.machine`.
"""

from collections.abc import Mapping
from datetime import datetime

from quietpager.incident.attempts import figures, note_result, story
from quietpager.incident.moves import enter, hand_over, refresh, rehearse, seconds
from quietpager.incident.news import Input, MarkActed, News, OpenBreaker, Step, Tell, Undo
from quietpager.incident.planning import next_candidate
from quietpager.incident.policy import Policy
from quietpager.model.incident import How, Incident, State


def applied(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """VERIFYING: the cool-down of the target begins."""
    if news.intent is None or news.intent.id != incident.intent:
        return Step(incident)
    how = How.APPLIED if news.kind is News.APPLIED else How.UNKNOWN
    after = enter(
        note_result(incident, how), State.VERIFYING, policy, now,
        policy.rollout + incident.window,
        acted=True, acted_at=news.intent.applied_at or now, extended=False,
        failing_at=None, worse_streak=0,
        undo_when=incident.undo_when if news.kind is News.APPLIED else "never",
    )  # fmt: skip
    return Step(after, (MarkActed(), Tell("updated", f"{news.intent.action} {how.value}.")), how.value)


def not_done(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """PLANNING with the same remedy, attempt + 1, at most 2; then the next candidate."""
    why = news.intent.result if news.intent else news.sentence
    after = note_result(incident, How.OTHER, why)
    if incident.attempt >= policy.attempts:
        return next_candidate(after.but(approved=None), Input(News.REFUSED, sentence=why), policy, now)
    return rehearse(after.but(attempt=incident.attempt + 1), policy, now)


def healed(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """WAITING: healthy just before the write, so nothing was written; no attempt is spent, an approval is."""
    # What was approved was this act. Whether to act should it fail again later, a person is asked again.
    after = note_result(incident.but(approved=None), How.NOT_NEEDED)
    return Step(enter(after, State.WAITING, policy, now, policy.waiting_limit), (), "healed")


def acting_deadline(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """Same state: decide looks at the intent; one never claimed is EXPIRED by that look."""
    return Step(enter(incident, State.ACTING, policy, now, policy.act * 2, nudges=incident.nudges))


def verify_failing(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """Same state; worse than before the act, twice running: as when the window ends."""
    finding = news.finding
    if finding is None:
        return Step(incident)
    worse = finding.available < incident.available_before
    after = refresh(incident, finding, now).but(
        worse_streak=incident.worse_streak + 1 if worse else 0,
        available_after=finding.available,
        restarts_after=incident.restarts_after if finding.diagnosis is None else finding.diagnosis.restarts,
    )
    past_rollout = (now - incident.state_since).total_seconds() >= policy.rollout
    if after.worse_streak >= 2 and past_rollout:
        return _not_helped(after, policy, now, "worse")
    return Step(after)


def verify_deadline(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """Undo, or a person, when it is unchanged; once more where the answers could not be read."""
    if incident.healthy_since is not None:
        rest = incident.window - (now - incident.healthy_since).total_seconds()
        return Step(incident.but(deadline_at=now + seconds(max(rest, 0.0) + 2 * incident.recheck_every)))
    if incident.failing_at is None:
        if not incident.extended:
            again = now + seconds(policy.rollout + incident.window)
            return Step(incident.but(extended=True, deadline_at=again))
        after = note_result(incident, How.UNVERIFIED)
        why = "The change was made, but its effect could not be read; nothing was undone."
        return hand_over(after, policy, now, why, effects=(OpenBreaker(),))
    return _not_helped(incident, policy, now, "unchanged")


def _not_helped(incident: Incident, policy: Policy, now: datetime, how: str) -> Step:
    seen = figures(incident, how)
    after = note_result(incident, How.NOT_HELPED, f"({how})", seen)
    if how in UNDO_WHEN[incident.undo_when]:
        state = enter(after, State.UNDOING, policy, now, policy.claim)
        return Step(state, (OpenBreaker(), Undo()), f"{how}: undo")
    why = f"{incident.tried[-1].action if incident.tried else 'The act'} did not help. {seen}"
    return hand_over(after, policy, now, why, effects=(OpenBreaker(),))


UNDO_WHEN: Mapping[str, frozenset[str]] = {
    "worse": frozenset({"worse"}),
    "unchanged": frozenset({"worse", "unchanged"}),
    "never": frozenset(),
}
"""What an action's `undo_when` covers. A fix that made nothing better is not left lying about."""


def undone(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """WITH_PERSON(handover), told what was undone, or why not."""
    if news.intent is None or news.intent.id != incident.undo:
        return Step(incident)
    if news.kind is News.APPLIED:
        after = note_result(incident, How.UNDONE)
    else:
        after = note_result(incident, How.NOT_UNDONE, news.intent.result)
    return hand_over(after, policy, now, story(after))


def undo_deadline(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """WITH_PERSON(handover): the undo was never carried out."""
    after = note_result(incident, How.UNDO_LOST)
    return hand_over(after, policy, now, story(after))
