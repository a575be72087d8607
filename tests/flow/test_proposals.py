"""What somebody else owns: proposed where its owner reads it, and written only where the policy says so."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from quietpager.cli.people import story
from quietpager.cluster.client import connect
from quietpager.incident.policy import Ownership, Policy, Repository
from quietpager.model.incident import Incident, OwnerMode, State
from quietpager.sandbox.server import running
from quietpager.store.audit import verify_all
from quietpager.store.memory import MemoryStore
from tests.flow.harness import QUICK, Product
from tests.flow.test_stories import TAG, World

TRACKED = {"argocd.argoproj.io/tracking-id": "team:apps/Deployment:team-43/web"}
MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: team-43
spec:
  template:
    spec:
      containers:
        - name: {container}
          image: {image}  # the release
"""


def git(*arguments: str, at: Path) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    return subprocess.run(
        ["git", *who, *arguments], cwd=at, check=True, capture_output=True, text=True
    ).stdout


def repository(at: Path, world: World) -> Path:
    """Make a bare repository that has the Deployment as it is in the cluster."""
    [container] = world.deployment("team-43", "web")["spec"]["template"]["spec"]["containers"]
    work = at / "work"
    (work / "apps").mkdir(parents=True)
    text = MANIFEST.format(container=container["name"], image=container["image"])
    (work / "apps" / "web.yaml").write_text(text, encoding="utf-8")
    git("init", "-q", "-b", "main", at=work)
    git("add", ".", at=work)
    git("commit", "-qm", "release", at=work)
    git("clone", "-q", "--bare", str(work), str(at / "repo.git"), at=at)
    return at / "repo.git"


@pytest.fixture
def sandbox() -> Iterator[str]:
    with running(speed=25) as url:
        yield url


def play(
    url: str, at: Path, mode: OwnerMode, *until: State, lost: bool = False
) -> tuple[World, Incident, Path]:
    """Break the release of a Deployment that Argo CD tracks, and run until the incident stands so."""
    cluster, product = connect(url, manager="world"), connect(url, manager="product")
    world = World(url, cluster, Product(MemoryStore(), product))
    world.load(TAG)
    cluster.merge_patch("Deployment", "team-43", "web", {"metadata": {"annotations": TRACKED}})
    bare = repository(at, world)
    if lost:
        bare.rename(at / "moved.git")
    policy: Policy = QUICK.but(
        ownership=Ownership(default=mode), repositories=(Repository(url=f"file://{bare}"),)
    )
    world.product = Product(MemoryStore(), product, policy)
    world.product.resume()
    for event in cluster.list("Event", "team-43"):
        world.product.event(event)

    def done() -> bool:
        return any(i.owner.name == "web" and i.state in until for i in world.product.incidents())

    assert world.product.run_until(done), [i.state for i in world.product.incidents()]
    assert verify_all(world.product.store) == []
    return world, world.the("web"), bare


def close(world: World) -> None:
    world.cluster.close()
    world.product.cluster.close()  # type: ignore[attr-defined]


def test_what_argo_cd_tracks_is_proposed_and_not_written(
    sandbox: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, incident, bare = play(sandbox, tmp_path, "propose", State.PROPOSED)
    assert world.writes() == []
    [plan, proposal] = incident.remedies
    assert (plan.action, proposal.action) == ("rollout-undo", "propose-change")
    branch = f"quietpager/{proposal.params['of']}"
    diff = git("diff", "--unified=0", "main", branch, at=bare).splitlines()
    changed = [line for line in diff if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert len(changed) == 2
    assert changed[1] == "+          image: registry.example.com/good/app:1  # the release"
    assert "Argo CD (team)" in incident.refusals[0]
    world.product.deliver()
    assert branch in capsys.readouterr().out
    assert branch in story(world.product.store, incident.id)
    close(world)


def test_with_the_repository_away_the_patch_is_attached_and_nothing_is_lost(
    sandbox: str, tmp_path: Path
) -> None:
    world, incident, _ = play(sandbox, tmp_path, "propose", State.PROPOSED, lost=True)
    assert world.writes() == []
    text = story(world.product.store, incident.id)
    assert "git ls-remote failed" in text
    assert '"value": "registry.example.com/good/app:1"' in text
    close(world)


def test_patch_and_propose_writes_first_and_proposes_what_helped(sandbox: str, tmp_path: Path) -> None:
    world, incident, bare = play(sandbox, tmp_path, "patch+propose", State.CLOSED)
    assert len(world.writes()) == 1
    assert (incident.reason, incident.verified) == ("fixed", True)
    assert [t.action for t in incident.tried] == ["rollout-undo"]
    assert git("for-each-ref", "--format=%(refname:short)", "refs/heads/quietpager", at=bare).split() == [
        f"quietpager/{incident.remedies[0].params['of']}"
    ]
    close(world)


def test_patch_writes_and_proposes_nothing(sandbox: str, tmp_path: Path) -> None:
    world, incident, bare = play(sandbox, tmp_path, "patch", State.CLOSED)
    assert len(world.writes()) == 1
    assert (incident.reason, incident.verified) == ("fixed", False)
    assert git("for-each-ref", "refs/heads/quietpager", at=bare) == ""
    close(world)
