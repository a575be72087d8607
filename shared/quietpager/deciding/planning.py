"""From a remedy to a plan that the guards can judge: the rehearsal, and who owns what it would change.

Who calls it: the remediators in production, replay and scan. There is no other way to a plan, so nobody can
make one and forget whose object it is.
"""

from quietpager.actions.plan import DryRun, Planner, rehearse
from quietpager.actions.schema import Action
from quietpager.incident.ownership import with_owner
from quietpager.incident.policy import Policy
from quietpager.model.incident import Rehearsal
from quietpager.objects.live import Live


def planned(
    asked: Rehearsal, action: Action, plan: Planner, live: Live, policy: Policy, *, dry_run: DryRun | None
) -> Rehearsal:
    """Plan one remedy on the live object; a refusal is a rehearsal too, with its sentence.

    `dry_run` is None where nothing may be sent. Raises whatever the reader raises; then nothing is known.
    """
    done = rehearse(
        asked, action, plan, live, dry_run=dry_run,
        opt_in_label=policy.opt_in_label, ignore_annotation=policy.ignore_annotation,
    )  # fmt: skip
    return with_owner(done, live, policy)
