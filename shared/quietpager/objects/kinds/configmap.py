"""ConfigMap: of one that pods refer to, its metadata is read and never what it holds."""

from quietpager.objects.kind import ObjectKind, Resource


class ConfigMapKind(ObjectKind):
    """Never a target."""

    resource = Resource("ConfigMap", "configmaps", has_status=False)
    target = False


KIND = ConfigMapKind()
