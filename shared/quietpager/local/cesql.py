"""CloudEvents SQL v1: reads an expression once, works it out for each event's attributes.

Who calls it: `shared/quietpager/local/filters.py`. The language is https://github.com/cloudevents/spec/blob/main/cesql/spec.md,
with all its operators and built-in functions. It is worked out in the spec's fail-fast mode (section 4.1),
as Knative does with the Go SDK: the first error ends it, and a filter then does not match.

An expression is total: no loops, no recursion but over its own tree, whose size is bounded here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Final

from lark import Lark, Token, Tree
from lark.exceptions import LarkError

Value = str | int | bool
"""String, Integer (32 bits, signed) or Boolean."""

Attributes = Mapping[str, Any]

LONGEST: Final = 4096
"""Characters of an expression."""

MOST_NESTED: Final = 100
"""Levels of its tree."""

LOWEST: Final = -(2**31)
HIGHEST: Final = 2**31 - 1

REQUIRED: Final = frozenset({"id", "source", "type", "specversion"})
"""Attributes that every event has."""

# Precedence as in section 3.4, loosest first: logic, comparison, arithmetic, IN and LIKE, the unary ones.
# Logic operators have one precedence and bind to the right, as in the Go SDK's grammar, which Knative uses.
_GRAMMAR: Final = r"""
?start: logic
?logic: compared | compared (AND | OR | XOR) logic -> binary
?compared: added | compared COMPARE added -> binary
?added: multiplied | added (PLUS | MINUS) multiplied -> binary
?multiplied: matched | multiplied (STAR | SLASH | PERCENT) matched -> binary
?matched: unary
    | matched LIKE STRING -> like
    | matched NOT LIKE STRING -> unlike
    | matched IN "(" logic ("," logic)* ")" -> within
    | matched NOT IN "(" logic ("," logic)* ")" -> without
?unary: atom | NOT unary -> negation | MINUS unary -> minus
?atom: TRUE -> true | FALSE -> false | INTEGER -> integer | STRING -> string
    | EXISTS NAME -> exists | EXISTS INTEGER -> exists
    | NAME -> attribute
    | (NAME | FUNCTION) "(" [logic ("," logic)*] ")" -> call
    | "(" logic ")"
AND.9: /AND\b/i
OR.9: /OR\b/i
XOR.9: /XOR\b/i
NOT.9: /NOT\b/i
LIKE.9: /LIKE\b/i
IN.9: /IN\b/i
EXISTS.9: /EXISTS\b/i
TRUE.9: /TRUE\b/i
FALSE.9: /FALSE\b/i
COMPARE: "<=" | ">=" | "<>" | "!=" | "=" | "<" | ">"
PLUS: "+"
MINUS: "-"
STAR: "*"
SLASH: "/"
PERCENT: "%"
INTEGER.2: /[0-9]+(?![a-zA-Z0-9])/
FUNCTION.3: /[a-zA-Z]+_[a-zA-Z_]*/
NAME: /[a-zA-Z0-9]+/
STRING: /'(\\.|''|[^'\\])*'|"(\\.|""|[^"\\])*"/s
%ignore /[ \t\r\n]+/
"""


class InvalidExpression(ValueError):  # noqa: N818 (it names what is wrong)
    """What is no expression of the language; the text says what and where."""


class CesqlError(Exception):
    """An expression cannot be worked out for this event. `kind`: as the conformance tests call it."""

    def __init__(self, kind: str, why: str) -> None:
        """Remember the kind: cast, math, missingAttribute, functionEvaluation."""
        self.kind = kind
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Expression:
    """One expression that has been read."""

    text: str
    tree: Any

    def value(self, attributes: Attributes) -> Value:
        """Work it out.

        Raises:
            CesqlError: a missing attribute, a cast that is not possible, a division by zero.
        """
        return _value(self.tree, attributes)


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", maybe_placeholders=False)


def parse(text: str) -> Expression:
    """Read an expression.

    Raises:
        InvalidExpression: it is none, too long, nested too deeply, or calls a function that is not there.
    """
    if len(text) > LONGEST:
        raise InvalidExpression(f"The expression has {len(text)} characters; {LONGEST} are allowed.")
    try:
        tree = _parser().parse(text)
    except LarkError as wrong:
        line, column = getattr(wrong, "line", "?"), getattr(wrong, "column", "?")
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        raise InvalidExpression(
            f"{shown!r} is no CESQL expression; line {line}, column {column} was not expected there."
        ) from None
    _check(tree)
    return Expression(text, tree)


def _check(root: Any) -> None:
    level, depth = [root], 0
    while level := [child for node in level for child in _checked(node)]:
        depth += 1
        if depth > MOST_NESTED:
            raise InvalidExpression(f"The expression is nested deeper than {MOST_NESTED} levels.")


def _checked(node: Any) -> list[Any]:
    if not isinstance(node, Tree):
        return []
    if node.data == "integer" and int(str(node.children[0])) > HIGHEST + 1:
        raise InvalidExpression(f"{node.children[0]} does not fit into 32 bits.")
    if node.data == "call":
        name, count = str(node.children[0]).upper(), len(node.children) - 1
        if name not in {known for known, _ in _FUNCTIONS} and name not in _VARIADIC:
            raise InvalidExpression(f"There is no function {name}.")
        if (name, count) not in _FUNCTIONS and count < _VARIADIC.get(name, count + 1):
            raise InvalidExpression(f"Function {name} does not take {count} arguments.")
    return list(node.children)


def _value(node: Any, at: Attributes) -> Value:
    return _NODES[node.data](node.children, at)


def _attribute(children: list[Any], at: Attributes) -> Value:
    name = str(children[0]).lower()
    found = at.get(name)
    if found is None:
        raise CesqlError("missingAttribute", f"the event has no attribute {name}")
    return found if isinstance(found, bool | int) else str(found)


def _exists(children: list[Any], at: Attributes) -> bool:
    name = str(children[-1]).lower()
    return name in REQUIRED or at.get(name) is not None


def _string(token: Token) -> str:
    quote = token[0]
    return token[1:-1].replace(f"\\{quote}", quote)


def _like(children: list[Any], at: Attributes) -> bool:
    text = cast("string", _value(children[0], at))
    return re.fullmatch(_regex(_string(children[-1])), text, re.DOTALL) is not None


def _regex(pattern: str) -> str:
    """Write a LIKE pattern as a regular expression that never goes back: the first place will do."""
    pieces, escaped = [""], False
    for character, following in pairwise([*pattern, ""]):
        if escaped:
            pieces[-1], escaped = pieces[-1] + re.escape(character), False
        elif character == "\\" and following in ("%", "_"):
            escaped = True
        elif character == "%":
            pieces.append("")
        else:
            pieces[-1] += "." if character == "_" else re.escape(character)
    first, *middle = pieces
    if not middle:
        return first
    *inner, last = middle
    return first + "".join(f"(?>.*?{piece})" for piece in inner) + f".*{last}"


def _within(children: list[Any], at: Attributes) -> bool:
    values = [child for child in children if isinstance(child, Tree)]
    left = _value(values[0], at)
    return any(cast(_type(left), _value(one, at)) == left for one in values[1:])


def _binary(children: list[Any], at: Attributes) -> Value:
    left, sign, right = children
    operator = str(sign).upper()
    if operator in ("AND", "OR", "XOR"):
        first = cast("boolean", _value(left, at))
        if operator != "XOR" and first is (operator == "OR"):
            return first  # the right operand must not be looked at
        second = cast("boolean", _value(right, at))
        return first is not second if operator == "XOR" else second
    x, y = _value(left, at), _value(right, at)
    if operator in ("=", "!=", "<>"):
        return (cast(_type(y), x) == y) is (operator == "=")
    a, b = cast("integer", x), cast("integer", y)
    if operator in _COMPARE:
        return _COMPARE[operator](a, b)
    return _fitting(_ARITHMETIC[operator](a, b))


def _quotient(a: int, b: int) -> int:
    if b == 0:
        raise CesqlError("math", "division by zero")
    whole = abs(a) // abs(b)
    return whole if (a < 0) is (b < 0) else -whole


def _fitting(number: int) -> int:
    if not LOWEST <= number <= HIGHEST:
        raise CesqlError("math", f"{number} does not fit into 32 bits")
    return number


def _minus(children: list[Any], at: Attributes) -> int:
    operand = children[1]
    if operand.data == "integer":  # -2147483648 is one number, its positive is none
        return _fitting(-int(operand.children[0]))
    return _fitting(-cast("integer", _value(operand, at)))


def _call(children: list[Any], at: Attributes) -> Value:
    name, arguments = str(children[0]).upper(), children[1:]
    values = [_value(one, at) for one in arguments]
    if name in _VARIADIC:
        return _joined(name, [cast("string", one) for one in values])
    types, work = _FUNCTIONS[name, len(values)]
    return work(*(cast(kind, one) if kind else one for kind, one in zip(types, values, strict=True)))


def _joined(name: str, texts: list[str]) -> str:
    return texts[0].join(texts[1:]) if name == "CONCAT_WS" else "".join(texts)


def _type(value: Value) -> str:
    return "boolean" if isinstance(value, bool) else "integer" if isinstance(value, int) else "string"


def cast(kind: str, value: Value) -> Any:
    """Cast as section 3.7 says; `kind`: string, integer or boolean.

    Raises:
        CesqlError: the text is no such value.
    """
    if _type(value) == kind:
        return value
    if kind == "string":
        return str(value).lower()
    if not isinstance(value, str):
        return int(value) if kind == "integer" else bool(value)
    if kind == "integer" and re.fullmatch(r"[+-]?[0-9]{1,10}", value, re.ASCII):
        return _whole(int(value))
    if kind == "boolean" and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise CesqlError("cast", f"{value[:50]!r} is no {kind}")


def _whole(number: int) -> int:
    if not LOWEST <= number <= HIGHEST:
        raise CesqlError("cast", f"{number} does not fit into 32 bits")
    return number


def _absolute(x: int) -> int:
    return _fitting(abs(x))


def _left(x: str, y: int) -> str:
    if y < 0:
        raise CesqlError("functionEvaluation", "LEFT of a negative length")
    return x[:y]


def _right(x: str, y: int) -> str:
    if y < 0:
        raise CesqlError("functionEvaluation", "RIGHT of a negative length")
    return x[max(len(x) - y, 0) :]


def _substring(x: str, position: int, length: int | None = None) -> str:
    if abs(position) > len(x) or (length is not None and length < 0):
        raise CesqlError("functionEvaluation", f"SUBSTRING: {position} is outside of the text, or no length")
    if position == 0:
        return ""
    begin = position - 1 if position > 0 else len(x) + position
    return x[begin:] if length is None else x[begin : begin + length]


_COMPARE: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_ARITHMETIC: Final[Mapping[str, Callable[[int, int], int]]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _quotient,
    "%": lambda a, b: a - b * _quotient(a, b),
}
_FUNCTIONS: Final[Mapping[tuple[str, int], tuple[tuple[str, ...], Callable[..., Value]]]] = {
    ("LENGTH", 1): (("string",), len),
    ("LOWER", 1): (("string",), str.lower),
    ("UPPER", 1): (("string",), str.upper),
    ("TRIM", 1): (("string",), str.strip),
    ("LEFT", 2): (("string", "integer"), _left),
    ("RIGHT", 2): (("string", "integer"), _right),
    ("SUBSTRING", 2): (("string", "integer"), _substring),
    ("SUBSTRING", 3): (("string", "integer", "integer"), _substring),
    ("ABS", 1): (("integer",), _absolute),
    ("INT", 1): (("integer",), lambda x: x),
    ("BOOL", 1): (("boolean",), lambda x: x),
    ("STRING", 1): (("string",), lambda x: x),
    ("IS_BOOL", 1): (("",), lambda x: _is("boolean", x)),
    ("IS_INT", 1): (("",), lambda x: _is("integer", x)),
}
"""(name, number of arguments) → types that they are cast to ("": none), and what it does."""
_VARIADIC: Final[Mapping[str, int]] = {"CONCAT": 0, "CONCAT_WS": 1}
"""Functions of any number of texts → the fewest."""
_NODES: Final[Mapping[str, Callable[[list[Any], Attributes], Value]]] = {
    "true": lambda _, __: True,
    "false": lambda _, __: False,
    "integer": lambda children, _: _fitting(int(children[0])),
    "string": lambda children, _: _string(children[0]),
    "attribute": _attribute,
    "exists": _exists,
    "call": _call,
    "negation": lambda children, at: not cast("boolean", _value(children[1], at)),
    "minus": _minus,
    "like": _like,
    "unlike": lambda children, at: not _like(children, at),
    "within": _within,
    "without": lambda children, at: not _within(children, at),
    "binary": _binary,
}


def _is(kind: str, value: Value) -> bool:
    try:
        cast(kind, value)
    except CesqlError:
        return False
    return True
