"""An account that may only raise lowers memory: an empty write, then an undo that halves, again and again.

On a real API server, as the account of raise-memory, with every right by its roles.
"""

from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from quietpager.change.marks import MARK, WROTE
from tests import apiserver
from tests.apiserver import ApiServer
from tests.cage.conftest import ANYTHING, RENDERED, make, wait, without
from tests.cage.requests import BELOW, GROUPS, HERE, PATCH, account, edit

Json = dict[str, Any]

DEPLOYMENTS: Final = "/apis/apps/v1/namespaces/shop/deployments"
ACTION: Final = "raise-memory"
CUT: Final = ("changes", "undo")
LIMIT, REQUEST = (f"{BELOW['app']}/resources/{kind}/memory" for kind in ("limits", "requests"))

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    if gone := apiserver.missing():
        pytest.skip(f"THE CAGE WAS NOT ATTACKED: no {', '.join(gone)}; `make cluster` builds them")
    objects = yaml.safe_load((HERE / "objects.yaml").read_text(encoding="utf-8"))
    needed = [o for o in objects if o["kind"] == "Namespace" or o["metadata"]["name"] == "web"]
    with apiserver.shared() as found:
        for one in [*needed, ANYTHING, *RENDERED, *without(ACTION, *CUT)]:
            make(found, one)
        wait(found, account(ACTION))
        wait(found, account(ACTION, "-".join(CUT)))
        yield found


def attack(server: ApiServer, name: str, user: str) -> tuple[str, list[str]]:
    """Six times an empty forward and a halving undo; gives the limit in the end, and what was refused."""
    web = server.send("GET", f"{DEPLOYMENTS}/web").body
    server.send("POST", DEPLOYMENTS, {**web, "metadata": {"name": name, "namespace": "shop"}})
    refused = []
    for number in range(6):
        live = server.send("GET", f"{DEPLOYMENTS}/{name}").body
        meta = live["metadata"]
        record = f"{ACTION}/{meta['uid']}/{meta['generation'] + 1}:"
        marks = {MARK: f"int-{number}", WROTE: record}
        resources = live["spec"]["template"]["spec"]["containers"][0]["resources"]
        halves = [
            edit(path, f"{int(resources[kind]['memory'][:-2]) // 2}Mi")
            for path, kind in ((LIMIT, "limits"), (REQUEST, "requests"))
        ]
        for patch in (
            [edit("/metadata/annotations", marks)],
            [*halves, edit("/metadata/annotations", {MARK: f"int-{number}-undo"})],
        ):
            answer = server.send(
                "PATCH", f"{DEPLOYMENTS}/{name}", patch, user=user, groups=GROUPS, content=PATCH
            )
            if answer.code != 200:
                refused.append(answer.message)
    after = server.send("GET", f"{DEPLOYMENTS}/{name}").body
    return after["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"], refused


def test_an_empty_write_and_a_halving_undo_lower_nothing(server: ApiServer) -> None:
    limit, refused = attack(server, "halved", account(ACTION))
    assert limit == "256Mi"
    assert len(refused) == 12
    assert "rule changes" in refused[0]
    assert "rule intent" in refused[1]


def test_without_the_record_twelve_writes_take_256mi_to_4mi(server: ApiServer) -> None:
    limit, refused = attack(server, "halved-without", account(ACTION, "-".join(CUT)))
    assert (limit, refused) == ("4Mi", [])
