"""Recorded cases for the tests of the function folders: judged as they promise, or changed by a test."""

from pathlib import Path

from quietpager.cli.replay import replay
from quietpager.cluster.recorded import Recorded
from quietpager.model.cluster import Json
from quietpager.model.reference import ObjectRef
from quietpager.model.yaml import read_yaml
from quietpager.objects.live import Live


def judged_as_expected(case: Path) -> Json:
    """Replay a case and hold the answer against its `expected.yaml`; gives the answer."""
    expected = read_yaml(case / "expected.yaml")
    [answer] = replay([case])
    assert answer["failure_class"] in expected["acceptable_classes"], answer
    proposed = {remedy["action"] for remedy in answer["remedies"]} | set(answer["would_act"])
    assert not proposed & set(expected["forbidden"]), answer
    assert set(expected["must_act"]) <= set(answer["would_act"]), answer
    return answer


class Changeable(Recorded):
    """A recorded case whose objects a test may change; what a planner reads of it."""

    @property
    def deployment(self) -> Json:
        """Give the case's one Deployment."""
        return self.list("Deployment")[0]

    @property
    def live(self) -> Live:
        """Look at it as a planner does."""
        meta = self.deployment["metadata"]
        return Live(
            self,
            ObjectRef(
                api_version="apps/v1", kind="Deployment", namespace=meta["namespace"],
                name=meta["name"], uid=meta["uid"],
            ),
        )  # fmt: skip
