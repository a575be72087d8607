"""What a `rule.yaml` may say. Who reads it: intake and sweep (routes), detectors (classes)."""

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError, field_validator
from yaml import YAMLError

from quietpager.model.data import Data
from quietpager.model.finding import Dwell, Remedy
from quietpager.model.folders import Roots, find
from quietpager.model.incident import Autonomy
from quietpager.model.signal import Origin
from quietpager.model.yaml import Lines, faults, read_with_lines
from quietpager.rules.looking import Look
from quietpager.rules.patterns import pattern

RULE: Final = "rule.yaml"
"""The file that makes a folder a rule's."""


class Route(Data):
    """Which signals a family wants. An empty list matches anything; the higher priority wins.

    `message` is a pattern of plain texts, `^`, `(one|another)` and `.*` (see `rules.patterns`).
    """

    kind: str
    reason: tuple[str, ...] = ()
    component: tuple[str, ...] = ()
    type: Literal["Normal", "Warning", ""] = ""
    message: str = ""
    origin: Origin | Literal[""] = ""
    priority: int = 50

    @field_validator("reason", "component", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("message")
    @classmethod
    def _is_a_pattern(cls, value: str) -> str:
        pattern(value)
        return value


class Candidate(Data):
    """A remedy a rule proposes, if all facts named in `when` hold."""

    action: str
    params: dict[str, str | float] = {}
    when: tuple[str, ...] = ()


class FailureClass(Data):
    """What is done about one failure class. `cause` is the kind of its cause key, the part before `:`."""

    cause: Literal["workload", "registry", "configmap", "secret", "pvc"] = "workload"
    dwell: Dwell = Dwell()
    remedies: tuple[Candidate, ...] = ()
    autonomy: Autonomy = Autonomy.ALERT


class Rule(Data):
    """One `rule.yaml`. `benign`: signals that are dropped although they are Warnings.

    `sweep`: what is looked for where no Event tells (`rules.looking`).
    """

    family: str
    routes: tuple[Route, ...] = ()
    sweep: tuple[Look, ...] = ()
    benign: tuple[Route, ...] = ()
    classes: dict[str, FailureClass] = Field(default_factory=dict)

    def candidates(self, failure_class: str, facts: frozenset[str]) -> tuple[Remedy, ...]:
        """Choose the remedies whose conditions hold, in the rule's order."""
        known = self.classes.get(failure_class)
        if known is None:
            return ()
        return tuple(Remedy(action=c.action, params=c.params) for c in known.remedies if facts >= set(c.when))


def load_rule(path: Path) -> Rule:
    """Read one rule.

    Raises:
        ValueError: it is not a rule; the text names the file, the line and the field.
    """
    return read_rule(path)[0]


def read_rule(path: Path) -> tuple[Rule, Lines]:
    """Read one rule with the lines of its fields; raises as `load_rule` does."""
    lines: Lines = {}
    try:
        found, lines = read_with_lines(path)
        return Rule.model_validate(found), lines
    except ValidationError as wrong:
        raise ValueError(f"{path} is not a rule: {faults(wrong, lines)}") from wrong
    except (ValueError, YAMLError) as wrong:
        raise ValueError(f"{path} is not a rule: {wrong}") from wrong


def load_rules(functions: Roots) -> tuple[Rule, ...]:
    """Read every `rule.yaml` of the function folders, in the order of their places."""
    return tuple(load_rule(path) for path in find(functions, RULE))
