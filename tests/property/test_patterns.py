"""Route patterns: they match what Python's `re` matches, and two that can match one message overlap."""

import re
from itertools import combinations

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from quietpager.rules import patterns
from quietpager.rules.patterns import matches, meet, pattern
from quietpager.rules.routing import Observation, render_routes
from quietpager.rules.schema import FailureClass, Route, Rule, load_rules
from quietpager.runtime.context import functions_folder

LETTERS = "ab. ("
WORDS = st.text(LETTERS, min_size=0, max_size=4)
PLAIN = WORDS.map(re.escape).map(lambda text: text.replace("\\ ", " "))
GROUPS = st.lists(PLAIN, min_size=1, max_size=3).map(lambda some: f"({'|'.join(some)})")
PARTS = st.one_of(PLAIN, GROUPS, st.just(".*"))
SEQUENCES = st.builds(
    lambda anchor, parts: anchor + "".join(parts), st.sampled_from(["", "^"]), st.lists(PARTS, max_size=4)
)
PATTERNS = st.lists(SEQUENCES, min_size=1, max_size=2).map("|".join)
MESSAGES = st.text(LETTERS + "\n", max_size=12)


def searched(text: str, message: str) -> bool:
    return re.search(text, message, re.DOTALL) is not None


@given(PATTERNS, MESSAGES)
@settings(max_examples=500)
def test_a_pattern_matches_what_a_regular_expression_matches(text: str, message: str) -> None:
    try:
        said = matches(text, message)
    except ValueError as no:
        assert "stands for more than" in str(no)  # noqa: PT017 (what is refused is not matched)
        reject()
    assert said == searched(text, message)


@given(PATTERNS, PATTERNS, MESSAGES)
@settings(max_examples=500)
def test_two_patterns_that_match_one_message_overlap(one: str, two: str, message: str) -> None:
    if searched(one, message) and searched(two, message):
        assert meet(one, two)
        assert meet(two, one)


def said(alternative: patterns.Alternative) -> str:
    """Write the shortest message of an alternative."""
    return "".join(alternative.texts)


@given(PATTERNS, PATTERNS)
@settings(max_examples=500)
def test_where_an_overlap_is_reported_there_is_such_a_message(one: str, two: str) -> None:
    """No false alarm: what matches both is made of the two alternatives that meet."""
    if not meet(one, two):
        return
    a, b = next((a, b) for a in pattern(one) for b in pattern(two) if a.meets(b))
    first, second = (a, b) if a.begins or not b.begins else (b, a)
    if a.begins and b.begins:
        long, short = (a, b) if len(a.texts[0]) >= len(b.texts[0]) else (b, a)
        message = said(long) + "".join(short.texts[1:])
    else:
        message = said(first) + said(second)
    assert searched(one, message)
    assert searched(two, message)


@given(st.text(max_size=40))
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    try:
        found = pattern(text)
    except ValueError:
        return
    assert 1 <= len(found) <= patterns.MOST
    re.compile(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a+", "'+' at character 2"),
        ("[ab]", "'[' at character 1"),
        ("a.b", "'.' at character 2"),
        ("end$", "'$' at character 4"),
        ("a^b", "'^' at character 2"),
        (r"\d", "at character 1"),
        ("a\\", "at character 2"),
        ("(a", "does not close it"),
        ("a)", "has not opened"),
        ("(a|b)" * 7, "more than 64 texts"),
        ("(" * 9 + "a" + ")" * 9, "more than 8 groups"),
        ("a" * 1001, "at most 1000 characters"),
    ],
)
def test_what_a_pattern_may_not_say_is_named(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        pattern(text)


def test_what_is_slow_for_a_regular_expression_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("'+'")):
        pattern("^(a+)+b")


def rule(family: str, message: str, priority: int = 50) -> Rule:
    route = Route(kind="Pod", reason=("BackOff",), message=message, priority=priority)
    return Rule(family=family, routes=(route,), classes={"x": FailureClass()})


@pytest.mark.parametrize(
    ("one", "two"),
    [("^Back-off", "^Back-off restarting"), ("restarting", "^Back-off"), ("a", "b"), ("^(a|b)", "^(b|c)x")],
)
def test_two_families_that_want_one_message_are_refused_with_both_files(one: str, two: str) -> None:
    with pytest.raises(ValueError, match="overlap at priority 50") as caught:
        render_routes((rule("x", one), rule("y", two)), ("functions/x/rule.yaml", "functions/y/rule.yaml"))
    for name in ("functions/x/rule.yaml", "functions/y/rule.yaml", one, two):
        assert name in str(caught.value)


def test_with_an_order_or_other_beginnings_they_are_accepted() -> None:
    table = render_routes((rule("x", "^Back-off"), rule("y", "^Back-off restarting", 60)))
    seen = Observation(kind="Pod", reason="BackOff", message="Back-off restarting failed container")
    assert table.family_of(seen) == "y"
    render_routes((rule("x", "^Back-off pulling"), rule("y", "^Back-off restarting")))


def test_without_the_check_the_order_of_files_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: two different patterns count as disjoint."""
    monkeypatch.setattr(patterns, "meet", lambda one, two: one == two)
    seen = Observation(kind="Pod", reason="BackOff", message="Back-off restarting failed container")
    both = rule("x", "^Back-off"), rule("y", "^Back-off restarting")
    assert {render_routes(both).family_of(seen), render_routes(both[::-1]).family_of(seen)} == {"x", "y"}


def test_the_products_own_patterns_are_read() -> None:
    texts = {r.message for one in load_rules(functions_folder()) for r in (*one.routes, *one.benign)} - {""}
    assert len(texts) > 5
    assert all(pattern(text) for text in texts)
    assert any(meet(*pair) for pair in combinations(sorted(texts), 2))
