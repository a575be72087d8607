"""The fixtures of these tests: a cluster of either side, a namespace, and a Deployment at rest."""

import uuid
from collections.abc import Iterator

import pytest

from quietpager.model.cluster import Cluster
from tests.contract.cluster.support import CLUSTERS, SIDES, Json, at_rest, deployment, until


@pytest.fixture(scope="module", params=SIDES)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with CLUSTERS[request.param]() as found:
        yield found


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    name = f"contract-{uuid.uuid4().hex[:8]}"
    cluster.create("Namespace", {"metadata": {"name": name}})
    yield name
    cluster.delete("Namespace", None, name)


@pytest.fixture
def web(cluster: Cluster, namespace: str) -> Json:
    """Give a Deployment that its controller has seen, so that generations stand still."""
    cluster.create("Deployment", deployment(namespace))
    return until(lambda: at_rest(cluster, namespace), "a controller to take the Deployment")
