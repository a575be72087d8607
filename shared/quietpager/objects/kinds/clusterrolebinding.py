"""ClusterRoleBinding: what `quietpager resume` makes and `quietpager stop` deletes."""

from quietpager.objects.kind import ObjectKind, Resource


class ClusterRoleBindingKind(ObjectKind):
    """Never a target."""

    resource = Resource(
        "ClusterRoleBinding", "clusterrolebindings", "rbac.authorization.k8s.io", namespaced=False,
        has_status=False, in_view=False,
    )  # fmt: skip
    target = False


KIND = ClusterRoleBindingKind()
