"""Runs a program; on SIGUSR1 it writes which modules are loaded and which sources had to be compiled.

`python spy.py ANSWER MAIN`: what `test_func.py` starts in place of `python MAIN`.
"""

import json
import runpy
import signal
import sys
from pathlib import Path

COMPILED: list[str] = []


def note(event: str, about: tuple[object, ...]) -> None:
    if event == "compile" and isinstance(about[1], str) and about[1].endswith(".py"):
        COMPILED.append(about[1])


def answer(*_: object) -> None:
    place = Path(sys.argv[1])
    part = place.with_suffix(".part")
    part.write_text(json.dumps({"modules": sorted(sys.modules), "compiled": COMPILED}), encoding="utf-8")
    part.rename(place)


if __name__ == "__main__":
    sys.addaudithook(note)
    signal.signal(signal.SIGUSR1, answer)
    runpy.run_path(sys.argv[2], run_name="__main__")
