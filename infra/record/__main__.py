"""`python -m infra.record NAME MANIFEST`: one fault, applied for real and saved as a case.

The namespace is new and is deleted at the end. The case lies in OUT/NAME, ready for `quietpager replay`;
what was expected of it is for a person to write into expected.yaml, or given with --class. Values of
environment variables in a manifest are saved as they stand in the pod: put no secret there.
"""

import argparse
from pathlib import Path
from uuid import uuid4

from infra.record import case, kube
from infra.record.recording import UNTIL, Recording, record
from infra.testbed import layout


def main() -> None:
    """Run the command.

    Raises:
        SystemExit: with a sentence, where there is nothing that could be saved.
    """
    parser = argparse.ArgumentParser(prog="python -m infra.record", description=__doc__)
    parser.add_argument("name", help="the case's folder, such as 30-oom-bounded")
    manifest = "YAML without namespaces; what comes again is applied once all before is well"
    parser.add_argument("manifest", type=Path, help=manifest)
    parser.add_argument("--out", type=Path, default=Path("cases"), help="where its folder goes (%(default)s)")
    parser.add_argument("--reason", default="", help="the Event to judge; without it, the first Warning")
    until = "settled: the status says what the Event said; well: all has come right (%(default)s)"
    parser.add_argument("--until", choices=UNTIL, default="settled", help=until)
    parser.add_argument("--seconds", type=float, default=120.0, help="the longest to wait (%(default)s)")
    parser.add_argument("--class", dest="failure_class", default=case.OPEN, help="what replay has to answer")
    parser.add_argument("--acceptable", action="append", default=[], help="another right answer; repeatable")
    parser.add_argument("--stream", action="store_true", help="save all that was watched, too: streams/")
    parser.add_argument("--kubeconfig", type=Path, default=layout.KUBECONFIG, help="%(default)s")
    wanted = parser.parse_args()
    folder = wanted.out / wanted.name
    if folder.exists():
        raise SystemExit(f"{folder} is there already: remove it, or record under another name.")
    cluster = kube.Kubectl(wanted.kubeconfig, f"rec-{uuid4().hex[:6]}")
    steps = case.steps(wanted.manifest.read_text(encoding="utf-8"))
    found = record(cluster, steps, reason=wanted.reason, until=wanted.until, seconds=wanted.seconds)
    _save(found, folder, case.expected(wanted.failure_class, wanted.acceptable), stream=wanted.stream)
    print(f"{folder}: {found.trigger['reason']}, {len(found.objects)} objects, "  # noqa: T201 (its output)
          f"{len(found.related)} other Events")  # fmt: skip


def _save(found: Recording, folder: Path, expected: str, *, stream: bool) -> None:
    files = case.files(found.trigger, found.objects, found.related, found.previous_logs, expected)
    if stream:
        files |= case.streams(found.seen)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
