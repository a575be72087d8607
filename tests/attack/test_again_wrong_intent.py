"""A remediator is told to carry out what is not its own: another action's intent, or one for another kind.

Whoever may say `remedy.apply` chooses which function hears it (by the attribute `action`) and which intent it
names. A remediator that took the word for it claimed an intent of another action; its account's rights
refused the patch, `refused` was recorded, and the right remediator never had its turn. And whoever writes to
the store could write an intent for any kind of object.
"""

from typing import Any

import pytest

from quietpager.actions.schema import load_actions
from quietpager.change import send
from quietpager.model.incident import IntentState
from quietpager.runtime.context import functions_folder
from tests.contract import test_effect
from tests.contract.test_effect import World
from tests.contract.test_effect import server as _server
from tests.contract.test_effect import world as _world

server, world = _server, _world

ACTIONS = load_actions(functions_folder())
OTHERS = sorted(ACTIONS.keys() - {"raise-memory"})


def told_to(world: World, action: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the remediator of an action hear of the intent of raise-memory."""
    monkeypatch.setattr(test_effect, "RAISE_MEMORY", ACTIONS[action])
    return world.carry()


@pytest.mark.parametrize("action", OTHERS)
def test_an_intent_of_another_action_is_left_to_its_own_remediator(
    world: World, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.intent()
    with monkeypatch.context() as wrong:
        assert told_to(world, action, wrong) is None
    assert world.kept() == before
    assert world.writes == 0
    assert world.carry() is not None
    assert world.kept().state is IntentState.APPLIED


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "Node", "Namespace", "deployment", ""])
def test_an_intent_for_another_kind_is_never_claimed(world: World, kind: str) -> None:
    before = world.intent(target=world.target.but(kind=kind))
    assert world.carry() is None
    assert (world.kept(), world.writes) == (before, 0)


def test_without_the_check_another_remediator_takes_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.intent()
    monkeypatch.setattr(send, "is_for", lambda *_: True)
    assert told_to(world, "set-requests", monkeypatch) is not None
    assert world.kept().state is not IntentState.INTENT
