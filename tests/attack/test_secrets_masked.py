"""A workload puts secrets of every kind into whatever text we read; none comes through, and causes stay.

The attack: an Event, a status, a log or a condition holds a password, a token or a key, in one of the
ways in which software writes such things down. `mask` alone is tried first,
then each place where text enters.
"""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.typing import EventDict

from quietpager.analysis.logs import MOST, tail_of
from quietpager.cli.replay import replay
from quietpager.masking import library
from quietpager.masking import mask as module
from quietpager.masking.mask import mask
from quietpager.masking.shape import MASK
from quietpager.masking.told import masked
from quietpager.model.event import read_event
from quietpager.model.finding import Evidence, Healthy
from quietpager.model.page import Changed, Page
from quietpager.model.store import Audit, Put
from quietpager.model.text import clean
from quietpager.people.channels import Notice, slack_body
from quietpager.runtime.context import functions_folder
from quietpager.runtime.logs import mask_entry
from quietpager.store.memory import MemoryStore
from tests.secrets.ordinary import recorded, written
from tests.secrets.samples import Sample, samples

NOW = datetime(2026, 11, 22, 19, 26, 20, tzinfo=UTC)
ALL = pytest.mark.parametrize("sample", samples(), ids=lambda s: f"{s.kind}: {s.text[:30]!r}")


def test_there_are_enough_samples_of_enough_kinds_and_each_is_a_leak_without_a_mask() -> None:
    assert len(samples()) >= 120
    assert len({one.kind for one in samples()}) >= 25
    assert all(set(one.seen_in(one.text)) == set(one.secrets) != set() for one in samples())
    assert len(written()) + len(recorded()) >= 500


@ALL
def test_no_secret_of_any_kind_comes_through(sample: Sample) -> None:
    said = mask(sample.text)
    assert sample.seen_in(said) == []
    assert MASK in said
    assert mask(said) == said


def test_ordinary_lines_stay_readable() -> None:
    lines = written() + recorded()
    altered = [line for line in lines if mask(line) != line]
    assert len(altered) <= len(lines) // 100, altered
    assert [line for line in recorded() if mask(line) != line] == []


def test_without_the_librarys_detectors_some_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "mask_known", lambda text: text)
    assert any(one.seen_in(module._mask(one.text)) for one in samples())


def test_without_our_own_patterns_most_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_mask", library.mask_known)
    assert sum(bool(one.seen_in(module._mask(one.text))) for one in samples()) > 40


# Where text enters. Each gives everything that is made of it.


def event(text: str) -> str:
    raw = {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "shop", "uid": "u"},
        "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web-1"}, "type": "Warning",
        "reason": "Failed", "message": text,
    }  # fmt: skip
    read = read_event(raw, received=NOW)
    return f"{read!r}{json.dumps([read.to_json(), read.signal('crash').to_message().to_json()])}"


def status(text: str) -> str:
    one = Evidence(
        text=f"app waits: CreateContainerError: {clean(text, 384)}", source="status of Pod shop/web-1"
    )
    return f"{one!r}{json.dumps(one.to_json())}"


def joined(text: str) -> str:
    """As the detectors do: one line of it."""
    return Healthy(why=" ".join(clean(f"container app: {text}").split())).why


def cut(text: str) -> str:
    """A limit that falls into the secret; half of it has no shape any more."""
    return "".join(clean(f"{text} {'x' * 400}", n) for n in range(20, len(text), 7))


def log(text: str) -> str:
    return json.dumps(tail_of(f"starting\nERROR: it said\n{text}\nbye\n".encode()).to_json())


def condition(text: str) -> str:
    what = Changed(what=f"condition Ready became False: {text}", source="status")
    page = Page(summary=text, at=NOW, since=NOW, changed=(what,), look_next=(text,), missing=(text,))
    return f"{page!r}{json.dumps(page.but(helped=(text,)).to_json())}"


def annotation(text: str) -> str:
    return json.dumps(masked({"metadata": {"annotations": {"note": text}}}))


def audited(text: str) -> str:
    store = MemoryStore()
    body = {"note": text, "deep": [{"answer": text}], "message": json.dumps({"probe": text})}
    store.transact([Audit("c", NOW, "refused", "x", body), Put("TELL#1", {"what": "x", "text": text}, 0)])
    return json.dumps([store.audit("c")[0].body, store.scan("TELL")[0].body])


def told(text: str) -> str:
    notice = Notice("n", "opened", f"unknown on shop/web: {text}", text, "quietpager show i", {"state": text})
    return f"{notice.lines}{notice!r}{json.dumps(slack_body(notice), ensure_ascii=False)}"


def logged(text: str) -> str:
    entry: EventDict = {"event": "handled", "error": text, "exception": f"Traceback\n{text}", "all": [text]}
    return json.dumps(mask_entry(None, "info", entry))


PLACES: dict[str, Callable[[str], str]] = {
    "Event": event, "status": status, "joined to a line": joined, "cut": cut, "log": log,
    "condition": condition, "annotation": annotation, "audit and tell": audited, "channels": told,
    "our log": logged,
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_no_sample_comes_through_any_place_where_text_enters(place: str) -> None:
    leaks = [(one.kind, one.text) for one in samples() if one.seen_in(PLACES[place](one.text))]
    assert leaks == []


@pytest.mark.parametrize("place", PLACES)
def test_without_the_mask_they_come_through_every_place(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_mask(monkeypatch)
    assert sum(bool(one.seen_in(PLACES[place](one.text))) for one in samples()) > 20


def without_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_mask", "_remembered"):
        monkeypatch.setattr(module, name, lambda text: text)


# The detectors themselves, on recorded cases


def planted(case: str, folder: Path, text: str) -> Path:
    """Put a text wherever the case's Events, conditions and containers say something."""
    shutil.copytree(functions_folder() / case, folder)
    for path in [*folder.glob("*.json"), *(folder / "objects").glob("*.json")]:
        path.write_text(json.dumps(_planted(json.loads(path.read_bytes()), text)))
    return folder


def _planted(value: Any, text: str) -> Any:
    if isinstance(value, list):
        return [_planted(one, text) for one in value]
    if not isinstance(value, dict):
        return value
    told_here = {"message", "note"} & set(value)
    after = {key: _planted(one, text) for key, one in value.items() if key != "managedFields"}
    return after | {key: f"{value[key]} {text}" for key in told_here if isinstance(value[key], str)}


CASES = (
    "detect/image/cases/32-bad-tag-new-revision", "detect/crash/cases/15-oomkilled",
    "detect/scheduling/cases/23-unschedulable", "analyze/unknown/cases/33-unknown-operator-event",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_detector_says_of_a_planted_case_holds_no_secret(case: str, tmp_path: Path) -> None:
    leaks = []
    for number, one in enumerate(samples()[::3]):
        [answer] = replay([planted(case, tmp_path / str(number), one.text)])
        if one.seen_in(json.dumps(answer, default=str)):
            leaks.append((one.text, answer["why"]))
    assert leaks == []


def test_without_the_mask_a_detector_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_mask(monkeypatch)
    [answer] = replay([planted(CASES[0], tmp_path / "x", "DB_PASS=Otter123xy")])
    assert "Otter123xy" in json.dumps(answer, default=str)


# Time


PIECES = [
    "x", "-", " ", "\n", "token", "token=", "secret_name=", "pass: ", "://", "://a:", 'token="', "token='",
    "eyJ", "a.", "bearer ", "\\", '\\"', '"\\', "name: token ", "Cookie: ", "authorization: ",
    "password: |\n ", "stringData:\n a: b\n", "stringData: ", "mysql -p ", "--token ",
    "-----BEGIN A KEY-----\n", "AKC", "xoxb-1-", "sk-", "pypi-AgEIcHlwaS5vcmc", "a:1234:b:c:", "u:p", '"',
    "<token>", "machine a login b password ", "aws key '", "'aB3", "password: | ", "key:    ",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_no_log_keeps_a_reader_busy(piece: str) -> None:
    """A quadratic pattern would run into pytest's time limit here: it is 64 KiB of one piece."""
    text = (piece * MOST)[:MOST]
    assert len(mask(text)) <= len(text) * len(MASK)
