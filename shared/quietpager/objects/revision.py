"""What a rollout has to do with it: facts about the newest and the earlier revisions of a workload."""

from typing import Final

from quietpager.model.finding import Evidence
from quietpager.objects.health import pod_fault
from quietpager.objects.kind import Revision
from quietpager.objects.live import Live
from quietpager.objects.types import Pod

NEW_REVISION: Final = "started_with_new_revision"
PREVIOUS_WELL: Final = "previous_revision_healthy"
INJECTED: Final = "container_injected"
FACTS: Final = frozenset({NEW_REVISION, PREVIOUS_WELL, INJECTED})
"""The facts that `revision_facts` names; a rule's `when:` may use them whatever its detector adds."""


def revision_facts(live: Live, container: str | None = None) -> tuple[frozenset[str], tuple[Evidence, ...]]:
    """Name the facts a rule's `when:` may use, with their evidence.

    `started_with_new_revision`: only pods of the newest revision fail. `previous_revision_healthy`:
    an earlier revision still has pods and all of them are well; one without pods proves nothing.
    `container_injected`: the failing container is none of the template's. Then nothing is said of revisions,
    for no revision brought it and none takes it away.

    Args:
        live: the target.
        container: which of the target's containers fails; None where no single one does.
    """
    if container is not None and container in live.injected:
        text = f"{container} is not in the template of {live.owner}: something injects it into its pods"
        return frozenset({INJECTED}), (Evidence(text=text, source=f"template of {live.owner}"),)
    every = live.revisions
    if len(every) < 2:
        return frozenset(), ()
    newest, older = every[0], every[1:]
    facts: set[str] = set()
    evidence: list[Evidence] = []
    old_pods = [pod for one in older for pod in _pods(live, one)]
    if not any(pod_fault(pod, None) for pod in old_pods):
        facts.add(NEW_REVISION)
    if old_pods and all(_well(pod) for pod in old_pods):
        facts.add(PREVIOUS_WELL)
        evidence.append(
            Evidence(
                text=f"revision {newest.number} fails, {len(old_pods)} pods of an earlier one are well",
                source=f"{newest.ref.kind}s of {live.owner}",
            )
        )
    return frozenset(facts), tuple(evidence)


def healthy_earlier(live: Live) -> Revision | None:
    """Find the newest earlier revision that still has pods, all of them well."""
    for one in live.revisions[1:]:
        pods = _pods(live, one)
        if pods and all(_well(pod) for pod in pods):
            return one
    return None


def _well(pod: Pod) -> bool:
    return pod_fault(pod, None) is None and pod.ready


def _pods(live: Live, one: Revision) -> list[Pod]:
    return [pod for pod in live.pods_of(one) if not pod.leaving]
