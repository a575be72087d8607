"""CloudEvents SQL, fact for fact as its specification and conformance tests have it.

https://github.com/cloudevents/spec/blob/main/cesql/spec.md and cesql_tck/ beside it. Where an error is
expected the spec also names a value; here it is worked out fail-fast, which section 4.1 allows.
"""

import re
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quietpager.local.cesql import MOST_NESTED, CesqlError, InvalidExpression, parse

EVENT = {
    "id": "myId", "source": "https://example.com/a", "type": "com.example.error", "specversion": "1.0",
    "sequence": "10", "hop": "3", "ttl": "12", "yes": "TRUE", "ext": "abc123123%456_dzf", "1st": "x",
}  # fmt: skip

VALUES: list[tuple[str, str | int | bool]] = [
    # literals
    ("TRUE", True), ("false", False), ("0", 0), ("1", 1), ("'abc'", "abc"), ('"AbC"', "AbC"),
    (r"""'a"b\'c'""", "a\"b'c"), (r'''"a'b\"c"''', "a'b\"c"), ("-2147483648", -(2**31)),
    # attributes
    ("id", "myId"), ("ID = 'myId'", True), ("sequence = 10", True), ("hop < ttl", True),
    ("1st = 'x'", True),
    ("EXISTS sequence", True), ("exists missing", False), ("EXISTS source", True),
    ("NOT EXISTS sequence", False),
    # comparison: the right operand's type is the target
    ("TRUE = FALSE", False), ("2 = 2", True), ("'abc' != '123'", True), ("1 <> 2", True), ("2 <= 2", True),
    ("3 <= 2", False), ("1 < 2", True), ("2 >= 3", False), ("2 > 1", True),
    ("true = 'TRUE'", False), ("'TRUE' = true", True), ("yes = TRUE", True),
    # logic
    ("FALSE AND TRUE", False), ("TRUE OR FALSE", True), ("TRUE XOR TRUE", False), ("FALSE XOR TRUE", True),
    ("false and (1 != 1 / 0)", False), ("true or (1 != 1 / 0)", True), ("NOT FALSE", True),
    ("NOT 'false'", True),
    ("true or false and false", True), ("false and missing = 'x'", False),
    # arithmetic
    ("4 * 2 + 4 / 2", 10), ("4 * (2 + 4) / 2", 12), ("5 / 3", 1), ("-5 / 3", -1), ("5 / -3", -1),
    ("5 % 2", 1),
    ("-5 % 3", -2), ("5 % -3", 2), ("4 + -1", 3), ("-4 - 1", -5), ("'5' + '3'", 8), ("5 + TRUE", 6),
    ("-'10'", -10),
    ("--10", 10), ("1-1", 0), ("10 - 3 - 2", 5),
    # LIKE
    ("'abc' LIKE 'abc'", True), (r"'ab\c' LIKE 'ab\c'", True), ("'abc' NOT LIKE 'abc'", False),
    ("'azzzbzzzc' LIKE 'a%b%c'", True), ("'ac' LIKE 'abc'", False), ("'' LIKE 'abc'", False),
    ("'' LIKE '%'", True),
    ("'ab.cde' LIKE '.%.%.'", False), ("'azbzc' LIKE 'a_b_c'", True), ("'abc' LIKE 'a_b_c'", False),
    (r"'a_b_c' LIKE 'a\_b\_c'", True), (r"'azbzc' LIKE 'a\_b\_c'", False),
    (r"'a%b%c' LIKE 'a\%b\%c'", True),
    (r"ext LIKE 'abc%123\%456\_d_f'", True), ("234 LIKE '23_'", True), ("TRUE LIKE 'tr%'", True),
    ("'aab' LIKE '%ab'", True), ("'abab' LIKE 'ab%ab%'", True), ("'ab' LIKE 'ab%b'", False),
    # IN: the left operand's type is the target
    ("id IN ('a', 'myId')", True), ("id NOT IN ('a', 'myId')", False), ("10 IN ('10', '20')", True),
    ("sequence IN (10, 20)", True), ("TRUE IN ('false')", False),
    # functions
    ("LENGTH('abc')", 3), ("length(1234)", 4), ("CONCAT('a', 1, TRUE)", "a1true"), ("CONCAT()", ""),
    ("CONCAT_WS(',', 'a', 'b')", "a,b"), ("CONCAT_WS(',')", ""), ("LOWER('AbC')", "abc"),
    ("UPPER('AbC')", "ABC"),
    ("TRIM('  a b ')", "a b"), ("LEFT('abc', 2)", "ab"), ("LEFT('abc', 10)", "abc"), ("LEFT('abc', 0)", ""),
    ("RIGHT('abc', 2)", "bc"), ("RIGHT('abc', 10)", "abc"), ("RIGHT('abc', 0)", ""),
    ("SUBSTRING('abcdef', 1)", "abcdef"), ("SUBSTRING('abcdef', 3)", "cdef"),
    ("SUBSTRING('abcdef', -2)", "ef"),
    ("SUBSTRING('abcdef', 0)", ""), ("SUBSTRING('abcdef', 2, 3)", "bcd"),
    ("SUBSTRING('abcdef', -3, 10)", "def"),
    ("ABS(-10)", 10), ("ABS(10)", 10),
    ("INT('1')", 1), ("INT(TRUE)", 1), ("INT('-1')", -1), ("BOOL('TRUE')", True), ("BOOL(100)", True),
    ("BOOL(0)", False),
    ("STRING(TRUE)", "true"), ("STRING(-1)", "-1"), ("IS_INT('12')", True), ("IS_INT('x')", False),
    ("IS_BOOL('yes')", False),
    # names that begin like a keyword are names
    ("EXISTS inside OR EXISTS notes OR EXISTS order", False),
]  # fmt: skip

ERRORS = [
    ("missing = 2", "missingAttribute"), ("missing != 2", "missingAttribute"),
    ("missing / 0", "missingAttribute"),
    ("missing LIKE 'x%'", "missingAttribute"), ("TRUE AND missing = ''", "missingAttribute"),
    ("missing = 'x' OR TRUE", "missingAttribute"), ("NOT (missing = 'x')", "missingAttribute"),
    ("5 / 0", "math"), ("5 % 0", "math"), ("true and (1 != 1 / 0)", "math"), ("ABS(-2147483648)", "math"),
    ("2147483647 + 1", "math"), ("INT('ABC')", "cast"), ("BOOL('ABC')", "cast"),
    ("INT('99999999999')", "cast"),
    ("'x' < 3", "cast"), ("id AND TRUE", "cast"), ("TRUE IN ('x')", "cast"),
    ("LEFT('abc', -1)", "functionEvaluation"), ("RIGHT('abc', -1)", "functionEvaluation"),
    ("SUBSTRING('abc', 4)", "functionEvaluation"), ("SUBSTRING('abc', -4, 1)", "functionEvaluation"),
    ("SUBSTRING('abc', 1, -1)", "functionEvaluation"),
]  # fmt: skip

WRONG = [
    "", " ", "id =", "= 'x'", "id == 'x'", "id 'x'", "'abc", '"abc', "(id", "id)", "id IN ()",
    "id IN 'x'", "id LIKE 5",
    "id LIKE source", "EXISTS", "EXISTS 'id'", "FOO(id)", "LENGTH()", "LENGTH('a', 'b')",
    "SUBSTRING('a')", "CONCAT_WS()",
    "a.b = 'x'", "99999999999", "id = 'x' AND", "x; y", "(" * 50, "NOT " * 200 + "TRUE",
    "id = '" + "x" * 5000 + "'",
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_values(text: str, value: str | int | bool) -> None:
    got = parse(text).value(EVENT)
    assert (type(got), got) == (type(value), value)


@pytest.mark.parametrize(("text", "kind"), ERRORS)
def test_errors(text: str, kind: str) -> None:
    with pytest.raises(CesqlError) as error:
        parse(text).value(EVENT)
    assert error.value.kind == kind


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_expression_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(InvalidExpression, match=r"\.$"):
        parse(text)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_text_gives_anything_but_a_value_or_a_sentence(text: str) -> None:
    with suppress(InvalidExpression, CesqlError):
        parse(text).value(EVENT)


@settings(deadline=None)
@given(st.text("ab%_", max_size=12), st.text("ab", max_size=12))
def test_like_agrees_with_a_plain_search(pattern: str, text: str) -> None:
    plain = re.fullmatch(pattern.replace("%", ".*").replace("_", "."), text) is not None
    assert parse(f"'{text}' LIKE '{pattern}'").value({}) is plain


def test_a_hostile_pattern_costs_nothing() -> None:
    pattern = "%a" * 100
    assert parse(f"x LIKE '{pattern}b'").value({"x": "a" * 5000}) is False


def test_as_many_terms_as_the_limit_says() -> None:
    parse(" OR ".join(["id = 'x'"] * (MOST_NESTED - 2))).value(EVENT)
    with pytest.raises(InvalidExpression, match="nested"):
        parse(" OR ".join(["id = 'x'"] * (MOST_NESTED + 2)))
