"""One bed for all end-to-end tests: the deployed function set, allowed to write, and a spy on its broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.deploy import owner_url, store_url
from infra.testbed.addons import kubectl
from quietpager.store.audit import verify_all
from quietpager.store.opening import open_store
from tests.e2e.bed import NAMESPACE, Bed, admin, quietpager, spying
from tests.e2e.moments import told


@pytest.fixture(scope="session")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """Give the bed; the audit's chains must verify when all is over."""
    folder: Path = tmp_path_factory.mktemp("e2e")
    for kind in ("deployments", "statefulsets"):
        kubectl("-n", NAMESPACE, "rollout", "status", kind, "--timeout=120s", check=False)
    store = open_store(store_url())
    print(quietpager("resume"))
    with told(owner_url()), spying(folder / "messages.jsonl") as spy:
        yield Bed(admin(), store, spy)
    print(quietpager("stop"))
    assert verify_all(store) == []
    store.close()
