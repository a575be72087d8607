"""A function that calls a program has it in its image, with all that it links to."""

import pytest

from infra.images.function import find
from infra.testbed.addons import kubectl

pytestmark = pytest.mark.timeout(120)

NOWHERE = "https://127.0.0.1:1/manifests.git"
CALLERS = [one.name for one in find() if "git" in one.programs]


@pytest.mark.parametrize("name", CALLERS)
def test_git_runs_and_gets_as_far_as_the_network(name: str) -> None:
    asked = ("-n", "quietpager", "exec", f"deploy/{name}", "--", "git", "ls-remote", NOWHERE)
    done = kubectl(*asked, check=False)
    assert done.returncode != 0
    # Its https helper is another program, and links to most of the libraries.
    assert "Failed to connect to 127.0.0.1" in done.stderr, done.stderr


def test_a_function_that_calls_none_has_none() -> None:
    done = kubectl("-n", "quietpager", "exec", "deploy/govern-decide", "--", "git", "--version", check=False)
    assert done.returncode != 0
    assert "no such file" in done.stderr.lower() or "not found" in done.stderr.lower(), done.stderr
