"""What each action promises beyond "everything else is equal", as rules in CEL. Called by `cage`.

The same rules, by the same names, are in Python in `quietpager.change.promise`; tests/cage holds the two
against each other and against a third judgement.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Final

from quietpager.actions.schema import Action, Param
from quietpager.change.marks import BOUNDED, ROLLED, SHAPED, WROTE
from quietpager.change.promise import CONTAINER, HANDLERS, HARMLESS, REPOSITORY
from quietpager.change.rule import Rule, text
from quietpager.render.cel import (
    NEW,
    OLD,
    amount,
    double,
    each_amount,
    of_each,
    quantity,
    without,
)
from quietpager.render.fields import Fields


def rules_of(action: Action) -> list[Rule]:
    """Give the action's own rules, in their order.

    Raises:
        ValueError: no promise of this action is known.
    """
    if action.name not in _PROMISES:
        raise ValueError(
            f"No cage is known for action {action.name}: it would write with nothing but its role to hold "
            "it. Write what it promises in shared/quietpager/render/promises.py."
        )
    return [_present(action), _changes(action), *_records(action), *_PROMISES[action.name](action)]


def amounts(action: Action) -> list[str]:
    """Give the amounts that an action may change, by their paths below a container, in order."""
    below = (path.removeprefix(CONTAINER) for path in action.may_change)
    return sorted(path for path in below if path.count(".") == 2)


def changed_amounts(action: Action, old: str, new: str) -> str:
    """Render the list of a container's amounts that differ, each as `limits.memory=256Mi/512Mi`.

    `old` and `new` name the containers before and after: for an undo's record it is the other way round.
    """
    parts = []
    for path in amounts(action):
        _, kind, name = path.split(".")
        was, now = amount(old, kind, name), amount(new, kind, name)
        said = f"{text(f'{kind}.{name}=')} + {was}.value() + '/' + {now}.value()"
        parts.append(f"{was} == {now} || !{was}.hasValue() || !{now}.hasValue() ? '' : {said}")
    return f"[{', '.join(parts)}].filter(f, f != '')"


def record(action: Action, of: str, changed: str) -> str:
    """Render the record that belongs to an object: action, uid, generation, and what changed."""
    meta = f"{of}.metadata"
    return f"{text(action.name + '/')} + {meta}.uid + '/' + string({meta}.generation) + ':' + {changed}"


def shape(containers: str) -> str:
    """Render what `quietpager.change.marks.shape_of` writes, of the containers of one object."""
    parts = ["c.name + '=' + c.?image.orValue('')"]
    for kind in BOUNDED:
        for name in SHAPED:
            one = amount("c", kind, name)
            parts.append(f"({one}.hasValue() ? {text(f' {kind}.{name}=')} + {one}.value() : '')")
    return f"{containers}.map(c, {' + '.join(parts)}).join('; ')"


def _present(action: Action) -> Rule:
    parts = []
    for path in amounts(action):
        _, kind, name = path.split(".")
        parts.append(f"{amount('c', kind, name)}.hasValue() == {amount('o', kind, name)}.hasValue()")
    return Rule("present", of_each(" && ".join(parts)), "it may neither set nor unset a limit or a request")


def _changes(action: Action) -> Rule:
    """A write that changes nothing would make room for an undo. The same amount, spelt otherwise, is none."""
    parts = []
    for path in amounts(action):
        _, kind, name = path.split(".")
        new, old = amount("c", kind, name), amount("o", kind, name)
        parts.append(
            f"({new}.hasValue() && {old}.hasValue() && "
            f"quantity({new}.value()).compareTo(quantity({old}.value())) != 0)"
        )
    any_amount = f"{NEW}.exists(c, {OLD}.filter(o, o.name == c.name).exists(o, {' || '.join(parts)}))"
    any_field = "object.spec != oldObject.spec"
    found = any_amount if action.inverse == "restore" else any_field
    return Rule("changes", f"variables.undo || {found}", "it must change something")


def _records(action: Action) -> list[Rule]:
    """Bind an undo to its forward write: that one records old and new amounts, and at which generation.

    Any other write since has moved the generation, and the record is true no more.
    """
    rolls = "true" if action.name == "rollout-undo" else "variables.isRolledBack"
    found = [
        Rule(
            "rolled",
            f"variables.rolled == ({rolls} ? variables.shape : variables.oldRolled)",
            f"the annotation {ROLLED} must say how a rollback left it, and go along",
        ),
        Rule(
            "record",
            f"variables.undo || variables.wrote == {record(action, 'object', 'variables.changed')}",
            f"the annotation {WROTE} must hold exactly what it changes",
        ),
    ]
    if action.inverse == "restore":
        found.append(
            Rule(
                "undo",
                "!variables.undo || (variables.oldWrote == "
                f"{record(action, 'oldObject', 'variables.restored')} && "
                f"!({text(WROTE)} in object.metadata.?annotations.orValue({{}})))",
                f"an undo must restore exactly what {WROTE} says, and remove it",
            )
        )
    return found


def _raise_memory(action: Action) -> list[Rule]:
    """Forward: up, by the factor at most and to the ceiling at most. Undo: down, by the factor at most.

    The last holds a record that somebody else wrote: whoever may edit the object can forge one.
    """
    paths = amounts(action)
    factor, ceiling = _most(action, "factor"), _most(action, "ceiling")
    return [
        Rule(
            "up",
            f"variables.undo || {each_amount(paths, lambda n, o, _: f'{n}.compareTo({o}) >= 0')}",
            "it may lower memory only to undo its latest intent",
        ),
        Rule(
            "factor",
            "variables.undo || "
            + each_amount(
                paths,
                lambda n, o, _: f"{n}.asApproximateFloat() <= {o}.asApproximateFloat() * {double(factor)}",
            ),
            f"it may raise memory by a factor of {factor} at most",
        ),
        Rule(
            "ceiling",
            "variables.undo || "
            + each_amount(paths, lambda n, _o, _: f"{n}.compareTo({quantity(ceiling)}) <= 0"),
            f"it may raise memory to {ceiling} bytes at most",
        ),
        Rule(
            "back",
            "!variables.undo || "
            + each_amount(
                paths,
                lambda n, o, _: (
                    f"{n}.compareTo({o}) <= 0 && "
                    f"{o}.asApproximateFloat() <= {n}.asApproximateFloat() * {double(factor)}"
                ),
            ),
            f"an undo may lower memory by a factor of {factor} at most",
        ),
    ]


def _set_requests(action: Action) -> list[Rule]:
    """Forward: down, to the least at most. Undo: up again, to the most at most."""
    paths = amounts(action)
    names = sorted({path.rpartition(".")[2] for path in paths})
    bounds = {name: _bound(action, name) for name in names}
    least = {name: _decimal(action, name, bound.min) for name, bound in bounds.items()}
    most = {name: _decimal(action, name, bound.max) for name, bound in bounds.items()}
    return [
        Rule(
            "down",
            f"variables.undo || {each_amount(paths, lambda n, o, _: f'{n}.compareTo({o}) <= 0')}",
            "it may raise a request only to undo its latest intent",
        ),
        Rule(
            "least",
            "variables.undo || "
            + each_amount(paths, lambda n, _o, name: f"{n}.compareTo({quantity(least[name])}) >= 0"),
            f"a request must stay at {_said(least)} at least",
        ),
        Rule(
            "back",
            "!variables.undo || "
            + each_amount(
                paths,
                lambda n, o, name: f"{n}.compareTo({o}) >= 0 && {n}.compareTo({quantity(most[name])}) <= 0",
            ),
            f"an undo may only raise a request, to {_said(most)} at most",
        ),
    ]


def _rollout_undo(action: Action) -> list[Rule]:
    """Admission cannot see the older revision; so it holds what a rollback has no need to change.

    An older image comes from the same repository, whatever its tag or digest; amounts stay near what they
    were; a probe gains no command, no header and no other host. And once: a second rollback, where nobody but
    our actions has changed an image or an amount since, could lead anywhere, a step of four at a time.
    """
    times = _decimal(action, "times", action.promise.times)
    repository = f".image.find({text(REPOSITORY)})"
    held = double(times)
    return [
        Rule(
            "near",
            each_amount(
                amounts(action),
                lambda n, o, _: (
                    f"{n}.asApproximateFloat() <= {o}.asApproximateFloat() * {held} && "
                    f"{o}.asApproximateFloat() <= {n}.asApproximateFloat() * {held}"
                ),
            ),
            f"an amount may be 1/{times} of what it was at least, and {times} times that at most",
        ),
        Rule(
            "image",
            of_each(f"c{repository} == o{repository}"),
            "an image may change its tag or digest, not its repository",
        ),
        Rule("probe", "variables.probes == ''", "a probe may not gain this", "variables.probes"),
        Rule(
            "once",
            "!variables.isRolledBack",
            "it rolled this back already, and images and amounts are as our own writes left them",
        ),
    ]


_PROMISES: Final[Mapping[str, Callable[[Action], list[Rule]]]] = {
    "raise-memory": _raise_memory,
    "rollout-undo": _rollout_undo,
    "set-requests": _set_requests,
}
"""An action that is not among these is not rendered."""


def probes(names: Iterable[str], fields: Fields) -> str:
    """Render the list of what a container's probes gain and may not."""
    parts = []
    for name in names:
        parts.append(_gained(f".?{name}", "Probe", name, fields))
        parts += [
            _gained(f".?{name}.?{handler}", kind, f"{name}.{handler}", fields)
            for handler, kind in HANDLERS.items()
        ]
    return " + ".join(part for part in parts if part)


def _gained(path: str, kind: str, label: str, fields: Fields) -> str:
    held = without(fields[kind], HARMLESS[kind])
    each = [
        f"!c{path}.?{name}.hasValue() || c{path}.?{name} == o{path}.?{name} ? '' : {text(f'{label}.{name}')}"
        for name in held
    ]
    return f"[{', '.join(each)}].filter(f, f != '')" if each else ""


# Numbers


def _bound(action: Action, name: str) -> Param:
    if name not in action.params:
        raise ValueError(f"{action.name} states no bounds of {name}; the cage needs them in `params`.")
    return action.params[name]


def _most(action: Action, name: str) -> Decimal:
    return _decimal(action, name, _bound(action, name).max)


def _decimal(action: Action, name: str, value: float | None) -> Decimal:
    if value is None:
        raise ValueError(f"{action.name} leaves {name} without a bound; the cage needs one in `params`.")
    number = Decimal(str(value))
    return number.to_integral_value() if number == number.to_integral_value() else number


def _said(bounds: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{name} {value:f}" for name, value in bounds.items())
