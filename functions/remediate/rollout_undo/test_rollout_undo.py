"""`rollout-undo` over recorded cases: field by field, and never what a rollback may not touch."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from quietpager.actions.plan import rehearse
from quietpager.actions.schema import load_action
from quietpager.errors import Refused
from quietpager.functions.remediate.rollout_undo.plan import plan
from quietpager.model.finding import Remedy
from quietpager.model.incident import Edit, Rehearsal
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


def rehearsed(objects: Objects) -> Rehearsal:
    asked = Rehearsal(
        id="r", incident="i", remedy=Remedy(action="rollout-undo"), owner=objects.live.target,
        asked_at=datetime(2026, 11, 25, tzinfo=UTC),
    )  # fmt: skip
    return rehearse(
        asked, ACTION, plan, objects.live, opt_in_label="on", ignore_annotation="off", dry_run=None
    )


def test_image_amounts_and_probes_go_back_value_by_value(bad_tag: Objects) -> None:
    then = bad_tag.earlier()["spec"]["containers"][0]
    then["resources"]["limits"]["memory"] = "128Mi"
    then["readinessProbe"]["periodSeconds"] = 7
    done = rehearsed(bad_tag)
    assert (done.state, done.beyond) == ("rehearsed", ())
    edits = {e.path.partition("/0/")[2]: (e.had, e.gets) for e in done.edits}
    assert edits == {
        "image": ("registry.example.com/good/app:missing", "registry.example.com/good/app:1"),
        "resources/limits/memory": ("64Mi", "128Mi"),
        "readinessProbe/periodSeconds": (1, 7),
    }
    assert done.facts is not None
    assert done.facts.outside_may_change == ()


CHANGES = {
    "another repository": lambda t: t["spec"]["containers"][0].update(
        image="registry.example.com/evil/app:1"
    ),
    "command": lambda t: t["spec"]["containers"][0].update(command=["other"]),
    "args": lambda t: t["spec"]["containers"][0].update(args=["--old"]),
    "env": lambda t: t["spec"]["containers"][0].update(env=[{"name": "A", "value": "1"}]),
    "five times the memory": lambda t: t["spec"]["containers"][0].update(
        resources={"limits": {"memory": "320Mi"}, "requests": {"cpu": "10m", "memory": "16Mi"}}
    ),
    "a limit less": lambda t: t["spec"]["containers"][0].update(
        resources={"requests": {"cpu": "10m", "memory": "16Mi"}}
    ),
    "a probe's headers": lambda t: t["spec"]["containers"][0]["readinessProbe"]["httpGet"].update(
        httpHeaders=[{"name": "Authorization", "value": "x"}]
    ),
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


NAMED = {
    "another repository": "web.image", "command": "web.command", "args": "web.args", "env": "web.env",
    "five times the memory": "web.resources.limits.memory", "a limit less": "web.resources.limits.memory",
    "a probe's headers": "web.readinessProbe.httpGet.httpHeaders",
    "security of the pod": "spec.template.spec.securityContext",
    "security of a container": "web.securityContext", "account": "spec.template.spec.serviceAccountName",
    "volumes": "spec.template.spec.volumes", "mounts": "web.volumeMounts", "envFrom": "web.envFrom",
    "host network": "spec.template.spec.hostNetwork", "a container more": "spec.template.spec.containers",
    "another name": "spec.template.spec.containers",
    "an init container": "spec.template.spec.initContainers", "labels": "spec.template.metadata",
}  # fmt: skip


BOTH_WAYS = [(what, earlier) for what in CHANGES for earlier in (True, False)]
BOTH_WAYS.remove(("a probe's headers", False))  # a rollback may take headers away


@pytest.mark.parametrize(("what", "earlier"), BOTH_WAYS)
def test_a_revision_that_differs_in_anything_else_is_refused_by_name_and_kept_to_be_proposed(
    bad_tag: Objects, what: str, earlier: bool
) -> None:
    CHANGES[what](bad_tag.earlier() if earlier else bad_tag.deployment["spec"]["template"])
    done = rehearsed(bad_tag)
    assert (done.state, done.facts) == ("refused", None)
    assert NAMED[what] in done.beyond
    assert NAMED[what] in (done.refusal or "")
    assert done.edits
    assert "roll Deployment team-43/web back to revision 1" in done.summary


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
