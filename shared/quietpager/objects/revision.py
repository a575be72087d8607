"""What a rollout has to do with it: facts about the newest and the earlier revision of a Deployment."""

from typing import Final

from quietpager.model.finding import Evidence
from quietpager.objects.health import pod_fault
from quietpager.objects.live import Live
from quietpager.objects.types import Pod, ReplicaSet

NEW_REVISION: Final = "started_with_new_revision"
PREVIOUS_WELL: Final = "previous_revision_healthy"
FACTS: Final = frozenset({NEW_REVISION, PREVIOUS_WELL})
"""The facts that `revision_facts` names; a rule's `when:` may use them whatever its detector adds."""


def revision_facts(live: Live) -> tuple[frozenset[str], tuple[Evidence, ...]]:
    """Name the facts a rule's `when:` may use, with their evidence.

    `started_with_new_revision`: only pods of the newest revision fail. `previous_revision_healthy`:
    an earlier revision still has pods and all of them are well; one without pods proves nothing.
    """
    sets = live.replica_sets
    if len(sets) < 2:
        return frozenset(), ()
    newest, older = sets[0], sets[1:]
    facts: set[str] = set()
    evidence: list[Evidence] = []
    old_pods = [pod for one in older for pod in _pods(live, one)]
    if not any(pod_fault(pod, None) for pod in old_pods):
        facts.add(NEW_REVISION)
    if old_pods and all(pod_fault(pod, None) is None and pod.ready for pod in old_pods):
        facts.add(PREVIOUS_WELL)
        evidence.append(
            Evidence(
                text=f"revision {newest.revision} fails, {len(old_pods)} pods of an earlier one are well",
                source=f"ReplicaSets of {live.owner}",
            )
        )
    return frozenset(facts), tuple(evidence)


def healthy_earlier(live: Live) -> ReplicaSet | None:
    """Find the newest earlier revision that still has pods, all of them well."""
    for one in live.replica_sets[1:]:
        pods = _pods(live, one)
        if pods and all(pod_fault(pod, None) is None and pod.ready for pod in pods):
            return one
    return None


def _pods(live: Live, one: ReplicaSet) -> list[Pod]:
    return [
        pod for pod in live.pods
        if pod.metadata.controller is not None
        and pod.metadata.controller.uid == one.metadata.uid and not pod.leaving
    ]  # fmt: skip
