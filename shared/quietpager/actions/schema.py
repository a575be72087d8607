"""What an `action.yaml` may say. Who reads it: the remediators, decide, rendering of RBAC."""

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import ValidationError, model_validator
from yaml import YAMLError

from quietpager.change.cage import Bound, Cage
from quietpager.change.kinds import KINDS, kinds_of
from quietpager.change.write import Right
from quietpager.errors import Refused
from quietpager.model.data import Data
from quietpager.model.folders import Roots, find
from quietpager.model.incident import Applies, Autonomy, UndoWhen, Verify
from quietpager.model.quantity import quantity
from quietpager.model.yaml import Lines, faults, read_with_lines

ACTION: Final = "action.yaml"
"""The file that makes a folder an action's."""


class Param(Data):
    """Bounds of one parameter: a number within [min, max], a Kubernetes quantity, or text (an id)."""

    min: float | None = None
    max: float | None = None
    quantity: bool = False
    text: bool = False
    required: bool = False


class Access(Data):
    """Rights on the API server, as in an RBAC rule."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]


class Promise(Data):
    """What holds between the object as the last *other* writer left it and now, whatever the action sends.

    `says` is the sentence; its bounds are those in the action's `params`, and `times`: how many times more,
    or less, an amount may become. Held by `change.promise`, and on the API server by what
    `shared/quietpager/render/cage.py` renders.
    """

    says: str
    times: float = 1


class Action(Data):
    """One entry of the catalogue.

    `autonomy_at_most` caps the dial for this action, whatever the rule and the policy say. `approvals` is
    how many different people must approve it, where it is asked about.
    """

    name: str
    summary: str
    applies_to: tuple[str, ...]
    params: dict[str, Param] = {}
    inverse: Literal["restore", "none"]
    undo_when: UndoWhen
    autonomy_at_most: Autonomy = Autonomy.AUTO
    approvals: Literal[1, 2] = 1
    guards: Applies
    read: tuple[Access, ...]
    write: tuple[Access, ...]
    may_change: tuple[str, ...]
    promise: Promise = Promise(says="nothing is written")
    verify: Verify = Verify()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of change that its rights are for; none, where it writes nothing."""
        return kinds_of(
            Right(group=one.group, resource=what, verb=verb)
            for one in self.write
            for what in one.resources
            for verb in one.verbs
        )

    @property
    def cage(self) -> Cage:
        """Its limits, as the sender and the promise take them."""
        return Cage(
            action=self.name,
            applies_to=self.applies_to,
            kinds=self.kinds,
            may_change=self.may_change,
            restores=self.inverse == "restore",
            bounds={name: Bound(min=one.min, max=one.max) for name, one in self.params.items()},
            times=self.promise.times,
        )

    @model_validator(mode="after")
    def _guards_fit_the_rights(self) -> Self:
        """An action may not spare itself a guard that its own rights call for."""
        kinds = {name: KINDS[name] for name in self.kinds}
        needs = [kind.NEEDS for kind in kinds.values()]
        if any(
            (one.fraction and not self.guards.fraction) or (one.pdb and not self.guards.pdb) for one in needs
        ):
            raise ValueError("guards: what may remove pods needs `fraction: yes` and `pdb: yes`.")
        if any(one.rollout_of_others for one in needs) and self.guards.rollout_of_others == "ignore":
            raise ValueError("guards: what changes a workload needs `rollout_of_others: refuse`.")
        for said in ("promise", "verify"):
            if self.write and said not in self.model_fields_set:
                what = (
                    "what holds, whatever it sends" if said == "promise" else "how it is known that it helped"
                )
                raise ValueError(f"{said}: what may write needs to say {what}.")
        if bool(self.write) is (self.verify.goal == "nothing_written"):
            raise ValueError(
                "verify: the goal `nothing_written` belongs to what writes nothing, and only to that."
            )
        if (self.inverse == "none") is not (self.undo_when == "never"):
            raise ValueError("undo_when: `never` belongs to `inverse: none`, and to nothing else.")
        if lost := [name for name, kind in kinds.items() if not kind.INVERSE and self.inverse == "restore"]:
            raise ValueError(f"inverse: nothing takes back a change of kind {lost[0]}; say `inverse: none`.")
        if any(one.approvals > self.approvals for one in needs):
            raise ValueError("approvals: what may remove pods or change nodes needs `approvals: 2`.")
        return self

    def check_params(self, params: dict[str, str | float]) -> None:
        """Hold parameters against their bounds; raises Refused with the sentence."""
        for name in params:
            if name not in self.params:
                raise Refused(f"{self.name} has no parameter {name}.")
        for name, bound in self.params.items():
            if name not in params:
                if bound.required:
                    raise Refused(f"{self.name} needs parameter {name}.")
                continue
            self._check_one(name, bound, params[name])

    def _check_one(self, name: str, bound: Param, value: str | float) -> None:
        if bound.text:
            if not isinstance(value, str) or not value:
                raise Refused(f"{self.name}: {name} is {value!r}, not text.")
            return
        try:
            number = quantity(value) if bound.quantity else Decimal(repr(float(value)))
        except (ValueError, ArithmeticError) as wrong:
            raise Refused(f"{self.name}: {name} is {value!r}: {wrong}.") from None
        low, high = bound.min, bound.max
        if (
            not number.is_finite()
            or (low is not None and number < Decimal(str(low)))
            or (high is not None and number > Decimal(str(high)))
        ):
            raise Refused(f"{self.name}: {name} is {value}, allowed is {low} to {high}.")

    def outside(self, pointers: tuple[str, ...]) -> tuple[str, ...]:
        """Name the JSON pointers that `may_change` does not cover, in its own spelling."""
        patterns = [_pattern(path) for path in self.may_change]
        return tuple(p for p in pointers if not any(one.fullmatch(p) for one in patterns))


def _pattern(path: str) -> re.Pattern[str]:
    parts = [re.escape(part) for part in path.replace("[*]", ".*").split(".")]
    return re.compile("/" + "/".join(r"[0-9]+" if part == r"\*" else part for part in parts) + r"(/.*)?")


def load_action(path: Path) -> Action:
    """Read one action.

    Raises:
        ValueError: it is not an action; the text names the file, the line and the field.
    """
    return read_action(path)[0]


def read_action(path: Path) -> tuple[Action, Lines]:
    """Read one action with the lines of its fields; raises as `load_action` does."""
    lines: Lines = {}
    try:
        found, lines = read_with_lines(path)
        return Action.model_validate(found), lines
    except ValidationError as wrong:
        raise ValueError(f"{path} is not an action: {faults(wrong, lines)}") from wrong
    except (ValueError, YAMLError) as wrong:
        raise ValueError(f"{path} is not an action: {wrong}") from wrong


def load_actions(functions: Roots) -> dict[str, Action]:
    """Read every `action.yaml` of the function folders: the catalogue."""
    found = (load_action(path) for path in find(functions, ACTION, "remediate/*"))
    return {action.name: action for action in found}


def autonomy_limit(actions: Mapping[str, Action], name: str) -> Autonomy:
    """Give an action's own limit; what the catalogue does not know is asked about."""
    action = actions.get(name)
    return Autonomy.APPROVE if action is None else action.autonomy_at_most
