"""Changes proposed to Git, as an editor of one namespace would like to have them.

Whoever may annotate a Deployment may write there that Argo CD has it, and what fails is then proposed to Git.
So a Deployment of the name of somebody else's could have the other's manifest changed, where that names no
namespace; a thousand Deployments made a thousand branches, for no guard judges a proposal; and a namespace
with the label that the policy does not name got branches as well.
"""

from pathlib import Path
from typing import Any

import pytest

from quietpager.functions.remediate.propose_change import test_propose_change as usual
from quietpager.functions.remediate.propose_change.test_propose_change import (
    BRANCH,
    WEB,
    branches,
    rehearsed,
    repository,
)
from quietpager.incident import records, storm
from quietpager.incident.policy import Policy
from quietpager.model.store import Put
from quietpager.model.time import to_text

BARE = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {template: {spec: {containers: [{name: app, image: 'shop:2'}]}}}
"""


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a manifest that leaves its namespace to Kustomize."""
    monkeypatch.setattr(usual, "MANIFEST", BARE)
    made: Path = usual.bare.__wrapped__(tmp_path)  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize("namespaces", [(), ("shop", "other"), ("other", "shop")])
def test_a_manifest_without_a_namespace_in_a_repository_for_several_is_nobodys(
    bare: Path, namespaces: tuple[str, ...]
) -> None:
    done = rehearsed(*usual.world(Policy(repositories=(repository(bare, namespaces=namespaces),))))
    assert done.proposal is not None
    assert done.proposal.kind == "patch"
    assert "without a namespace, and the repository is for several" in done.summary
    assert branches(bare) == ["main"]


def test_in_a_repository_of_the_namespace_alone_it_is_edited(bare: Path) -> None:
    """With the wrong word on whose the repository is, the same manifest is changed."""
    done = rehearsed(*usual.world(Policy(repositories=(repository(bare, namespaces=("shop",)),))))
    assert done.proposal is not None
    assert (done.proposal.kind, branches(bare)) == ("branch", ["main", BRANCH])


def stormy(bare: Path) -> tuple[Any, Any]:
    policy = Policy(repositories=(repository(bare, namespaces=("shop",)),))
    store, ctx = usual.world(policy)
    many = [{"at": to_text(usual.NOW), "incident": f"inc-{n}"} for n in range(policy.storm.namespace + 1)]
    store.transact([Put(records.opened_in("shop"), {"opened": many}, 0)])
    return store, ctx


def test_a_namespaces_storm_makes_no_branches(bare: Path) -> None:
    done = rehearsed(*stormy(bare))
    assert done.proposal is not None
    assert (done.proposal.kind, branches(bare)) == ("patch", ["main"])
    assert "a storm lasts" in done.summary


def test_where_the_storm_is_not_counted_it_does(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storm, "openings", lambda *_: storm.CALM)
    done = rehearsed(*stormy(bare))
    assert done.proposal is not None
    assert (done.proposal.kind, branches(bare)) == ("branch", ["main", BRANCH])
    assert str(WEB) in done.summary
