"""Kubernetes quantities (apimachinery `resource.Quantity`): 64Mi, 500m, 1e3."""

import re
from decimal import Decimal
from typing import Final

_QUANTITY = re.compile(
    r"([+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+)([eE][+-]?[0-9]{1,3}|[KMGTPE]i|[numkMGTPE]?)"
)
_SUFFIX: Final = {
    "": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": Decimal("1e3"), "M": Decimal("1e6"), "G": Decimal("1e9"), "T": Decimal("1e12"),
    "P": Decimal("1e15"), "E": Decimal("1e18"),
    "Ki": Decimal(1 << 10), "Mi": Decimal(1 << 20), "Gi": Decimal(1 << 30),
    "Ti": Decimal(1 << 40), "Pi": Decimal(1 << 50), "Ei": Decimal(1 << 60),
}  # fmt: skip


def quantity(text: str | float) -> Decimal:
    """Read a quantity in its base unit (bytes, cores). Raises ValueError with a sentence."""
    match = _QUANTITY.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"{str(text)[:40]!r} is not a Kubernetes quantity such as 64Mi or 500m")
    number, suffix = match.groups()
    scale = _SUFFIX.get(suffix)
    return Decimal(number) * scale if scale is not None else Decimal(number + suffix)


def memory_text(size: Decimal) -> str:
    """Write bytes as a quantity, as the API server gives it back: the largest unit that is exact."""
    whole = int(size)
    for suffix in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki", "E", "P", "T", "G", "M", "k"):
        unit = int(_SUFFIX[suffix])
        if whole and whole % unit == 0:
            return f"{whole // unit}{suffix}"
    return str(whole)
