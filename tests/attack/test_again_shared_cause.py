"""Attack: one pod asks a registry that others use for an image it may not have. Its incident's cause was the
registry, for the whole cluster, and stayed open as long as the pod did: the true failures of all other
namespaces were added to it, and nobody was told.
"""

from datetime import UTC, datetime, timedelta

import pytest

from quietpager.functions.detect.image.diagnose import _cause
from quietpager.incident import findings
from quietpager.incident.findings import MOST_PLACES_TOLD
from quietpager.incident.machine import step
from quietpager.incident.news import Input, News, Tell
from quietpager.incident.policy import Policy
from quietpager.model.finding import Diagnosis, Evidence, Finding
from quietpager.model.incident import Incident, State
from quietpager.model.reference import ObjectRef

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def owner(namespace: str, name: str = "web") -> ObjectRef:
    uid = f"{namespace}-{name}"
    return ObjectRef(api_version="apps/v1", kind="Deployment", namespace=namespace, name=name, uid=uid)


def of_the_attacker(*, announced: bool = True) -> Incident:
    return Incident(
        id="inc-1", cause="registry:ghcr.io", episode=1, cluster="c", family="image", announced=announced,
        failure_class="image_pull_network", owner=owner("mallory"), state=State.HANDOVER, opened_at=NOW,
        state_since=NOW, since=NOW, deadline_at=NOW + timedelta(hours=1), recheck_every=10.0,
        symptoms=(owner("mallory"),), symptom_count=1,
    )  # fmt: skip


def symptom(of: ObjectRef) -> Input:
    diagnosis = Diagnosis(
        failure_class="image_pull_network", cause="registry:ghcr.io", owner=of, since=NOW, restarts=0,
        evidence=(Evidence(text="dial tcp", source="status"),),
    )  # fmt: skip
    pod = of.but(kind="Pod", api_version="v1", name=f"{of.name}-1", uid=f"{of.uid}-1")
    finding = Finding(
        id="f", cluster="c", outcome="failing", at=NOW, family="image", target=pod, why="dial tcp",
        diagnosis=diagnosis,
    )  # fmt: skip
    return Input(News.SYMPTOM, finding=finding)


def told(incident: Incident, *of: ObjectRef) -> list[str]:
    """Let symptoms come one after another; gives what people are told."""
    said = []
    for one in of:
        taken = step(incident, symptom(one), Policy(), NOW)
        assert taken.incident is not None
        incident = taken.incident
        said += [effect.text for effect in taken.effects if isinstance(effect, Tell)]
    return said


def test_credentials_that_fail_are_a_cause_of_one_namespace() -> None:
    mine = _cause("image_pull_auth", "ghcr.io", owner("mallory"))
    assert mine != _cause("image_pull_auth", "ghcr.io", owner("shop"))
    # What truly is the registry's stays one for all.
    assert _cause("image_pull_network", "ghcr.io", owner("mallory")) == "registry:ghcr.io#network"


def test_another_namespace_is_told_once_that_it_has_it_too() -> None:
    said = told(of_the_attacker(), owner("shop"), owner("shop", "api"), owner("bank"), owner("mallory", "b"))
    assert said == [
        "Also in namespace shop: Deployment shop/web.", "Also in namespace bank: Deployment bank/web.",
    ]  # fmt: skip


def test_an_outage_of_all_does_not_page_for_each_of_two_hundred_namespaces() -> None:
    said = told(of_the_attacker(), *(owner(f"team-{number}") for number in range(200)))
    assert len(said) == MOST_PLACES_TOLD - 1


def test_what_is_not_announced_yet_says_it_all_when_it_is() -> None:
    assert told(of_the_attacker(announced=False), owner("shop")) == []


def test_without_the_word_the_others_failures_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "_also_in", lambda *_: ())
    assert told(of_the_attacker(), owner("shop")) == []
