"""A namespace's own editor opts it in, by the label, though the cluster's admin never agreed.

By default neither `edit` nor `admin` may write a Namespace (Kubernetes, Using RBAC Authorization,
User-facing roles), but platforms let tenants do it, or make namespaces from what tenants write. So the
label alone opts nothing in: the policy, which is the admin's, must name the namespace as well; and one
that names none lets nothing be written.
"""

import pytest

from quietpager.cli.policy import explain
from quietpager.incident.policy import Places, Policy, read_policy
from quietpager.model.incident import State
from tests.flow.harness import QUICK
from tests.flow.test_stories import OOM, World, memory
from tests.flow.test_stories import world as _world

world = _world


@pytest.fixture(params=[Places(), Places(allow=("shop", "Team-*")), Places(allow=("*",), deny=("team-4?",))])
def unnamed(world: World, request: pytest.FixtureRequest) -> World:
    """Give the product with a policy that does not let team-45 be written to; its label is there."""
    world.product.policy = QUICK.but(namespaces=request.param)
    world.product.__post_init__()
    world.load(OOM, events=False)
    return world


def test_the_label_alone_opts_nothing_in(unnamed: World) -> None:
    assert unnamed.product.run_until(unnamed.ended("cache"))
    assert unnamed.the("cache").state is State.BLOCKED
    sentence = (
        "The policy's `namespaces` does not let team-45 be written to, and the label alone is not enough."
    )
    assert unnamed.the("cache").refusals == (f"Guard 2 (protected): {sentence}",)
    assert memory(unnamed.deployment("team-45", "cache")) == "32Mi"
    assert unnamed.writes() == []
    said = explain(unnamed.product.store, unnamed.the("cache").id)
    assert "in_policy no, labelled yes" in said
    assert sentence in said


def test_without_the_policys_word_the_label_would_do(unnamed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Policy, "names", lambda _policy, _namespace: True)
    assert unnamed.product.run_until(unnamed.ended("cache"))
    assert memory(unnamed.deployment("team-45", "cache")) == "64Mi"


@pytest.mark.parametrize("text", ["", "autonomy: auto\n", "autonomy: auto\nnamespaces: {deny: [x]}\n"])
def test_a_policy_that_names_none_lets_nothing_be_written(text: str) -> None:
    policy = read_policy(text, "p")
    assert not any(policy.may_write(name) for name in ("shop", "default", "team-a", ""))
