"""The analyst's pure parts: what is masked, what is kept of a log, how templates differ, what is blamed."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietpager.analysis.compose import causes, compose, look_next, ruled_out
from quietpager.analysis.gather import EDITS, Gathered, gather
from quietpager.analysis.logs import LINES, MOST, tail_of
from quietpager.analysis.templates import ConfigRef, config_refs, differences
from quietpager.analysis.unwell import QUIET, Trouble, unwell
from quietpager.cluster.snapshot import with_labels
from quietpager.masking.mask import mask
from quietpager.masking.shape import MASK
from quietpager.model.cluster import Json, Kind, Rejected
from quietpager.model.event import Event
from quietpager.model.page import Changed
from quietpager.model.reference import ObjectRef
from quietpager.objects.live import Live

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
SECONDS = timedelta(seconds=1)


# Redaction


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password=hunter2", "hunter2"),
        ('"db_password": "hunt er2"', "hunt er2"),
        ("DB_PASSWORD='hunter2'", "hunter2"),
        ("api-key: hunter2, user: me", "hunter2"),
        ("mysql --password hunter2 -h db", "hunter2"),
        ("postgres://me:hunter2@db/x", "hunter2"),
        ("Authorization: Bearer hunter2hunter2", "hunter2hunter2"),
        ("authorization: Basic bWU6aHVudGVyMg==", "bWU6aHVudGVyMg"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2ln", "eyJzdWIiOiJtZSJ9"),
        ("key AKIAIOSFODNN7EXAMPLE here", "AKIAIOSFODNN7EXAMPLE"),
        ("used ghp_abcdefghijklmnopqrstuvwxyz0123 to", "ghp_abcdefghij"),
        ("with q9ZcaNaRy8xK2vT7mB4wL6pD1sF3.", "q9ZcaNaRy8xK2vT7"),
        ("hash 5f4dcc3b5aa765d61d8327deb882cf99 of it", "5f4dcc3b5aa765d6"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----", "MIIabc"),
        ("-----BEGIN PRIVATE KEY-----\nMIIabc\nnever ends", "MIIabc"),
        ('token="never closed', "never closed"),
        (f"x-fc5b5da3-dca6-469e-823b-96c4f811d577-{'q9ZcaNaRy8xK2vT7'}", "q9ZcaNaRy8xK2vT7"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, secret: str) -> None:
    assert MASK in mask(text)
    assert secret not in mask(text)


@pytest.mark.parametrize(
    "text",
    [
        "snapshot 41 refused by peer ledger-2: epoch 7 is behind 9",
        "Deployment team-44/ledger, pod ledger-69f9b7f5ff-d8dlw: not ready",
        "uid fc5b5da3-dca6-469e-823b-96c4f811d577",
        f"image registry.example.com/team/app@sha256:{'b94992d6790c6f0eac4f3daced5d1600' * 2}",
        "/usr/local/lib/python3.11/site-packages/application/settings.py line 12",
        "Readiness probe failed: dial tcp 10.244.0.60:8080: connect: connection refused",
        "back-off 1m20s restarting failed container=web pod=web-5d4f8c7b9c-x2x4z_team-43",
        "2026-11-22T19:28:30.123456Z level=info",
    ],
)
def test_what_a_person_needs_is_not_masked(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    "piece", ["x", "-", "token", "token=", "://", 'token="', "eyJ", "a.", "bearer ", "\\"]
)
def test_no_log_keeps_the_analyst_busy(piece: str) -> None:
    """A quadratic pattern would run into pytest's time limit here."""
    text = (piece * MOST)[:MOST]
    assert len(mask(text)) <= len(text) * len(MASK)


@given(st.text(max_size=400))
def test_masking_twice_is_masking_once(text: str) -> None:
    assert mask(mask(text)) == mask(text)


# Logs


@given(st.binary(max_size=3000))
def test_any_bytes_become_a_few_clean_lines(raw: bytes) -> None:
    tail = tail_of(raw)
    assert len(tail.lines) <= LINES
    for line in tail.lines:
        assert len(line) < 400
        assert not any(ord(c) < 32 and c not in "\t\n" for c in line)


def test_repeats_are_counted_and_what_tells_is_kept() -> None:
    chatter = [f"request {n} served" for n in range(500)]
    lines = [*chatter[:250], "ERROR: cannot reach ledger-2", *chatter[250:], "retrying", "retrying"]
    tail = tail_of("\n".join(lines).encode())
    assert "ERROR: cannot reach ledger-2" in tail.lines
    assert tail.lines[-1] == "retrying (\N{MULTIPLICATION SIGN}2)"
    assert len(tail.lines) == LINES


def test_a_binary_log_gives_its_readable_pieces() -> None:
    tail = tail_of(b"\x00\x01\x02\xff" * 500 + b"cannot open /data/ledger.db" + b"\xfe\x00" * 500)
    assert tail.lines == ("cannot open /data/ledger.db",)
    assert tail.note.startswith("It is binary")


def test_terminal_colours_are_no_reason_to_call_it_binary() -> None:
    tail = tail_of(b"\x1b[31mERROR\x1b[0m no\n" * 20)
    assert (tail.lines, tail.note) == (("ERROR no (\N{MULTIPLICATION SIGN}20)",), "")


# Templates


def template(**container: Any) -> Json:
    return {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "web", **container}]}}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"image": "a:1"}, {"image": "a:2"}, "containers[web].image: a:1 -> a:2"),
        ({}, {"command": ["run", "--token=x1"]}, f"containers[web].command added: ['run', '--token={MASK}']"),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "A", "value": "2"}]},
         "containers[web].env[A].value changed"),
        ({"livenessProbe": {"httpGet": {"httpHeaders": [{"name": "K", "value": "1"}]}}},
         {"livenessProbe": {"httpGet": {"httpHeaders": [{"name": "K", "value": "2"}]}}},
         "containers[web].livenessProbe.httpGet.httpHeaders[K].value changed"),
        ({"resources": {"limits": {"memory": "1Gi"}}}, {"resources": {}},
         "containers[web].resources.limits.memory removed: 1Gi"),
        ({"volumeMounts": [{"name": "d", "mountPath": "/a"}]},
         {"volumeMounts": [{"name": "d", "mountPath": "/b"}]},
         "containers[web].volumeMounts[d].mountPath changed"),
    ],
)  # fmt: skip
def test_a_difference_is_told_without_the_applications_settings(old: Json, new: Json, told: str) -> None:
    assert differences(template(**old), template(**new)) == (told,)


def test_the_hash_that_the_controller_adds_is_no_difference() -> None:
    other = template()
    other["metadata"]["labels"] = {"app": "x", "pod-template-hash": "1"}
    assert differences(template(), other) == ()


def test_every_way_to_refer_to_a_config_map_is_known() -> None:
    spec = {
        "volumes": [
            {"name": "v", "configMap": {"name": "a"}},
            {"name": "p", "projected": {"sources": [{"configMap": {"name": "b", "optional": True}}]}},
            {"name": "t", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
        ],
        "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "c"}}]}],
        "containers": [
            {
                "name": "w",
                "env": [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "d", "key": "k"}}}],
            },
            {"name": "x", "envFrom": [{"configMapRef": {"name": "b"}}, {"secretRef": {"name": "s"}}]},
        ],
    }
    found = {one.name: one.optional for one in config_refs(spec)}
    assert found == {"a": False, "b": False, "c": False, "d": False}


# What is blamed, and what is not


WEB = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="n", name="web", uid="u")
TOLD = Event(
    id="e.1", target=WEB, reason="Odd", component="web-operator", message="no peer", first_seen=NOW,
    last_seen=NOW,
)  # fmt: skip


def gathered(**more: Any) -> Gathered:
    trouble = Trouble(why="not ready", since=NOW - 100 * SECONDS)
    return Gathered(target=WEB, owner=WEB, trouble=trouble, now=NOW, told=TOLD, **more)


def edit(what: str, seconds: float) -> Changed:
    return Changed(what=what, source=EDITS, at=NOW + seconds * SECONDS)


def test_what_changed_last_before_the_symptom_is_blamed_first() -> None:
    found = gathered(
        changed=[
            edit("long ago", -200_000),
            edit("an hour ago", -3600),
            edit("just before", -110),
            edit("after", -20),
        ]
    )
    assert [one.what for one in causes(found)] == ["just before", "an hour ago"]
    assert next(one.why for one in causes(found)) == "10 s before the first trace of the symptom"
    assert [one.what for one in ruled_out(found)] == ["after"]


def test_what_is_certainly_broken_comes_before_what_changed() -> None:
    needed = ConfigRef(name="settings", where="volume v")
    found = gathered(
        changed=[edit("just before", -110)],
        config={needed: False, ConfigRef(name="extra", where="volume w", optional=True): False},
        nodes={"n1": "Ready is Unknown: NodeStatusUnknown", "n2": ""},
        oom=["web in web-1", "web in web-1"],
    )
    assert [one.what for one in causes(found)] == [
        "ConfigMap settings is missing", "Node n1 is unwell", "memory: web in web-1 was killed for it",
        "just before",
    ]  # fmt: skip
    assert any("get configmap settings" in one for one in look_next(found))
    assert "kubectl describe node n1" in [*look_next(found)]


def test_what_could_not_be_read_rules_nothing_out() -> None:
    found = gathered(config={ConfigRef(name="settings", where="volume v"): None}, missing=["x"])
    assert [*ruled_out(found)] == []
    assert [*causes(found)] == []
    page = compose(found)
    assert page.missing == ("x",)
    assert page.summary.startswith(
        "Deployment n/web has been unwell for 100 s: not ready. web-operator says Odd"
    )


class Refusing:
    """A cluster where nothing may be read but what is given."""

    def __init__(self, *objects: Json) -> None:
        self.objects = objects

    def get(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        del namespace
        for one in self.objects:
            if (one["kind"], one["metadata"]["name"]) == (kind, name):
                return one
        raise Rejected(403, "Forbidden", f"{kind} {name}")

    def list(self, kind: Kind, namespace: str | None = None, labels: str = "") -> list[Json]:
        del namespace, labels
        found = [one for one in self.objects if one["kind"] == kind]
        if not found:
            raise Rejected(403, "Forbidden", f"list {kind}")
        return found

    def each(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Iterator[Json]:
        return with_labels(self.list(kind, namespace), labels)

    def events(self, kind: str, namespace: str, name: str) -> Sequence[Json]:
        del kind, namespace, name
        return self.list("Event")

    def metadata(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        return self.get(kind, namespace, name)

    def logs(self, *_: str, **__: Any) -> bytes:
        raise Rejected(403, "Forbidden", "pods/log")


def test_where_hardly_anything_may_be_read_the_page_says_so() -> None:
    web = {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "web", "namespace": "n", "uid": "u"},
    }
    reader = Refusing(web)
    trouble = Trouble(why="0 of 1 replicas are available", since=NOW - 100 * SECONDS)
    page = compose(gather("event", Live(reader, WEB), reader, trouble, NOW))
    assert [one.text for one in page.facts][:1] == ["0 of 1 replicas are available"]
    assert len(page.missing) >= 3
    assert all("403 Forbidden" in one for one in page.missing)
    assert page.causes == ()


@pytest.mark.parametrize(
    ("age", "kind", "expected"),
    [(10 * SECONDS, "Warning", True), (QUIET + SECONDS, "Warning", False), (10 * SECONDS, "Normal", False)],
)
def test_an_object_nothing_here_reads_is_judged_by_the_events_about_it(
    age: timedelta, kind: str, expected: bool
) -> None:
    target = ObjectRef(api_version="example.org/v1", kind="Ledger", namespace="n", name="l", uid="lu")
    told = {
        "kind": "Event", "apiVersion": "v1", "reason": "Odd", "message": "no peer", "type": kind,
        "metadata": {"name": "e", "namespace": "n"},
        "involvedObject": {"kind": "Ledger", "name": "l", "namespace": "n", "uid": "lu"},
        "firstTimestamp": (NOW - 2 * age).isoformat(), "lastTimestamp": (NOW - age).isoformat(),
    }  # fmt: skip
    reader = Refusing(told)
    found = unwell(Live(reader, target), reader, NOW)
    assert (found is not None) is expected
    if found is not None:
        assert found.since == NOW - 2 * age
    # A signal about it that no Event stands behind is nothing, whatever it claims.
    assert unwell(Live(reader, target.but(name="other", uid=None)), reader, NOW) is None
