"""What holds an action whatever it plans: the values of its `action.yaml` that this package needs of it.

An action is a layer above; so it gives its bounds as values. Who makes one: `Action.cage`. Who takes one: the
sender, which carries out nothing else, and the promise, to which plans and the sandbox's API server are held.
"""

from quietpager.model.data import Data


class Bound(Data):
    """The least and the most that a parameter of the action may be."""

    min: float | None = None
    max: float | None = None


class Cage(Data):
    """The limits of one action.

    `kinds` are the kinds of change that it may send, `applies_to` the kinds of object that it is for,
    `may_change` the fields that a patch may touch. `restores`: its inverse gives back what there was.
    `times`: how many times more, or less, an amount may become.
    """

    action: str
    applies_to: tuple[str, ...]
    kinds: tuple[str, ...]
    may_change: tuple[str, ...] = ()
    restores: bool = False
    bounds: dict[str, Bound] = {}
    times: float = 1
