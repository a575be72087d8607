"""The kinds that this API server has: all of the product's own table, and Secrets."""

from typing import Final

from quietpager.objects.kind import Resource
from quietpager.objects.table import KINDS as KNOWN

KINDS: Final = {
    one.kind: one
    for one in (
        *(kind.resource for kind in KNOWN.values() if kind.resource.in_view or kind.target),
        Resource("Secret", "secrets", has_status=False),
    )
}
BY_PATH: Final = {(resource.group, resource.plural): resource for resource in KINDS.values()}
