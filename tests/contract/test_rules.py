"""Files that people write: what is wrong in them is said at the start, with the file's name."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietpager.actions.schema import Action, Param, load_action, load_actions
from quietpager.errors import Refused
from quietpager.model.incident import Applies
from quietpager.model.signal import UNKNOWN_FAMILY
from quietpager.rules.routing import Observation, render_routes
from quietpager.rules.schema import FailureClass, Route, Rule, load_rule, load_rules
from quietpager.runtime.context import functions_folder


def rule(family: str, *routes: Route, benign: tuple[Route, ...] = ()) -> Rule:
    return Rule(family=family, routes=routes, benign=benign, classes={"x": FailureClass()})


def signal(reason: str = "BackOff", message: str = "", kind: str = "Warning") -> Observation:
    return Observation(kind="Pod", reason=reason, message=message, type=kind)


BACKOFF = Route(kind="Pod", reason=("BackOff", "Failed"))


@pytest.mark.parametrize(
    "other",
    [
        BACKOFF,
        Route(kind="Pod"),
        Route(kind=""),
        Route(kind="Pod", reason=("Failed",)),
        Route(kind="Pod", type="Warning", message="^x"),
        Route(kind="", component=("kubelet",), origin="event"),
    ],
)
def test_routes_that_overlap_at_one_priority_are_refused_with_both_named(other: Route) -> None:
    with pytest.raises(ValueError, match="overlap at priority 50") as caught:
        render_routes((rule("one", BACKOFF), rule("two", other)))
    assert "one and two" in str(caught.value)
    with pytest.raises(ValueError, match="one and the benign list overlap"):
        render_routes((rule("one", BACKOFF), rule("two", benign=(other,))))


@pytest.mark.parametrize(
    "other",
    [
        BACKOFF.but(priority=51),
        Route(kind="Node", reason=("BackOff",)),
        Route(kind="Pod", reason=("Killing",)),
    ],
)
def test_routes_that_differ_or_have_an_order_are_accepted(other: Route) -> None:
    table = render_routes((rule("one", BACKOFF), rule("two", other)))
    assert table.families == {"one", "two"}


def test_one_family_may_overlap_with_itself() -> None:
    assert render_routes((rule("one", BACKOFF, BACKOFF),)).family_of(signal()) == "one"


def test_the_higher_priority_wins_in_any_order_of_files() -> None:
    low, high = rule("low", BACKOFF), rule("high", BACKOFF.but(priority=60))
    for rules in ((low, high), (high, low)):
        assert render_routes(rules).family_of(signal()) == "high"


def test_what_nobody_routes_is_unknown_and_dropped_if_normal() -> None:
    table = render_routes((rule("one", BACKOFF, benign=(Route(kind="Pod", reason=("ProbeWarning",)),)),))
    assert table.family_of(signal("Other")) == UNKNOWN_FAMILY
    assert table.family_of(signal("Other", kind="Normal")) is None
    assert table.family_of(signal("ProbeWarning")) is None


def test_the_rules_and_actions_of_the_product_are_valid() -> None:
    rules, actions = load_rules(functions_folder()), load_actions(functions_folder())
    assert {"crash", "image"} <= render_routes(rules).families
    for one in rules:
        for known in one.classes.values():
            for candidate in known.remedies:
                actions[candidate.action].check_params(candidate.params)


GOOD_RULE = "family: x\nroutes:\n  - {kind: Pod, reason: [A], priority: 50}\n"
GOOD_ACTION = (
    "{name: a, summary: s, applies_to: [Deployment], inverse: none, undo_when: never, read: [], "
    "write: [], may_change: [spec.replicas], guards: {fraction: no, rollout_of_others: refuse, pdb: no}"
)
EVICTS = "write: [{group: '', resources: [pods/eviction], verbs: [create]}]"
PATCHES = "write: [{group: apps, resources: [deployments], verbs: [patch]}]"
BAD_RULES = {
    "empty": "",
    "a list": "- 1\n",
    "no YAML": "family: [\n",
    "a tag that runs code": "family: !!python/object/apply:os.getcwd []\n",
    "no family": "routes: []\n",
    "a field nobody knows": GOOD_RULE + "colour: red\n",
    "a pattern that does not compile": "family: x\nroutes: [{kind: Pod, message: '('}]\n",
    "a route without a kind": "family: x\nroutes: [{reason: A}]\n",
    "a type that is none": "family: x\nroutes: [{kind: Pod, type: Error}]\n",
    "an autonomy that is none": "family: x\nclasses: {y: {autonomy: yolo}}\n",
    "two documents": "family: x\n---\nfamily: y\n",
}
BAD_ACTIONS = {
    "empty": "",
    "no YAML": "{",
    "no name": "{summary: s}",
    "a field nobody knows": GOOD_ACTION + ", force: true}",
    "an inverse that is none": GOOD_ACTION.replace("inverse: none", "inverse: maybe") + "}",
    "an undo_when that is none": GOOD_ACTION.replace("undo_when: never", "undo_when: often") + "}",
    "no guards": GOOD_ACTION.partition(", guards")[0] + "}",
    "a guard left out": GOOD_ACTION.replace(", pdb: no", "") + "}",
    "a guard nobody knows": GOOD_ACTION.replace("pdb: no", "pdb: no, luck: yes") + "}",
    "a rollout_of_others that is none": GOOD_ACTION.replace("others: refuse", "others: wait") + "}",
    "an eviction without a fraction": GOOD_ACTION.replace("write: []", EVICTS).replace("pdb: no", "pdb: yes")
    + "}",
    "an eviction that one person may approve": GOOD_ACTION.replace("write: []", EVICTS)
    .replace("fraction: no", "fraction: yes")
    .replace("pdb: no", "pdb: yes")
    + "}",
    "a change of nodes that one person may approve": GOOD_ACTION.replace(
        "write: []", "write: [{group: '', resources: [nodes], verbs: [patch]}]"
    )
    + "}",
    "more approvals than two": GOOD_ACTION + ", approvals: 3}",
    "an eviction without PodDisruptionBudgets": (
        GOOD_ACTION.replace("write: []", EVICTS).replace("fraction: no", "fraction: yes") + "}"
    ),
    "a change that ignores rollouts": (
        GOOD_ACTION.replace("write: []", PATCHES).replace("others: refuse", "others: ignore") + "}"
    ),
    "bounds that are no numbers": GOOD_ACTION + ", params: {f: {min: low}}}",
}


def test_a_good_file_of_each_kind_is_read(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD_RULE, encoding="utf-8")
    assert load_rule(path).family == "x"
    path.write_text(GOOD_ACTION + "}", encoding="utf-8")
    assert load_action(path).name == "a"


@pytest.mark.parametrize("what", BAD_RULES)
def test_a_bad_rule_is_refused_with_the_files_name(tmp_path: Path, what: str) -> None:
    path = tmp_path / "detect" / "x" / "rule.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(BAD_RULES[what], encoding="utf-8")
    with pytest.raises(ValueError, match="is not a rule") as caught:
        load_rules(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("what", BAD_ACTIONS)
def test_a_bad_action_is_refused_with_the_files_name(tmp_path: Path, what: str) -> None:
    path = tmp_path / "remediate" / "x" / "action.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(BAD_ACTIONS[what], encoding="utf-8")
    with pytest.raises(ValueError, match="is not an action") as caught:
        load_actions(tmp_path)
    assert str(path) in str(caught.value)


ACTION = Action(
    name="act", summary="s", applies_to=("Deployment",), inverse="none", undo_when="never", read=(), write=(),
    guards=Applies(fraction=False, rollout_of_others="refuse", pdb=False),
    may_change=("spec.template.spec.containers[*].resources.limits.memory", "spec.replicas"),
    params={
        "factor": Param(min=1.1, max=2, required=True),
        "size": Param(quantity=True, max=float(1 << 30)),
    },
)  # fmt: skip


@pytest.mark.parametrize(
    "params",
    [
        {"factor": 1.1}, {"factor": 2}, {"factor": "1.5"}, {"factor": 2, "size": "1Gi"},
        {"factor": 2, "size": 100},
    ],
)  # fmt: skip
def test_parameters_within_bounds_are_accepted(params: dict[str, str | float]) -> None:
    ACTION.check_params(params)


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({}, "needs parameter factor"),
        ({"factor": 1.09}, "allowed is"),
        ({"factor": 2.000001}, "allowed is"),
        ({"factor": float("nan")}, "allowed is|factor"),
        ({"factor": float("inf")}, "allowed is"),
        ({"factor": "sNaN"}, "factor"),
        ({"factor": ""}, "factor"),
        ({"factor": "2; rm"}, "factor"),
        ({"factor": 2, "size": "1025Mi"}, "allowed is"),
        ({"factor": 2, "size": "much"}, "quantity"),
        ({"factor": 2, "other": 1}, "no parameter other"),
    ],
)
def test_parameters_out_of_bounds_are_refused(params: dict[str, str | float], word: str) -> None:
    with pytest.raises(Refused, match=word):
        ACTION.check_params(params)


@given(st.one_of(st.text(max_size=12), st.floats()))
def test_any_parameter_is_in_bounds_or_refused(value: str | float) -> None:
    try:
        ACTION.check_params({"factor": value})
    except Refused:
        return
    assert 1.1 <= float(value) <= 2


INSIDE = (
    "/spec/replicas",
    "/spec/template/spec/containers/0/resources/limits/memory",
    "/spec/template/spec/containers/17/resources/limits/memory",
)
OUTSIDE = (
    "", "/", "/spec", "/spec/replica", "/spec/replicas2", "spec/replicas", "/x/spec/replicas",
    "/spec.replicas",
    "/spec/template/spec/containers/0/resources/limits",
    "/spec/template/spec/containers/0/resources/limits/cpu",
    "/spec/template/spec/containers/x/resources/limits/memory",
    "/spec/template/spec/containers/0/x/resources/limits/memory",
    "/spec/template/spec/containers/-/resources/limits/memory",
    "/spec/template/spec/initContainers/0/resources/limits/memory",
    "/metadata/annotations/a",
)  # fmt: skip


@pytest.mark.parametrize("pointer", OUTSIDE)
def test_what_may_change_does_not_cover_is_outside(pointer: str) -> None:
    assert ACTION.outside((*INSIDE, pointer)) == (pointer,)


def test_what_may_change_covers_is_inside_with_all_below() -> None:
    assert ACTION.outside((*INSIDE, "/spec/replicas/below")) == ()
    assert ACTION.outside(()) == ()
