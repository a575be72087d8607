"""Who owns an object is read from its marks, never from one that everybody sets."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietpager.incident.ownership import owner_of
from quietpager.incident.policy import Ownership

IMAGE = ("/spec/template/spec/containers/0/image",)
MEMORY = ("/spec/template/spec/containers/0/resources/limits/memory",)
REPLICAS = ("/spec/replicas",)
SCALE = {
    "manager": "kube-controller-manager",
    "subresource": "scale",
    "fieldsV1": {"f:spec": {"f:replicas": {}}},
}


def thing(**meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "shop", **meta}}


def owned(paths: tuple[str, ...] = IMAGE, pods: tuple[dict[str, str], ...] = (), **meta: Any) -> str:
    return str(owner_of(thing(**meta), paths, pods))


INSTANCE = {"app.kubernetes.io/instance": "shop"}


@pytest.mark.parametrize(
    ("meta", "owner"),
    [
        (
            {"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/web"}},
            "Argo CD (shop)",
        ),
        ({"labels": {"argocd.argoproj.io/instance": "shop"}}, "Argo CD (shop)"),
        ({"labels": INSTANCE, "managedFields": [{"manager": "argocd-controller"}]}, "Argo CD (shop)"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}, "Flux (Kustomization apps)"),
        ({"labels": {"helm.toolkit.fluxcd.io/name": "web"}}, "Flux (HelmRelease web)"),
        (
            {
                "labels": {"app.kubernetes.io/managed-by": "Helm"},
                "annotations": {"meta.helm.sh/release-name": "web"},
            },
            "Helm (release web)",
        ),
        (
            {"ownerReferences": [{"kind": "Shop", "name": "web", "controller": True}]},
            "an operator (Shop web)",
        ),
    ],
)
def test_an_owner_is_known_by_its_mark(meta: dict[str, Any], owner: str) -> None:
    assert owned(**meta) == owner


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"labels": None, "annotations": None, "managedFields": None, "ownerReferences": None},
        {"labels": INSTANCE},
        {"labels": INSTANCE, "managedFields": [{"manager": "kubectl"}]},
        {"labels": {"app.kubernetes.io/managed-by": "Helm"}},
        {"annotations": {"meta.helm.sh/release-name": "web"}},
        {"ownerReferences": [{"kind": "Shop", "name": "web"}]},
        {"managedFields": [SCALE]},
    ],
)
def test_what_everybody_sets_is_no_mark(meta: dict[str, Any]) -> None:
    assert owned(**meta) == "None"


def test_an_autoscaler_owns_its_field_alone() -> None:
    assert owned(REPLICAS, managedFields=[SCALE]) == "an autoscaler (a HorizontalPodAutoscaler)"
    assert owned(REPLICAS, managedFields=[SCALE | {"manager": "keda"}]) == "an autoscaler (KEDA)"
    assert owned(REPLICAS, managedFields=[SCALE | {"subresource": ""}]) == "None"
    assert (
        owned(MEMORY, ({"vpaUpdates": "Pod resources updated"},)) == "an autoscaler (a VerticalPodAutoscaler)"
    )
    assert owned(IMAGE, ({"vpaUpdates": "Pod resources updated"},)) == "None"


def test_a_name_from_the_cluster_is_cleaned() -> None:
    assert "\x1b" not in owned(labels={"argocd.argoproj.io/instance": "\x1b[31mshop"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["labels", "annotations"]), JSON))
def test_odd_marks_never_raise(meta: dict[str, Any]) -> None:
    owner_of(thing(**meta), IMAGE)


def test_a_namespace_has_its_own_mode_and_the_default_is_careful() -> None:
    policy = Ownership(namespaces={"shop": "patch"})
    assert (policy.mode("shop"), policy.mode("other"), policy.mode(None)) == ("patch", "propose", "propose")
