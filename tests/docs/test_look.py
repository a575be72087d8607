"""The README's look at a cluster is what the command prints, on a sandbox that holds what it shows."""

import re
from pathlib import Path

import pytest

from infra.docs import ROOT
from quietpager.incident.policy import POLICY_FILE
from quietpager.model.time import system_clock
from quietpager.sandbox.load import load_case
from quietpager.sandbox.server import running
from tests.docs.test_readme import BLOCK, README, shell
from tests.flow.test_scan import write_kubeconfig

SHOWN = ("ingest/intake/cases/25-healthy-pulled", "detect/crash/cases/30-oom-bounded",
         "detect/image/cases/32-bad-tag-new-revision")  # fmt: skip
AGE = re.compile(r"\b\d+[smhd] ")


def test_the_readmes_scan_is_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = README.split("## Look at your own cluster\n")[1].split("\n## ")[0]
    blocks = BLOCK.findall(section)
    (tmp_path / "functions").symlink_to(ROOT / "functions")
    with running(speed=0.001) as url:
        for case in SHOWN:
            load_case(url, ROOT / "functions" / case, system_clock())
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "config", url)))
        policy = tmp_path / "policy.yaml"
        policy.write_text("namespaces: {allow: [team-*]}\n", encoding="utf-8")
        monkeypatch.setenv(POLICY_FILE, str(policy))
        said = "".join(shell(body, tmp_path) for language, body in blocks if language == "sh")
    [shown] = [body for language, body in blocks if language == "text"]
    assert AGE.sub("AGE ", said) == AGE.sub("AGE ", shown)
