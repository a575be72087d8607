"""What is created, filled in and refused; Events."""

# ruff: noqa: ARG001 (a fixture is often asked for what it does)

import pytest

from quietpager.model.cluster import Cluster
from tests.contract.cluster.support import Json, deployment, event, refused

CONTRACT = "cluster"


# Creating


def test_the_server_names_and_numbers_what_is_created(cluster: Cluster, namespace: str, web: Json) -> None:
    metadata = web["metadata"]
    assert metadata["uid"]
    assert metadata["creationTimestamp"]
    assert metadata["generation"] == 1
    assert int(metadata["resourceVersion"]) > 0


def test_a_name_can_be_generated(cluster: Cluster, namespace: str) -> None:
    body = deployment(namespace)
    body["metadata"] = {"generateName": "web-", "namespace": namespace}
    names = {cluster.create("Deployment", body)["metadata"]["name"] for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("web-") and len(name) == 9 for name in names)


def test_a_name_is_given_once(cluster: Cluster, namespace: str, web: Json) -> None:
    with refused(409, "AlreadyExists"):
        cluster.create("Deployment", deployment(namespace))


def test_a_bad_name_is_invalid(cluster: Cluster, namespace: str) -> None:
    body = deployment(namespace)
    body["metadata"]["name"] = "Not_A_Name"
    with refused(422, "Invalid"):
        cluster.create("Deployment", body)


def test_a_namespace_must_exist(cluster: Cluster) -> None:
    with refused(404, "NotFound"):
        cluster.create("Deployment", deployment("nowhere-at-all"))


def test_a_dry_create_answers_and_stores_nothing(cluster: Cluster, namespace: str) -> None:
    answer = cluster.create("Deployment", deployment(namespace), dry_run=True)
    assert answer["metadata"]["uid"]
    assert cluster.get("Deployment", namespace, "web") is None


def test_defaults_are_filled_in(cluster: Cluster, namespace: str, web: Json) -> None:
    assert web["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
    assert web["spec"]["revisionHistoryLimit"] == 10


def test_a_template_is_filled_in_to_the_last_field(cluster: Cluster, namespace: str, web: Json) -> None:
    assert web["spec"] == {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": "localhost/busybox:1",
                        "command": ["sleep", "1000"],
                        "resources": {"requests": {"memory": "16Mi"}, "limits": {"memory": "32Mi"}},
                        "terminationMessagePath": "/dev/termination-log",
                        "terminationMessagePolicy": "File",
                        "imagePullPolicy": "IfNotPresent",
                    }
                ],
                "restartPolicy": "Always",
                "terminationGracePeriodSeconds": 30,
                "dnsPolicy": "ClusterFirst",
                "securityContext": {},
                "schedulerName": "default-scheduler",
            },
        },
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
        },
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    }


def test_a_new_deployment_has_no_annotations_and_no_status(cluster: Cluster, namespace: str) -> None:
    made = cluster.create("Deployment", deployment(namespace))
    assert "annotations" not in made["metadata"]
    assert made["status"] == {}


def test_fields_that_no_kind_has_are_forgotten(cluster: Cluster, namespace: str) -> None:
    body = deployment(namespace)
    body["spec"]["nonsense"] = 1
    body["spec"]["template"]["spec"]["containers"][0]["resources"]["limit"] = {"memory": "1Gi"}
    made = cluster.create("Deployment", body, dry_run=True)
    assert "nonsense" not in made["spec"]
    assert made["spec"]["template"]["spec"]["containers"][0]["resources"].keys() == {"limits", "requests"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"replicas": -3}, "spec.replicas: Invalid value: -3: must be greater than or equal to 0"),
        (
            {"selector": None},
            (
                "[spec.selector: Required value, spec.template.metadata.labels: Invalid value: "
                '{"app":"web"}: `selector` does not match template `labels`]'
            ),
        ),
        (
            {"selector": {"matchLabels": {"app": "other"}}},
            (
                'spec.template.metadata.labels: Invalid value: {"app":"web"}: '
                "`selector` does not match template `labels`"
            ),
        ),
    ],
)
def test_a_create_that_is_refused_says_why(
    cluster: Cluster, namespace: str, changes: Json, sentence: str
) -> None:
    body = deployment(namespace)
    body["spec"] |= changes
    with refused(422, "Invalid") as caught:
        cluster.create("Deployment", body)
    assert caught.value.message == f'Deployment.apps "web" is invalid: {sentence}'


def test_another_kind_is_a_bad_request(cluster: Cluster, namespace: str) -> None:
    with refused(400, "BadRequest") as caught:
        cluster.create("Deployment", {"kind": "Pod", "apiVersion": "v1"} | deployment(namespace))
    assert caught.value.message == (
        'Pod in version "v1" cannot be handled as a Deployment: '
        "converting (v1.Pod) to (apps.Deployment): unknown conversion"
    )


def test_a_create_that_cannot_be_read_is_a_bad_request(cluster: Cluster, namespace: str) -> None:
    body = deployment(namespace)
    body["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] = "much"
    with refused(400, "BadRequest") as caught:
        cluster.create("Deployment", body)
    assert "quantities must match the regular expression" in caught.value.message


# Events


def test_an_event_can_be_posted_by_anybody(cluster: Cluster, namespace: str) -> None:
    assert cluster.create("Event", event(namespace, namespace))["reason"] == "BackOff"


def test_an_event_about_another_namespace_is_invalid(cluster: Cluster, namespace: str) -> None:
    with refused(422, "Invalid"):
        cluster.create("Event", event(namespace, "default"))


def test_an_event_about_a_node_stands_in_default(cluster: Cluster, namespace: str) -> None:
    about = {"involvedObject": {"kind": "Node", "name": "n"}}
    with refused(422, "Invalid"):
        cluster.create("Event", event(namespace, namespace) | about)
    body = event("default", "default") | about
    body["metadata"] = {"generateName": "contract-", "namespace": "default"}
    cluster.create("Event", body, dry_run=True)


def test_an_events_times_are_null_where_nobody_gave_them(cluster: Cluster, namespace: str) -> None:
    made = cluster.create("Event", event(namespace, namespace))
    assert (made["eventTime"], made["firstTimestamp"], made["lastTimestamp"]) == (None, None, None)
    assert (made["source"], made["reportingComponent"], made["reportingInstance"]) == ({}, "", "")
    assert "count" not in made
    assert [one | {"metadata": {}} for one in cluster.list("Event", namespace)] == [made | {"metadata": {}}]


def test_a_repeat_raises_the_count_and_is_a_change(cluster: Cluster, namespace: str) -> None:
    first = event(namespace, namespace) | {"count": 1, "firstTimestamp": "2026-01-01T00:00:00Z"}
    version = cluster.create("Event", first)["metadata"]["resourceVersion"]
    again = {"count": 2, "lastTimestamp": "2026-01-01T00:00:07Z"}
    cluster.merge_patch("Event", namespace, "note.1", again)
    heard = next(iter(cluster.watch("Event", namespace, version, 10)))
    assert (heard.type, heard.object["count"]) == ("MODIFIED", 2)
    assert heard.object["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert heard.object["lastTimestamp"] == "2026-01-01T00:00:07Z"
    assert "generation" not in heard.object["metadata"]


def test_an_event_of_the_newer_kind_says_who_did_what(cluster: Cluster, namespace: str) -> None:
    newer = event(namespace, namespace) | {"eventTime": "2026-01-01T00:00:00.000000Z"}
    with refused(422, "Invalid") as caught:
        cluster.create("Event", newer)
    assert "reportingComponent: Required value" in caught.value.message
    who = {"reportingComponent": "example.com/c", "reportingInstance": "c-1", "action": "Binding"}
    made = cluster.create("Event", newer | who)
    assert (made["eventTime"], made["firstTimestamp"]) == ("2026-01-01T00:00:00.000000Z", None)


def test_a_time_that_is_none_is_a_bad_request(cluster: Cluster, namespace: str) -> None:
    with refused(400, "BadRequest"):
        cluster.create("Event", event(namespace, namespace) | {"eventTime": "yesterday"})
