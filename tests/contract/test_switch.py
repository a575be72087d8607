"""`quietpager stop` and `resume`: either half works without the other, and says which one did not."""

from collections.abc import Callable
from typing import Any, Never

import pytest

from quietpager.cli import switch
from quietpager.cli.switch import NO_CLUSTER, Reach, resume, stop
from quietpager.incident import records
from quietpager.incident.switch import CHAIN
from quietpager.model.cluster import ClusterUnavailable, Kind, Rejected
from quietpager.model.store import StoreUnavailable
from quietpager.store.memory import MemoryStore

Json = dict[str, Any]

BINDINGS: list[Json] = [
    {
        "metadata": {"name": f"quietpager-{action}-write"},
        "roleRef": {"apiGroup": "rbac", "kind": "ClusterRole", "name": f"quietpager-{action}-write"},
        "subjects": [{"kind": "ServiceAccount", "name": f"remediate-{action}", "namespace": "quietpager"}],
    }
    for action in ("raise-memory", "rollout-undo")
]
NAMES = {one["metadata"]["name"] for one in BINDINGS}


class Api:
    """An API server that knows ClusterRoleBindings; `refuses` names those it says no about."""

    def __init__(self, *bindings: Json, refuses: str = "") -> None:
        self.bindings = {one["metadata"]["name"]: one for one in bindings}
        self.refuses = refuses

    def _may(self, name: str) -> None:
        if name == self.refuses:
            raise Rejected(403, "Forbidden", f"you may not touch {name}")

    def get(self, _kind: Kind, _namespace: None, name: str) -> Json | None:
        return self.bindings.get(name)

    def create(self, kind: Kind, obj: Json) -> Json:
        assert kind == "ClusterRoleBinding"
        name = obj["metadata"]["name"]
        self._may(name)
        if name in self.bindings:
            raise Rejected(409, "AlreadyExists", name)
        self.bindings[name] = obj
        return obj

    def delete(self, kind: Kind, namespace: None, name: str) -> None:
        assert (kind, namespace) == ("ClusterRoleBinding", None)
        self._may(name)
        if self.bindings.pop(name, None) is None:
            raise Rejected(404, "NotFound", name)


def away(error: Exception) -> Callable[[], Never]:
    def fail() -> Never:
        raise error

    return fail


def reaching(api: Any, store: Any) -> Reach:
    def give(what: Any) -> Callable[[], Any]:
        return what if callable(what) else lambda: what

    return Reach(give(store), None if api is None else give(api), lambda: BINDINGS)


def stopped(store: MemoryStore) -> object:
    record = store.get(records.SWITCH)
    return None if record is None else record.body["stopped"]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def said() -> list[str]:
    return []


def test_resume_makes_the_bindings_and_stop_deletes_them(store: MemoryStore, said: list[str]) -> None:
    api = Api()
    assert resume(reaching(api, store), said.append) == 0
    assert (set(api.bindings), stopped(store)) == (NAMES, False)
    assert stop(reaching(api, store), said.append) == 0
    assert (api.bindings, stopped(store)) == ({}, True)
    assert [entry.kind for entry in store.audit(CHAIN)] == ["resumed", "stopped"]
    assert all(" ms)" in line for line in said)


def test_both_may_be_repeated(store: MemoryStore, said: list[str]) -> None:
    api = Api()
    by = reaching(api, store)
    assert [run(by, said.append) for run in (stop, stop, resume, resume, stop)] == [0] * 5
    assert (api.bindings, stopped(store)) == ({}, True)


@pytest.mark.parametrize(
    "broken",
    [StoreUnavailable("no answer"), RuntimeError("No store"), ValueError(), SystemError("anything")],
)
def test_stop_unbinds_without_a_store(broken: Exception, said: list[str]) -> None:
    api = Api(*BINDINGS)
    assert stop(reaching(api, away(broken)), said.append) == 1
    assert api.bindings == {}
    assert any(line.startswith("The store's switch could NOT be changed") for line in said)


@pytest.mark.parametrize(
    "broken",
    [ClusterUnavailable("the kubeconfig cannot be used"), OSError(), UnicodeError()],
)
def test_stop_sets_the_switch_without_a_cluster(
    broken: Exception, store: MemoryStore, said: list[str]
) -> None:
    assert stop(reaching(away(broken), store), said.append) == 1
    assert stopped(store) is True
    assert any(line.startswith("The write bindings could NOT be changed") for line in said)


def test_stop_sets_the_switch_although_the_functions_cannot_be_read(
    store: MemoryStore, said: list[str]
) -> None:
    by = Reach(lambda: store, lambda: Api(*BINDINGS), away(KeyError("name")))  # type: ignore[arg-type,return-value]
    assert stop(by, said.append) == 1
    assert stopped(store) is True


def test_one_binding_that_stays_does_not_keep_the_other(store: MemoryStore, said: list[str]) -> None:
    kept = "quietpager-raise-memory-write"
    api = Api(*BINDINGS, refuses=kept)
    assert stop(reaching(api, store), said.append) == 1
    assert (set(api.bindings), stopped(store)) == ({kept}, True)
    assert kept in "".join(said)


def test_resume_leaves_the_switch_where_a_binding_cannot_be_made(store: MemoryStore, said: list[str]) -> None:
    api = Api(refuses="quietpager-rollout-undo-write")
    assert resume(reaching(api, store), said.append) == 1
    assert stopped(store) is None
    assert "left as it is" in said[-1]


def test_resume_does_not_take_a_binding_for_its_own_that_binds_something_else(
    store: MemoryStore, said: list[str]
) -> None:
    other = BINDINGS[0] | {"roleRef": BINDINGS[0]["roleRef"] | {"name": "cluster-admin"}}
    assert resume(reaching(Api(other), store), said.append) == 1
    assert "binds something else" in said[0]
    assert stopped(store) is None


def test_without_a_kubeconfig_the_store_alone_is_stopped_and_that_is_no_success(
    store: MemoryStore, said: list[str]
) -> None:
    assert stop(reaching(None, store), said.append) == 1
    assert stopped(store) is True
    assert f"The write bindings could NOT be changed: {NO_CLUSTER}" in said[0] + said[1]
    assert any(line.startswith("Writing is stopped") for line in said)
    said.clear()
    assert resume(reaching(None, store), said.append) == 1
    assert stopped(store) is True
    assert NO_CLUSTER in said[0]
    assert "left as it is" in said[-1]


def test_a_kubeconfig_that_is_not_there_does_not_keep_stop_from_the_store(
    store: MemoryStore, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switch, "open_store", lambda: store)
    assert stop(switch.reach("/nowhere/kubeconfig"), said.append) == 1
    assert stopped(store) is True
