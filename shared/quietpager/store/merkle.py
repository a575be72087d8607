"""One hash over many: a Merkle tree, as RFC 6962 (section 2.1) builds it, over the heads of all chains.

Who calls it: `store.anchor` and `store.export`. Pure. A leaf is hashed behind the byte 0 and an inner node
behind the byte 1, so that no inner node can be passed off as a leaf (a second preimage).
"""

from collections.abc import Sequence
from hashlib import sha256


def root_of(leaves: Sequence[bytes]) -> str:
    """Compute the root in hex; of no leaf at all it is the hash of nothing, as the RFC has it."""
    return _tree(leaves).hex()


def _tree(leaves: Sequence[bytes]) -> bytes:
    if not leaves:
        return sha256(b"").digest()
    level = [sha256(b"\x00" + leaf).digest() for leaf in leaves]
    while len(level) > 1:
        # Pairs from the left; a last one without a partner moves up as it is. That is the RFC's tree, whose
        # left side holds the largest power of two that is smaller than the whole.
        pairs = [sha256(b"\x01" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs if len(level) % 2 == 0 else [*pairs, level[-1]]
    return level[0]
