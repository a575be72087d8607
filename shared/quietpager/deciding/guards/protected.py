"""Guard 2, protected: platform namespaces, namespaces that are not opted in, objects to be ignored.

Policy and label must both opt a namespace in: the policy is the cluster admin's word, and the label is what
the cage can see.
"""

from quietpager.deciding.ground import Ground
from quietpager.deciding.guard import Figures, Guard, Said, facts_of


def _judge(ground: Ground) -> Said:
    facts, policy = facts_of(ground), ground.policy
    # The incident's own namespace is looked at too: facts come from a remediator, and it may be wrong.
    places = {facts.namespace, ground.rehearsal.owner.namespace or ""}
    places |= {target.namespace or "" for target in facts.targets}
    platform = sorted(place for place in places if policy.is_protected(place))
    no = None
    if platform:
        no = f"Namespace {platform[0] or '(none)'} belongs to the platform."
    elif len(places) > 1:
        no = f"The plan reaches into several namespaces: {', '.join(sorted(places))}."
    elif not policy.names(facts.namespace):
        label = "and the label alone is not enough" if facts.opted_in else "and it has no opt-in label either"
        no = f"The policy's `namespaces` does not let {facts.namespace} be written to, {label}."
    elif not facts.opted_in:
        no = f"Namespace {facts.namespace} has no label {policy.opt_in_label}=true; the policy names it."
    elif facts.ignored:
        no = f"{ground.rehearsal.owner} is annotated {policy.ignore_annotation}."
    figures: Figures = {
        "namespace": facts.namespace, "in_policy": policy.names(facts.namespace), "labelled": facts.opted_in,
        "ignored": facts.ignored,
    }  # fmt: skip
    return Said(no, figures)


GUARD = Guard(
    number=2, name="protected",
    refuses=(
        "a platform namespace, one that policy and label do not both opt in, an object that is to"
        " be ignored"
    ),
    then="hold", on_undo=True, judge=_judge,
)  # fmt: skip
