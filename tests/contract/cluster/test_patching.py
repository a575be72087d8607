"""What a patch changes, refuses and counts: JSON Patch, merge patch, status, dry run."""

# ruff: noqa: ARG001 (a fixture is often asked for what it does)

import threading
import uuid

import pytest

from quietpager.model.cluster import Cluster, Rejected
from tests.contract.cluster.support import LIMIT, Json, at_rest, merge, patch, quota, read, refused, until

CONTRACT = "cluster"


# JSON Patch


def test_a_patch_whose_tests_hold_is_applied(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = patch(
        cluster,
        namespace,
        {"op": "test", "path": "/metadata/uid", "value": web["metadata"]["uid"]},
        {"op": "test", "path": "/metadata/generation", "value": web["metadata"]["generation"]},
        {"op": "test", "path": LIMIT, "value": "32Mi"},
        {"op": "replace", "path": LIMIT, "value": "64Mi"},
    )
    assert answer["metadata"]["generation"] == web["metadata"]["generation"] + 1
    limits = answer["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"memory": "64Mi"}


@pytest.mark.parametrize(
    "test",
    [
        {"path": "/metadata/uid", "value": "another"},
        {"path": "/metadata/generation", "value": 1000},
        {"path": LIMIT, "value": "31Mi"},
        {"path": "/spec/replicas", "value": False},  # which Python calls equal to 0
        {"path": "/spec/nothing/here", "value": 1},
    ],
)
def test_a_test_that_fails_is_422_and_changes_nothing(
    cluster: Cluster, namespace: str, web: Json, test: Json
) -> None:
    with refused(422, "Invalid") as caught:
        patch(
            cluster,
            namespace,
            {"op": "replace", "path": LIMIT, "value": "64Mi"},
            {"op": "test", **test},
        )
    text = "the server rejected our request due to an error in our request"
    assert caught.value.message == text
    assert read(cluster, "Deployment", namespace)["spec"] == web["spec"]


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/spec/nothing/here", "value": 1},
        {"op": "remove", "path": "/metadata/labels/none"},
        {"op": "add", "path": "/spec/template/spec/containers/7", "value": {}},
    ],
)
def test_a_path_that_leads_nowhere_is_422(
    cluster: Cluster, namespace: str, web: Json, operation: Json
) -> None:
    with refused(422, "Invalid"):
        patch(cluster, namespace, operation)


def test_keys_with_slashes_are_escaped(cluster: Cluster, namespace: str, web: Json) -> None:
    path = "/metadata/annotations/quietpager.dev~1intent"
    answer = patch(cluster, namespace, {"op": "add", "path": path, "value": "i-1"})
    assert answer["metadata"]["annotations"]["quietpager.dev/intent"] == "i-1"


def test_a_patch_of_what_is_gone_is_404(cluster: Cluster, namespace: str) -> None:
    with refused(404, "NotFound"):
        patch(cluster, namespace, {"op": "remove", "path": "/spec"})


@pytest.mark.parametrize(
    "test",
    [
        {"path": "/spec/replicas", "value": 0.0},  # compared as text, against RFC 6902
        {"path": "/spec/replicas", "value": "0"},
        {"path": "/metadata/labels/none", "value": "x"},
        {"path": "/spec/nothing/here", "value": None},
    ],
)
def test_what_is_not_the_same_text_is_not_the_same(
    cluster: Cluster, namespace: str, web: Json, test: Json
) -> None:
    with refused(422, "Invalid"):
        patch(cluster, namespace, {"op": "test", **test}, dry_run=True)


def test_what_is_not_there_is_null(cluster: Cluster, namespace: str, web: Json) -> None:
    patch(cluster, namespace, {"op": "test", "path": "/metadata/labels/none", "value": None})


def test_a_default_can_be_tested_for(cluster: Cluster, namespace: str, web: Json) -> None:
    patch(cluster, namespace, {"op": "test", "path": "/spec/strategy/type", "value": "RollingUpdate"})


def test_replace_adds_a_key_that_is_not_there(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = patch(cluster, namespace, {"op": "replace", "path": "/metadata/labels/none", "value": "1"})
    assert answer["metadata"]["labels"]["none"] == "1"


def test_replace_finds_no_item_that_is_not_there(cluster: Cluster, namespace: str, web: Json) -> None:
    path = "/spec/template/spec/containers/7"
    with refused(422, "Invalid"):
        patch(cluster, namespace, {"op": "replace", "path": path, "value": {}})


def test_a_mark_needs_annotations_to_stand_among(cluster: Cluster, namespace: str) -> None:
    cluster.create("ResourceQuota", quota(namespace, "web", pods="1"))
    path, mark = "/metadata/annotations", {"quietpager.dev/intent": "i-1"}
    deep = {"op": "add", "path": f"{path}/quietpager.dev~1intent", "value": "i-1"}
    with refused(422, "Invalid"):
        cluster.json_patch("ResourceQuota", namespace, "web", [deep])
    answer = cluster.json_patch(
        "ResourceQuota", namespace, "web", [{"op": "add", "path": path, "value": mark}]
    )
    assert answer["metadata"]["annotations"] == mark
    last = {"op": "remove", "path": f"{path}/quietpager.dev~1intent"}
    answer = cluster.json_patch("ResourceQuota", namespace, "web", [last])
    assert "annotations" not in answer["metadata"]


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": "/spec/nonsense", "value": 1},
        {"op": "add", "path": "/spec/template/spec/containers/0/resources/limit", "value": {"memory": "1Gi"}},
        {"op": "add", "path": "spec/replicas", "value": 5},  # without its first slash: /replicas
    ],
)
def test_a_misspelt_path_is_taken_and_changes_nothing(
    cluster: Cluster, namespace: str, web: Json, operation: Json
) -> None:
    answer = patch(cluster, namespace, operation)
    assert answer["spec"] == web["spec"]
    assert answer["metadata"]["generation"] == web["metadata"]["generation"]
    assert answer["metadata"]["resourceVersion"] == web["metadata"]["resourceVersion"]


CONTAINER = "spec.template.spec.containers[0]"


@pytest.mark.parametrize(
    ("operation", "sentence"),
    [
        (
            {"path": "/spec/replicas", "value": -1},
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            {"path": LIMIT, "value": "8Mi"},
            (
                f'{CONTAINER}.resources.requests: Invalid value: "16Mi": '
                "must be less than or equal to memory limit of 8Mi"
            ),
        ),
        (
            {"path": LIMIT, "value": "-1Mi"},
            (
                f'[{CONTAINER}.resources.limits[memory]: Invalid value: "-1Mi": must be greater than or '
                f'equal to 0, {CONTAINER}.resources.requests: Invalid value: "16Mi": '
                "must be less than or equal to memory limit of -1Mi]"
            ),
        ),
        (
            {"path": "/spec/template/spec/containers/0/image", "value": ""},
            f"{CONTAINER}.image: Required value",
        ),
        (
            {"path": "/spec/template/spec/containers", "value": []},
            "spec.template.spec.containers: Required value",
        ),
        (
            {"path": "/spec/template/spec/restartPolicy", "value": "Never"},
            'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
        ),
        (
            {"path": "/spec/template/spec/containers/0/imagePullPolicy", "value": "Sometimes"},
            (
                f'{CONTAINER}.imagePullPolicy: Unsupported value: "Sometimes": '
                'supported values: "Always", "IfNotPresent", "Never"'
            ),
        ),
        (
            {"path": "/spec/template/metadata/labels", "value": {"app": "other"}},
            (
                'spec.template.metadata.labels: Invalid value: {"app":"other"}: '
                "`selector` does not match template `labels`"
            ),
        ),
        (
            {
                "op": "add",
                "path": "/spec/template/spec/containers/-",
                "value": {"name": "web", "image": "x:1"},
            },
            'spec.template.spec.containers[1].name: Duplicate value: "web"',
        ),
        (
            {"op": "add", "path": "/metadata/labels/x y", "value": "1"},
            (
                'metadata.labels: Invalid value: "x y": name part must consist of alphanumeric characters, '
                "'-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or "
                "'my.name',  or '123-abc', regex used for validation is "
                "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ),
        ),
        (
            {"op": "add", "path": "/metadata/labels/x", "value": "a b"},
            (
                'metadata.labels: Invalid value: "a b": a valid label must be an empty string or consist of '
                "alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
                "character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
                "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            ),
        ),
    ],
)
def test_a_change_that_is_refused_says_why(
    cluster: Cluster, namespace: str, web: Json, operation: Json, sentence: str
) -> None:
    with refused(422, "Invalid") as caught:
        patch(cluster, namespace, {"op": "replace"} | operation)
    assert caught.value.message == f'Deployment.apps "web" is invalid: {sentence}'


@pytest.mark.parametrize(
    ("operation", "sentence"),
    [
        (
            {"path": "/spec/replicas", "value": "two"},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"path": "/spec/replicas", "value": 1.5},
            (
                "json: cannot unmarshal number 1.5 into Go struct field "
                "DeploymentSpec.spec.replicas of type int32"
            ),
        ),
        ({"path": LIMIT, "value": "much"}, "quantities must match the regular expression"),
        ({"path": "/metadata/annotations/a", "value": 1}, "cannot unmarshal"),
        ({"path": "/metadata/labels/a", "value": 1}, "cannot unmarshal"),
        ({"path": "/kind", "value": "Pod"}, ""),
    ],
)
def test_a_change_that_cannot_be_read_names_no_object(
    cluster: Cluster, namespace: str, web: Json, operation: Json, sentence: str
) -> None:
    with refused(422, "Invalid") as caught:
        patch(cluster, namespace, {"op": "add"} | operation)
    assert caught.value.message.startswith(' "" is invalid: patch: Invalid value: "{')
    assert sentence in caught.value.message


@pytest.mark.parametrize("path", ["/metadata/name", "/metadata/namespace"])
def test_nothing_is_renamed(cluster: Cluster, namespace: str, web: Json, path: str) -> None:
    with refused(400, "BadRequest"):
        patch(cluster, namespace, {"op": "replace", "path": path, "value": "other"})


def test_the_servers_own_fields_cannot_be_set(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = patch(
        cluster,
        namespace,
        {"op": "replace", "path": "/metadata/generation", "value": 77},
        {"op": "replace", "path": "/metadata/creationTimestamp", "value": "2020-01-01T00:00:00Z"},
    )
    for key in ("generation", "creationTimestamp", "resourceVersion"):
        assert answer["metadata"][key] == web["metadata"][key]


# Merge patch


def test_null_removes(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = merge(cluster, namespace, {"metadata": {"labels": {"app": None, "new": "1"}}})
    assert answer["metadata"]["labels"] == {"new": "1"}


def test_a_stale_version_is_a_conflict(cluster: Cluster, namespace: str, web: Json) -> None:
    merge(cluster, namespace, {"metadata": {"labels": {"new": "1"}}})
    stale = {"metadata": {"resourceVersion": web["metadata"]["resourceVersion"], "labels": {}}}
    with refused(409, "Conflict"):
        merge(cluster, namespace, stale)


def test_a_current_version_is_none(cluster: Cluster, namespace: str, web: Json) -> None:
    version = read(cluster, "Deployment", namespace)["metadata"]["resourceVersion"]
    change = {"metadata": {"resourceVersion": version, "labels": {"new": "1"}}}
    assert merge(cluster, namespace, change)["metadata"]["labels"]["new"] == "1"


def test_another_uid_is_invalid(cluster: Cluster, namespace: str, web: Json) -> None:
    with refused(422, "Invalid"):
        merge(cluster, namespace, {"metadata": {"uid": str(uuid.uuid4())}})


def test_the_selector_is_immutable(cluster: Cluster, namespace: str, web: Json) -> None:
    labels = {"app": "web", "more": "x"}
    change = {
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}},
        }
    }
    with refused(422, "Invalid"):
        merge(cluster, namespace, change)


def test_a_conflict_says_what_to_do(cluster: Cluster, namespace: str, web: Json) -> None:
    with refused(409, "Conflict") as caught:
        merge(cluster, namespace, {"metadata": {"resourceVersion": "1", "labels": {"a": "b"}}})
    assert caught.value.message == (
        'Operation cannot be fulfilled on deployments.apps "web": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


def test_the_selectors_refusal_shows_the_new_one(cluster: Cluster, namespace: str, web: Json) -> None:
    labels = {"app": "web", "more": "x"}
    change = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}
    with refused(422, "Invalid") as caught:
        merge(cluster, namespace, {"spec": change})
    assert caught.value.message == (
        'Deployment.apps "web" is invalid: spec.selector: Invalid value: '
        '{"matchLabels":{"app":"web","more":"x"}}: field is immutable'
    )


# Quantities


@pytest.mark.parametrize("limit", ["8Mi", "-1Mi"])
def test_a_limit_below_the_request_is_invalid(
    cluster: Cluster, namespace: str, web: Json, limit: str
) -> None:
    with refused(422, "Invalid"):
        patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": limit})


def test_what_is_no_quantity_is_refused(cluster: Cluster, namespace: str, web: Json) -> None:
    with pytest.raises(Rejected) as caught:
        patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": "much"})
    assert caught.value.code in {400, 422}


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("65536Ki", "64Mi"),
        ("0.5Gi", "512Mi"),
        ("1024Mi", "1Gi"),
        (5000000000, "5G"),
        ("100000.5k", "100000500"),
        ("1536Mi", "1536Mi"),
        ("100M", "100M"),
        ("64Mi", "64Mi"),
    ],
)
def test_a_quantity_is_stored_in_its_shortest_form(
    cluster: Cluster, namespace: str, web: Json, written: str | int, stored: str
) -> None:
    operation = {"op": "replace", "path": LIMIT, "value": written}
    container = patch(cluster, namespace, operation)["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["memory"] == stored
    # So an undo has to test for this text, not for what was written.
    patch(cluster, namespace, {"op": "test", "path": LIMIT, "value": stored}, dry_run=True)


# Generations and versions


def test_a_label_does_not_count(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = patch(cluster, namespace, {"op": "add", "path": "/metadata/labels/x", "value": "1"})
    assert answer["metadata"]["generation"] == web["metadata"]["generation"]
    assert answer["metadata"]["resourceVersion"] != web["metadata"]["resourceVersion"]


def test_an_annotation_on_a_deployment_counts(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = merge(cluster, namespace, {"metadata": {"annotations": {"a": "b"}}})
    assert answer["metadata"]["generation"] == web["metadata"]["generation"] + 1


def test_status_churn_does_not_count(cluster: Cluster, namespace: str, web: Json) -> None:
    change = {"status": {"observedGeneration": 1, "replicas": 0, "terminatingReplicas": 3}}
    answer = merge(cluster, namespace, change, subresource="status")
    assert answer["metadata"]["generation"] == web["metadata"]["generation"]


def test_nothing_changed_is_no_version(cluster: Cluster, namespace: str, web: Json) -> None:
    before = read(cluster, "Deployment", namespace)["metadata"]["resourceVersion"]
    answer = patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": "32Mi"})
    assert answer["metadata"]["resourceVersion"] == before


def test_a_change_of_the_template_counts(cluster: Cluster, namespace: str, web: Json) -> None:
    change = {"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}}
    assert merge(cluster, namespace, change)["metadata"]["generation"] == web["metadata"]["generation"] + 1


def test_a_dry_patch_tells_the_generation_that_would_be(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": "64Mi"}, dry_run=True)
    assert answer["metadata"]["generation"] == web["metadata"]["generation"] + 1
    assert answer["metadata"]["resourceVersion"] == web["metadata"]["resourceVersion"]


def test_an_annotation_on_a_replica_set_does_not_count(cluster: Cluster, namespace: str, web: Json) -> None:
    [one] = cluster.list("ReplicaSet", namespace)
    change = {"metadata": {"annotations": {"a": "b"}}}
    answer = cluster.merge_patch("ReplicaSet", namespace, one["metadata"]["name"], change)
    assert answer["metadata"]["generation"] == one["metadata"]["generation"] == 1


def test_its_controller_says_which_generation_it_has_seen(
    cluster: Cluster, namespace: str, web: Json
) -> None:
    merge(cluster, namespace, {"metadata": {"annotations": {"a": "b"}}})
    again = until(lambda: at_rest(cluster, namespace), "the controller to see the new generation")
    assert again["status"]["observedGeneration"] == again["metadata"]["generation"] == 2
    [one] = cluster.list("ReplicaSet", namespace)
    assert "a" in until(
        lambda: (m := cluster.list("ReplicaSet", namespace)[0]["metadata"]["annotations"]).get("a") and m,
        "the controller to copy the annotation",
    )
    assert one["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"


# Status


def test_the_main_path_ignores_the_status(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = merge(cluster, namespace, {"status": {"replicas": 77}})
    assert answer["status"].get("replicas") != 77


def test_the_status_path_ignores_the_spec(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = merge(cluster, namespace, {"spec": {"replicas": 7}}, subresource="status")
    assert answer["spec"]["replicas"] == 0


# Dry run


def test_a_dry_patch_answers_in_full_and_stores_nothing(cluster: Cluster, namespace: str, web: Json) -> None:
    start = cluster.listing("Deployment", namespace)
    answer = patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": "64Mi"}, dry_run=True)
    container = answer["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"memory": "64Mi"}
    now = read(cluster, "Deployment", namespace)
    assert now["spec"] == web["spec"]
    assert now["metadata"]["generation"] == web["metadata"]["generation"]
    assert list(cluster.watch("Deployment", namespace, start, 1)) == []


def test_a_dry_patch_is_checked(cluster: Cluster, namespace: str, web: Json) -> None:
    with refused(422, "Invalid"):
        patch(cluster, namespace, {"op": "test", "path": LIMIT, "value": "1Mi"}, dry_run=True)
    with refused(422, "Invalid"):
        patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": "1Mi"}, dry_run=True)


# At the same time


def test_of_many_writers_with_one_precondition_one_wins(cluster: Cluster, namespace: str, web: Json) -> None:
    won: list[str] = []
    lost: list[int] = []

    def write(size: str) -> None:
        pin = {"op": "test", "path": "/metadata/generation", "value": web["metadata"]["generation"]}
        try:
            patch(cluster, namespace, pin, {"op": "replace", "path": LIMIT, "value": size})
            won.append(size)
        except Rejected as no:
            lost.append(no.code)

    writers = [threading.Thread(target=write, args=(f"{64 + n}Mi",)) for n in range(12)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(won) == 1
    assert lost == [422] * 11
