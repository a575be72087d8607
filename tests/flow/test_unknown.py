"""What no rule knows: an operator's own Event about an unhealthy workload reaches a person with its page."""

import html
import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from quietpager.analysis.logs import MOST
from quietpager.cli.people import ledger, story
from quietpager.cli.replay import replay
from quietpager.cluster.client import ApiServer, connect
from quietpager.cluster.recorded import Recorded
from quietpager.functions.people.console.app import make_app
from quietpager.incident.policy import Policy
from quietpager.masking.shape import MASK
from quietpager.model.cluster import Cluster, ClusterUnavailable, Rejected
from quietpager.model.incident import Incident, State
from quietpager.model.page import Page
from quietpager.model.time import system_clock
from quietpager.people.users import Users
from quietpager.runtime.context import Context, functions_folder
from quietpager.sandbox.load import load_case
from quietpager.sandbox.server import running
from quietpager.store.export import lines
from quietpager.store.memory import MemoryStore
from tests.flow.harness import QUICK, Product
from tests.secrets.samples import Sample, samples

Json = dict[str, Any]

UNKNOWN = functions_folder() / "analyze/unknown/cases/33-unknown-operator-event"
WELL = functions_folder() / "analyze/unknown/cases/33-twin-that-is-well"
SAYS = "peer team-44/ledger-2 refused snapshot 41: epoch 7 is behind 9"


class Talking:
    """A cluster whose containers' logs are what a test wants; everything else is the real answer."""

    def __init__(self, cluster: Any, answer: bytes | Exception) -> None:
        self.cluster, self.answer, self.asked = cluster, answer, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cluster, name)

    def logs(self, *_: str, most: int, **__: Any) -> bytes:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer[:most]


@pytest.fixture
def sandbox() -> Iterator[tuple[str, ApiServer]]:
    with running(speed=25) as url:
        client = connect(url, manager="product")
        yield url, client
        client.close()


def product_of(cluster: Any, **more: Any) -> Product:
    made = Product(MemoryStore(), cast("Cluster", cluster), **more)
    made.resume()
    return made


def load(url: str, product: Product, folder: Path) -> None:
    case = load_case(url, folder, system_clock())
    for event in case.events():
        product.event(product.cluster.create("Event", event))


def handed_over(product: Product) -> Incident:
    assert product.run_until(lambda: any(i.state is State.HANDOVER for i in product.incidents()))
    [incident] = product.incidents()
    return incident


def page_of(incident: Incident) -> Page:
    assert incident.page is not None
    return incident.page


def test_an_operators_own_event_reaches_a_person_with_its_page(
    sandbox: tuple[str, ApiServer], capsys: pytest.CaptureFixture[str]
) -> None:
    url, cluster = sandbox
    product = product_of(cluster)
    load(url, product, UNKNOWN)
    incident = handed_over(product)
    page = page_of(incident)
    assert (incident.failure_class, str(incident.owner)) == ("unknown", "Deployment team-44/ledger")
    assert "ledger-operator says LedgerOutOfSync" in page.summary
    assert [one.source.split(" in ")[0] for one in page.facts if SAYS in one.text] == ["log of ledger"]
    assert all(one.source for one in page.facts)
    assert {one.what for one in page.ruled_out} >= {"killed for memory", "a crash", "the node"}
    assert page.causes[0].what.startswith("revision 1 began")
    assert page.look_next[0].startswith("ledger-operator sent the Event")
    assert page.missing == ()
    assert incident.remedies == ()
    product.deliver()
    told = capsys.readouterr().out
    assert "[needsperson] unknown on Deployment team-44/ledger" in told
    assert "No rule knows this. Deployment team-44/ledger has been unwell for" in told
    shown = story(product.store, incident.id)
    for title in ("look first at", "where to look next", "what changed", "facts", "ruled out"):
        assert f"  {title}:\n    - " in shown


def test_the_same_event_about_a_workload_that_is_well_is_dropped(sandbox: tuple[str, ApiServer]) -> None:
    url, cluster = sandbox
    product = product_of(cluster)
    load(url, product, WELL)
    product.deliver()
    assert product.incidents() == []
    assert product.store.scan("FINDING") == []
    assert product.store.due_items() == []
    assert product.refused == []


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        pytest.param(Rejected(403, "Forbidden", "pods/log"), "403 Forbidden", id="refused"),
        pytest.param(ClusterUnavailable("no answer"), "no answer", id="no answer"),
        pytest.param(bytes(range(256)) * 40, "It is binary", id="binary"),
        pytest.param(b"x" * (100 << 20), f"It is long: {MOST} bytes were read", id="100 MB"),
        pytest.param(b"", "is empty", id="empty"),
    ],
)
def test_a_log_that_is_no_help_costs_a_sentence(
    sandbox: tuple[str, ApiServer], answer: bytes | Exception, sentence: str
) -> None:
    url, cluster = sandbox
    product = product_of(Talking(cluster, answer))
    load(url, product, UNKNOWN)
    page = page_of(handed_over(product))
    [said] = [one for one in page.missing if sentence in one]
    assert "log of ledger in Pod team-44/ledger-69f9b7f5ff-d8dlw" in said
    assert "ledger-operator says LedgerOutOfSync" in page.summary
    assert any("quietpager could not read all of it" in one for one in page.look_next)
    assert len(json.dumps(page.to_json())) < 20_000
    assert product.refused == []


def make_well(cluster: ApiServer) -> None:
    """Let the pod become ready, as its kubelet would say."""
    [pod] = cluster.list("Pod", "team-44")
    status = pod["status"]
    for one in status["conditions"]:
        one["status"] = "True"
    status["containerStatuses"][0]["ready"] = True
    change = {"status": status}
    cluster.merge_patch("Pod", "team-44", pod["metadata"]["name"], change, subresource="status")


def test_it_closes_when_it_is_well_again_and_is_remembered_the_next_time(
    sandbox: tuple[str, ApiServer],
) -> None:
    url, cluster = sandbox
    product = product_of(cluster, policy=QUICK.but(cool_down=0.0))
    load(url, product, UNKNOWN)
    first = handed_over(product)
    before = product.store.get(f"INCIDENT#{first.id}")
    product.run_until(lambda: False, seconds=1)  # rechecks go on, and leave the page alone
    [same] = product.incidents()
    assert same.page == first.page
    assert before is not None
    make_well(cluster)
    assert product.run_until(lambda: product.incidents()[0].state is State.CLOSED)
    assert product.incidents()[0].reason == "fixed_by_person"
    [past] = product.store.scan("PAST")
    assert past.body["story"]["ended"].startswith("fixed_by_person after")
    assert "Nothing was tried" in ledger(product.store)

    product.event(load_case(url, UNKNOWN, system_clock()).event)
    assert product.run_until(lambda: any(i.state is State.HANDOVER for i in product.incidents()))
    second = next(i for i in product.incidents() if i.state is State.HANDOVER)
    assert second.episode == 2
    assert [one.incident for one in page_of(second).similar] == [first.id]


def test_a_deployment_that_is_gone_closes_it(sandbox: tuple[str, ApiServer]) -> None:
    url, cluster = sandbox
    product = product_of(cluster)
    load(url, product, UNKNOWN)
    handed_over(product)
    cluster.delete("Deployment", "team-44", "ledger")
    assert product.run_until(lambda: product.incidents()[0].state is State.CLOSED)
    assert product.incidents()[0].reason == "gone"


def test_while_the_cluster_cannot_be_read_it_stays_open(sandbox: tuple[str, ApiServer]) -> None:
    url, cluster = sandbox
    product = product_of(Talking(cluster, b""))
    load(url, product, UNKNOWN)
    handed_over(product)

    def away(*_: Any) -> Any:
        raise ClusterUnavailable("the API server gave no answer")

    product.cluster.get = away  # type: ignore[method-assign, assignment]
    product.run_until(lambda: False, seconds=1)
    looks = [r.body["outcome"] for r in product.store.scan("FINDING") if r.body["incident"]]
    assert looks == ["unreadable"]
    assert product.incidents()[0].state is State.HANDOVER


CANARIES = {
    "env": "Canary-Env-Value-1",
    "argument": "Canary-Argument-2",
    "message": "Canary-Message-3",
    "url": "Canary-Url-4",
    "log": "Canary-Log-5",
    "bearer": "canary.bearer.six",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJjYW5hcnkiOiI3In0.c2lnbmF0dXJlLWNhbmFyeQ",
    "random": "q9ZcaNaRy8xK2vT7mB4wL6pD1sF3",
    "key": "MIICanaryKeyBody9",
}


def kinds() -> list[Sample]:
    """One short sample of each kind, so that they fit into what is kept of a message."""
    first: dict[str, Sample] = {}
    for one in samples():
        if len(one.text) < 120 and "\n" not in one.text:
            first.setdefault(one.kind, one)
    return list(first.values())


def planted(folder: Path) -> bytes:
    """Plant a canary wherever a secret may stand, and a secret of each kind in Events, status and log."""
    event = json.loads((folder / "event.json").read_bytes())
    event["message"] += f" (password={CANARIES['message']}, https://me:{CANARIES['url']}@ledger-2/)"
    every = " ; ".join(one.text for one in kinds())
    event["message"] += f" ({every})"
    (folder / "event.json").write_text(json.dumps(event))
    plant_events(folder, event)
    for path in (folder / "objects").glob("*.json"):
        obj = json.loads(path.read_bytes())
        for condition in obj.get("status", {}).get("conditions", ()):
            condition["message"] = f"{condition.get('message', '')} {every}"
        obj["metadata"].setdefault("annotations", {})["example.com/note"] = every
        path.write_text(json.dumps(obj))
        spec = obj["spec"].get("template", {}).get("spec") or (obj["spec"] if obj["kind"] == "Pod" else None)
        if spec is not None:
            container = spec["containers"][0]
            container["env"] = [{"name": "DB", "value": CANARIES["env"]}]
            container["args"] = [f"--api-key={CANARIES['argument']}"]
            path.write_text(json.dumps(obj))
    replica_set = next((folder / "objects").glob("*-replicaset.json"))
    older = json.loads(replica_set.read_bytes())
    older["metadata"] |= {"name": "ledger-old", "uid": "3f0c8a52-0000-4000-8000-000000000009"}
    older["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "0"
    older["metadata"]["creationTimestamp"] = "2026-11-22T19:20:00Z"
    older["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = "old" + CANARIES["env"]
    older["spec"]["template"]["spec"]["containers"][0]["args"] = ["--api-key=old" + CANARIES["argument"]]
    (folder / "objects/09-replicaset.json").write_text(json.dumps(older))
    return (
        f"error: login refused, secret: '{CANARIES['log']}'\n"
        f"Authorization: Bearer {CANARIES['bearer']}\nerror near {CANARIES['jwt']}\n"
        + "".join(f"error: {one.text}\n" for one in kinds())
        + f"failed with {CANARIES['random']}\n-----BEGIN PRIVATE KEY-----\n{CANARIES['key']}\n"
    ).encode()


def plant_events(folder: Path, event: Json) -> None:
    """Spread the kinds over Events of their own: of each Event a page keeps a few hundred characters."""
    texts = [one.text for one in kinds()]
    path, each = folder / "related_events.json", -(-len(texts) // 7)
    found = json.loads(path.read_bytes()) if path.exists() else []
    events = found["items"] if isinstance(found, dict) else found
    for n in range(7):
        named = {"name": f"planted-{n}", "uid": f"planted-{n}"}
        some = " ; ".join(texts[n * each : (n + 1) * each])
        events.append(event | {"metadata": event["metadata"] | named, "message": some})
    path.write_text(json.dumps(events))


def shown(ctx: Context, tmp_path: Path) -> str:
    """Give every page of the console, as a person sees it who is signed in."""
    users = Users(tmp_path / "users.json")
    users.put("alice", "a long enough password 1")
    client = make_app(ctx, users, secure=False).test_client()
    [csrf] = re.findall(r'name="csrf" value="([^"]*)"', client.get("/sign-in").get_data(as_text=True))
    form = {"name": "alice", "password": "a long enough password 1", "csrf": csrf}
    client.post("/sign-in", data=form)
    paths = [
        "/",
        "/queue",
        *(f"/incident/{Incident.from_json(r.body).id}" for r in ctx.store.scan("INCIDENT")),
    ]
    answers = [client.get(path) for path in paths]
    assert {one.status_code for one in answers} == {200}
    return "".join(html.unescape(one.get_data(as_text=True)) for one in answers)


def everything(store: MemoryStore) -> str:
    kinds = {key.partition("#")[0] for key in store._state}
    state = [record.body for kind in sorted(kinds) for record in store.scan(kind)]
    audit = [entry.body for chain in store.audit_chains() for entry in store.audit(chain)]
    return json.dumps([state, audit, [item.message for item in store.due_items()]])


def kept_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> tuple[Incident, str]:
    """Let the planted case happen; gives the incident, and all that is kept, said and shown of it."""
    folder = tmp_path / "case"
    shutil.copytree(UNKNOWN, folder)
    log = planted(folder)
    now = datetime(2026, 11, 22, 19, 26, 20, tzinfo=UTC)
    store, moment = MemoryStore(), [now]
    policy = Policy()
    product = Product(
        store, cast("Cluster", Talking(Recorded(folder), log)), policy=policy, clock=lambda: moment[0]
    )
    product.event(json.loads((folder / "event.json").read_bytes()))
    product.deliver()
    waiting = everything(store)  # the dwell is not over: the hint lies with the clock, without any words
    assert "ledger.outofsync1" in waiting
    assert "LedgerOutOfSync" not in waiting
    moment[0] += timedelta(seconds=60)
    product.ping("clock")
    [incident] = product.incidents()
    product.deliver()
    told, logged = capfd.readouterr()
    assert "[needsperson] unknown" in told
    kept = everything(store) + story(store, incident.id) + waiting + told + logged
    kept += "\n".join(lines(store, None)) + shown(product.contexts["govern-decide"], tmp_path)
    return incident, kept + json.dumps(list(replay([folder])), default=str)


def test_no_planted_secret_is_stored_or_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    incident, kept = kept_of(tmp_path, capfd)
    assert MASK in page_of(incident).summary
    assert [one for one in page_of(incident).changed if "env" in one.what and "args" in one.what]
    assert sum("says: " in one.text for one in page_of(incident).facts) >= 4
    assert {name for name, canary in CANARIES.items() if canary in kept} == set()
    assert len(kinds()) >= 25
    assert {one.kind: one.seen_in(kept) for one in kinds() if one.seen_in(kept)} == {}


def test_without_the_mask_planted_secrets_are_stored_and_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_mask", "_remembered"):
        monkeypatch.setattr(f"quietpager.masking.mask.{name}", lambda text: text)
    _, kept = kept_of(tmp_path, capfd)
    assert len([one for one in kinds() if one.seen_in(kept)]) >= 25


@pytest.mark.parametrize(
    ("policy", "dwell"),
    [
        (Policy(), 60),
        (Policy(dwell_seconds=1.0), 60),  # what is known may be acted on sooner; the unknown may not
        (Policy(dwell_unknown=80.0), 80),
    ],
)
def test_it_takes_the_dwell_and_at_most_ten_seconds_more(policy: Policy, dwell: int) -> None:
    """On a virtual clock: the Event comes 33 s after the pod became unready."""
    began = datetime(2026, 11, 22, 19, 25, 47, tzinfo=UTC)
    moment = [began + timedelta(seconds=33)]
    reader = Talking(Recorded(UNKNOWN), f"{SAYS}\n".encode())
    product = Product(MemoryStore(), cast("Cluster", reader), policy=policy, clock=lambda: moment[0])
    event = json.loads((UNKNOWN / "event.json").read_bytes())
    product.event(event)
    product.deliver()
    assert product.incidents() == []
    assert reader.asked == 0  # nothing is gathered before the dwell is over
    while not product.incidents() and moment[0] - began < timedelta(minutes=5):
        moment[0] += timedelta(seconds=product.policy.tick)
        product.ping("clock")
    [incident] = product.incidents()
    assert incident.state is State.HANDOVER
    taken = (incident.state_since - began).total_seconds()
    assert dwell <= taken <= dwell + 10


def test_a_new_revision_that_fails_beside_a_healthy_one_may_be_undone_if_a_person_says_so(
    sandbox: tuple[str, ApiServer], tmp_path: Path
) -> None:
    url, cluster = sandbox
    folder = tmp_path / "case"
    shutil.copytree(functions_folder() / "detect/image/cases/32-bad-tag-new-revision", folder)
    # As if its image were there, but nothing in it became ready: no rule knows that.
    for path in (folder / "objects").glob("*-pod.json"):
        pod = json.loads(path.read_bytes())
        [status] = pod["status"]["containerStatuses"]
        if "waiting" in status["state"]:
            status |= {"state": {"running": {"startedAt": status_time(pod)}}, "started": True}
            path.write_text(json.dumps(pod))
    event = json.loads((folder / "event.json").read_bytes())
    event |= {"reason": "WebOutOfSync", "type": "Warning", "message": "no peer answers"}
    event["source"] = {"component": "web-operator"}
    event["reportingComponent"] = "web-operator"
    (folder / "event.json").write_text(json.dumps(event))
    (folder / "related_events.json").unlink()
    product = product_of(cluster)
    load(url, product, folder)
    assert product.run_until(lambda: any(i.state is State.APPROVAL for i in product.incidents()))
    [incident] = product.incidents()
    assert [one.action for one in incident.remedies] == ["rollout-undo"]
    assert incident.failure_class == "unknown"
    assert any("image: " in one.what for one in page_of(incident).changed)
    assert product.store.scan("INTENT") == []


def status_time(pod: Json) -> str:
    return str(pod["metadata"]["creationTimestamp"])


def test_what_another_family_has_open_is_left_to_it(sandbox: tuple[str, ApiServer]) -> None:
    url, cluster = sandbox
    product = product_of(cluster, policy=QUICK.but(dwell_seconds=0.0, dwell_unknown=0.0))
    load(url, product, functions_folder() / "detect/crash/cases/15-oomkilled")
    product.deliver()
    [known] = product.incidents()
    assert known.family == "crash"
    findings = len(product.store.scan("FINDING"))
    event = json.loads((UNKNOWN / "event.json").read_bytes())
    pod = cluster.list("Pod", known.owner.namespace)[0]
    event["involvedObject"] |= {
        "kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"],
        "namespace": pod["metadata"]["namespace"],
    }  # fmt: skip
    event["metadata"] |= {"namespace": pod["metadata"]["namespace"], "uid": "other"}
    product.event(event)
    product.deliver()
    assert [i.id for i in product.incidents()] == [known.id]
    assert len(product.store.scan("FINDING")) == findings
