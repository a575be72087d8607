"""The watchdog speaks once for each change of state, and needs nothing of what it watches."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietpager.cli.watchdog import UNWELL, WELL, Watch, after, look, run, seconds, tell_people
from quietpager.people.channels import CHANNELS


class Probe:
    """An HTTP server that answers with these codes, the last one for ever."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                code = outer.codes.pop(0) if len(outer.codes) > 1 else outer.codes[0]
                self.send_response(code)
                self.end_headers()
                self.wfile.write(b"clock: 40 s\nold")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def probe() -> Iterator[Probe]:
    one = Probe(200)
    yield one
    one.server.shutdown()
    one.server.server_close()


def play(probe: Probe, *codes: int, limit: int = 2) -> list[str]:
    told: list[str] = []

    def tell(headline: str, text: str) -> bool:
        told.append(f"{headline}: {text}")
        return True

    probe.codes = list(codes)
    run(probe.url, "1ms", limit, rounds=len(codes), tell=tell, sleep=lambda _: None)
    return told


def test_one_alarm_and_one_all_clear(probe: Probe) -> None:
    unwell, well = play(probe, 200, 503, 503, 503, 503, 200, 200)
    assert unwell.startswith(f"{UNWELL}: The probe answers 503. clock: 40 s old")
    assert well.startswith(f"{WELL}: ")


def test_a_single_miss_is_none(probe: Probe) -> None:
    assert play(probe, 200, 503, 200, 503, 200) == []


def test_nobody_at_home_is_unwell() -> None:
    assert str(look("http://127.0.0.1:1/")).startswith("The probe does not answer (Connection")


@given(st.lists(st.tuples(st.booleans(), st.booleans())), st.integers(1, 4))
def test_people_know_what_is_so_unless_they_could_not_be_told(
    rounds: list[tuple[bool, bool]], limit: int
) -> None:
    watch, known, in_a_row = Watch(), "well", 0
    for well, reached in rounds:
        said: list[str] = []

        def tell(headline: str, _text: str, said: list[str] = said, reached: bool = reached) -> bool:
            said.append("well" if headline == WELL else "unwell")
            return reached

        watch = after(watch, None if well else "away", limit, tell)
        in_a_row = 0 if well else in_a_row + 1
        wanted = "well" if well else "unwell" if in_a_row >= limit else known
        assert said == ([wanted] if wanted != known else [])
        if said and reached:
            known = wanted
        assert watch.alarmed is (known == "unwell")


def test_it_tells_through_the_channels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(
        CHANNELS, json.dumps([{"kind": "terminal"}, {"kind": "slack", "url": "http://127.0.0.1:1"}])
    )
    assert tell_people(UNWELL, "silent")
    assert "  silent\n" in capsys.readouterr().out
    monkeypatch.setenv(CHANNELS, json.dumps([{"kind": "slack", "url": "http://127.0.0.1:1"}]))
    assert not tell_people(UNWELL, "silent")


def test_durations() -> None:
    assert [seconds(text) for text in ("500ms", "10s", "2m")] == [0.5, 10.0, 120.0]
    for wrong in ("10", "0s", "-1s", "s", "1h"):
        with pytest.raises(SystemExit):
            seconds(wrong)
