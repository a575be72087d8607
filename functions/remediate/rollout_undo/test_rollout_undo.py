"""`rollout-undo` over recorded cases: field by field, and never what a rollback may not touch."""

from pathlib import Path
from typing import Any

import pytest

from quietpager.actions.schema import load_action
from quietpager.errors import Refused
from quietpager.functions.remediate.rollout_undo.plan import plan
from quietpager.model.incident import Edit
from tests.cases import Changeable

HERE = Path(__file__).parent
DETECT = HERE.parents[1] / "detect"
ACTION = load_action(HERE / "action.yaml")
Json = dict[str, Any]


class Objects(Changeable):
    """A recorded case that a test may change."""

    def __init__(self, case: str) -> None:
        super().__init__(DETECT / case)

    def earlier(self) -> Json:
        """Give the pod template of the earlier revision."""
        name = "deployment.kubernetes.io/revision"
        sets = sorted(self.list("ReplicaSet"), key=lambda one: int(one["metadata"]["annotations"][name]))
        found: Json = sets[0]["spec"]["template"]
        return found

    @property
    def container(self) -> Json:
        found: Json = self.deployment["spec"]["template"]["spec"]["containers"][0]
        return found


@pytest.fixture
def bad_tag() -> Objects:
    return Objects("image/cases/32-bad-tag-new-revision")


def test_a_bad_tag_goes_back_to_the_image_before_and_nothing_else_changes(bad_tag: Objects) -> None:
    change = plan(bad_tag.live, {})
    now, then = bad_tag.container["image"], bad_tag.earlier()["spec"]["containers"][0]["image"]
    assert now != then
    assert change.edits == (Edit(path="/spec/template/spec/containers/0/image", had=now, gets=then),)
    assert ACTION.outside(tuple(e.path for e in change.edits)) == ()


def test_fields_that_were_added_or_removed_go_back_too(bad_tag: Objects) -> None:
    bad_tag.container["env"] = [{"name": "A", "value": "1"}]
    bad_tag.earlier()["spec"]["containers"][0]["args"] = ["--old"]
    edits = {e.path.rpartition("/")[2]: (e.had, e.gets) for e in plan(bad_tag.live, {}).edits}
    assert edits["env"] == ([{"name": "A", "value": "1"}], None)
    assert edits["args"] == (None, ["--old"])


CHANGES = {
    "security of the pod": lambda t: t["spec"].update(securityContext={"runAsUser": 0}),
    "security of a container": lambda t: t["spec"]["containers"][0].update(
        securityContext={"privileged": True}
    ),
    "account": lambda t: t["spec"].update(serviceAccountName="admin"),
    "volumes": lambda t: t["spec"].update(volumes=[{"name": "v", "hostPath": {"path": "/"}}]),
    "mounts": lambda t: t["spec"]["containers"][0].update(volumeMounts=[{"name": "v", "mountPath": "/v"}]),
    "envFrom": lambda t: t["spec"]["containers"][0].update(envFrom=[{"secretRef": {"name": "s"}}]),
    "host network": lambda t: t["spec"].update(hostNetwork=True),
    "a container more": lambda t: t["spec"]["containers"].append({"name": "more", "image": "x"}),
    "another name": lambda t: t["spec"]["containers"][0].update(name="other"),
    "an init container": lambda t: t["spec"].update(initContainers=[{"name": "i", "image": "x"}]),
    "labels": lambda t: t["metadata"]["labels"].update(team="b"),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("earlier", [True, False])
def test_a_revision_that_differs_in_anything_else_is_refused(
    bad_tag: Objects, what: str, earlier: bool
) -> None:
    CHANGES[what](bad_tag.earlier() if earlier else bad_tag.deployment["spec"]["template"])
    with pytest.raises(Refused, match="differs in more than"):
        plan(bad_tag.live, {})


@pytest.mark.parametrize(
    "case", ["crash/cases/03-crashloop", "crash/cases/30-oom-bounded", "image/cases/11-imagepull-missing"]
)
def test_without_an_earlier_revision_it_refuses(case: str) -> None:
    with pytest.raises(Refused, match="no earlier revision"):
        plan(Objects(case).live, {})


def test_an_earlier_revision_without_pods_proves_nothing(bad_tag: Objects) -> None:
    hash_ = bad_tag.earlier()["metadata"]["labels"]["pod-template-hash"]
    bad_tag.objects = [
        o for o in bad_tag.objects
        if o["kind"] != "Pod" or o["metadata"]["labels"]["pod-template-hash"] != hash_
    ]  # fmt: skip
    with pytest.raises(Refused, match="no earlier revision"):
        plan(bad_tag.live, {})


def test_an_earlier_revision_of_which_a_pod_is_ill_is_refused(bad_tag: Objects) -> None:
    hash_ = bad_tag.earlier()["metadata"]["labels"]["pod-template-hash"]
    pods = [p for p in bad_tag.list("Pod") if p["metadata"]["labels"]["pod-template-hash"] == hash_]
    pods[0]["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    with pytest.raises(Refused, match="no earlier revision"):
        plan(bad_tag.live, {})


def test_at_the_earlier_template_already_it_refuses(bad_tag: Objects) -> None:
    bad_tag.container["image"] = bad_tag.earlier()["spec"]["containers"][0]["image"]
    with pytest.raises(Refused, match="already"):
        plan(bad_tag.live, {})


def test_a_deployment_that_is_gone_is_refused(bad_tag: Objects) -> None:
    live = bad_tag.live
    bad_tag.objects = []
    with pytest.raises(Refused, match="gone"):
        plan(live, {})
