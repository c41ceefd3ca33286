"""From text to a tree of what was written; nothing is looked up here.

Bounded: a text is at most `LONGEST` characters, nested at most `DEEPEST` levels, made of at most
`MOST_PARTS` parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Final, TypeAlias

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from metrics.expression.faults import ExpressionFault, nearest

LONGEST: Final = 2_000
DEEPEST: Final = 24
MOST_PARTS: Final = 200
_LONGEST_NUMBER: Final = 24
_SPACE: Final = 32
"""The first character that is no control code."""
_MOST_DAYS: Final = 36_600
"""A hundred years: further from today nothing is meant."""

FUNCTIONS: Final = ("count", "sum", "mean", "median", "min", "max", "distinct")

_GRAMMAR: Final = r"""
filter: disjunction
aggregate: NAME "(" [value] [WHERE disjunction] ")"
value: name                       -> one_field
     | name "-" name              -> span

?disjunction: conjunction
     | disjunction "or"i conjunction        -> either
?conjunction: negation
     | conjunction "and"i negation          -> all_of
?negation: atom
     | NOT negation                         -> negated
?atom: "(" disjunction ")"                  -> inside
     | name                                 -> flag
     | operand OPERATOR operand             -> compared
     | operand [NOT] IN "(" literal ("," literal)* ")"   -> among
     | operand [NOT] BETWEEN operand "and"i operand      -> between
     | operand IS [NOT] NULL                -> missing

?operand: name | literal | today
name: NAME
today: TODAY [SIGN SPAN]
?literal: number | day | words | truth
number: [MINUS] NUMBER [PERCENT]
day: DATE
words: STRING
truth: TRUE | FALSE

SIGN: "+" | MINUS
MINUS: "-"
PERCENT: "%"
OPERATOR: "<=" | ">=" | "!=" | "<>" | "==" | "=" | "<" | ">"
WHERE: "where"i
NOT: "not"i
IN: "in"i
BETWEEN: "between"i
IS: "is"i
NULL: "null"i
TODAY: "today"i
TRUE: "true"i
FALSE: "false"i
DATE.3: /\d{4}-\d\d-\d\d/
SPAN.2: /\d+[dw]\b/
NUMBER.1: /\d+(\.\d+)?(?![A-Za-z_\d])/
STRING: /'(?:[^'\n]|'')*'/ | /"(?:[^"\n]|"")*"/
NAME: /[A-Za-z_][A-Za-z0-9_]*/
%ignore /[ \t\r\n]+/
"""


# ---------------------------------------------------------------- what was written


@dataclass(frozen=True, slots=True)
class Name:
    """A field, or another word."""

    text: str
    column: int


@dataclass(frozen=True, slots=True)
class Written:
    """A literal: a text, a number, a day, or yes or no."""

    value: str | Decimal | date | bool
    column: int


@dataclass(frozen=True, slots=True)
class Today:
    """Today, or so many days before or after."""

    days: int
    column: int


Operand: TypeAlias = Name | Written | Today


@dataclass(frozen=True, slots=True)
class Compared:
    """One beside another."""

    left: Operand
    operator: str
    right: Operand
    column: int


@dataclass(frozen=True, slots=True)
class Among:
    """One of several."""

    left: Operand
    values: tuple[Written, ...]
    column: int


@dataclass(frozen=True, slots=True)
class Between:
    """From one to another, both included."""

    left: Operand
    low: Operand
    high: Operand
    column: int


@dataclass(frozen=True, slots=True)
class Missing:
    """Has no value."""

    left: Operand
    column: int


@dataclass(frozen=True, slots=True)
class Negated:
    """Not."""

    part: Phrase


@dataclass(frozen=True, slots=True)
class Joined:
    """Several with ``and`` or ``or`` between them."""

    word: str
    parts: tuple[Phrase, ...]


Phrase: TypeAlias = Name | Compared | Among | Between | Missing | Negated | Joined


@dataclass(frozen=True, slots=True)
class Call:
    """An aggregate as it was written."""

    function: str
    names: tuple[Name, ...]
    """None, one, or two with a minus between them: the end, and the start."""
    where: Phrase | None
    column: int


# ---------------------------------------------------------------- making it


class _Maker(Transformer[Token, object]):
    """Makes the tree while the text is read, so that nothing recurses over it."""

    def __init__(self) -> None:
        super().__init__(visit_tokens=False)

    def filter(self, children: list[object]) -> object:
        return children[0]

    def aggregate(self, children: list[object]) -> Call:
        word, value, _, where = children
        assert isinstance(word, Token)  # noqa: S101 - by the grammar
        names = value if isinstance(value, tuple) else ()
        return Call(str(word).lower(), names, where, _at(word))  # type: ignore[arg-type]  # by the grammar

    def one_field(self, children: list[object]) -> object:
        return (children[0],)

    def span(self, children: list[object]) -> object:
        return tuple(children)

    def either(self, children: list[object]) -> object:
        return self._joined("or", children)

    def all_of(self, children: list[object]) -> object:
        return self._joined("and", children)

    def _joined(self, word: str, children: list[object]) -> Joined:
        first, second = children
        before = first.parts if isinstance(first, Joined) and first.word == word else (first,)
        return Joined(word, (*before, second))  # type: ignore[arg-type]  # by the grammar

    def negated(self, children: list[object]) -> Negated:
        return Negated(children[1])  # type: ignore[arg-type]  # by the grammar

    def inside(self, children: list[object]) -> object:
        # What stands in brackets is one part: `a and (b and c)` stays as deep as it is written.
        return children[0]

    def flag(self, children: list[object]) -> object:
        return children[0]

    def compared(self, children: list[object]) -> Compared:
        left, operator, right = children
        column = _at(operator)
        return Compared(left, _SAME.get(str(operator), str(operator)), right, column)  # type: ignore[arg-type]  # by the grammar

    def among(self, children: list[object]) -> object:
        left, negation, word, *values = children
        column = _at(word)
        return _perhaps_not(negation, Among(left, tuple(values), column))  # type: ignore[arg-type]  # by the grammar

    def between(self, children: list[object]) -> object:
        left, negation, word, low, high = children
        column = _at(word)
        return _perhaps_not(negation, Between(left, low, high, column))  # type: ignore[arg-type]  # by the grammar

    def missing(self, children: list[object]) -> object:
        left, word, negation, _ = children
        column = _at(word)
        return _perhaps_not(negation, Missing(left, column))  # type: ignore[arg-type]  # by the grammar

    def name(self, children: list[Token]) -> Name:
        return Name(str(children[0]), _at(children[0]))

    def today(self, children: list[Token | None]) -> Today:
        word, sign, span = children
        days = 0
        if span is not None:
            length = str(span)
            column = _at(span)
            if len(length) > _LONGEST_NUMBER:
                raise ExpressionFault("So many days are not meant.", column)
            days = int(length[:-1]) * (7 if length.endswith("w") else 1)
            if days > _MOST_DAYS:
                raise ExpressionFault("So many days are not meant.", column)
        assert word is not None  # noqa: S101 - by the grammar
        return Today(-days if sign == "-" else days, _at(word))

    def number(self, children: list[Token | None]) -> Written:
        minus, digits, percent = children
        assert digits is not None  # noqa: S101 - by the grammar
        column = _at(minus or digits)
        if len(digits) > _LONGEST_NUMBER:
            message = f"A number has at most {_LONGEST_NUMBER} digits."
            raise ExpressionFault(message, column)
        value = Decimal(str(digits))
        value = value.scaleb(-2) if percent is not None else value
        return Written(value.copy_negate() if minus is not None else value, column)

    def day(self, children: list[Token]) -> Written:
        column = _at(children[0])
        try:
            return Written(date.fromisoformat(str(children[0])), column)
        except ValueError:
            message = f"There is no day {children[0]}."
            raise ExpressionFault(message, column) from None

    def words(self, children: list[Token]) -> Written:
        text = str(children[0])
        quote = text[0]
        if any(ord(letter) < _SPACE or "\ud800" <= letter <= "\udfff" for letter in text):
            message = "A text holds a character that no field can hold."
            raise ExpressionFault(message, _at(children[0]))
        return Written(text[1:-1].replace(quote * 2, quote), _at(children[0]))

    def truth(self, children: list[Token]) -> Written:
        return Written(str(children[0]).lower() == "true", _at(children[0]))


_SAME: Final = {"==": "=", "<>": "!="}


def _at(token: object) -> int:
    """Where a token stands, counted from 1 over all lines."""
    return 1 if not isinstance(token, Token) or token.start_pos is None else token.start_pos + 1


def _parts_in(phrase: object) -> int:
    """How many fields and literals there are."""
    match phrase:
        case Joined(_, parts):
            return sum(_parts_in(part) for part in parts)
        case Negated(part):
            return _parts_in(part)
        case Among(_, values):
            return 1 + len(values)
        case Compared() | Between():
            return 2
        case Call(_, names, where):
            return len(names) + _parts_in(where)
        case None:
            return 0
    return 1


def _perhaps_not(negation: object, phrase: Phrase) -> Phrase:
    return phrase if negation is None else Negated(phrase)


# ---------------------------------------------------------------- reading


@cache
def _language() -> Lark:
    return Lark(
        _GRAMMAR,
        parser="lalr",
        start=["filter", "aggregate"],
        maybe_placeholders=True,
        transformer=_Maker(),
    )


def parse_filter(text: str) -> Phrase:
    """What a filter says.

    Raises:
        ExpressionFault: it says nothing.
    """
    return _parsed(text, "filter")  # type: ignore[return-value]  # by the grammar


def parse_aggregate(text: str) -> Call:
    """What an aggregate says.

    Raises:
        ExpressionFault: it says nothing, or there is no such function.
    """
    call = _parsed(text, "aggregate")
    assert isinstance(call, Call)  # noqa: S101 - by the grammar
    if call.function not in FUNCTIONS:
        message = f'There is no function "{call.function[:40]}".'
        raise ExpressionFault(message, call.column, nearest(call.function, FUNCTIONS))
    return call


def _parsed(text: str, start: str) -> object:
    _refuse_unbounded(text)
    try:
        made: object = _language().parse(text, start=start)
    except UnexpectedInput as error:
        raise _misread(text, error, start) from None
    if _parts_in(made) > MOST_PARTS:
        raise ExpressionFault(f"It has more than {MOST_PARTS} parts.", 1, _SMALLER)
    return made


_SMALLER: Final = "Make it smaller, or give the CRM a field that says it."


def _refuse_unbounded(text: str) -> None:
    if len(text) > LONGEST:
        raise ExpressionFault(f"It is longer than {LONGEST} characters.", LONGEST, _SMALLER)
    depth = 0
    quote = ""
    for column, letter in enumerate(text, start=1):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == "(":
            depth += 1
            if depth > DEEPEST:
                message = f"It is nested more than {DEEPEST} levels deep."
                raise ExpressionFault(message, column, _SMALLER)
        elif letter == ")":
            depth -= 1
    if text.lower().split().count("not") > DEEPEST:
        raise ExpressionFault(f"It says not more than {DEEPEST} times.", 1, _SMALLER)


_NEEDED: Final = {
    "OPERATOR": "a comparison",
    "NAME": "a field",
    "RPAR": '")"',
    "LPAR": '"("',
    "STRING": "a text in quotes",
    "NUMBER": "a number",
    "AND": '"and"',
    "OR": '"or"',
    "WHERE": '"where"',
    "SPAN": "a number of days such as 30d",
    "NULL": '"null"',
    "$END": "nothing more",
}


def _misread(text: str, error: UnexpectedInput, start: str) -> ExpressionFault:
    if isinstance(error, UnexpectedCharacters):
        place: int | None = getattr(error, "pos_in_stream", None)
        column = 1 if place is None else place + 1
        letter = text[column - 1 : column]
        if letter in "'\"":
            return ExpressionFault("A text is not closed.", column, "End it with the same quote.")
        shown = letter if letter.isprintable() else f"U+{ord(letter):04X}"
        return ExpressionFault(f'"{shown}" cannot stand here.', column, _HINTS[start])
    if isinstance(error, UnexpectedToken) and error.token.type != "$END":
        token = error.token
        expected = sorted(
            {_NEEDED[name] for name in error.accepts or error.expected if name in _NEEDED}
        )
        hint = f"Here may stand {' or '.join(expected)}." if expected else _HINTS[start]
        shown = str(token)[:40]
        return ExpressionFault(f'"{shown}" cannot stand here.', _at(token), hint)
    return ExpressionFault("It ends too early.", len(text) + 1, _HINTS[start])


_HINTS: Final = {
    "filter": "Write it like: segment = 'Enterprise' and amount >= 25000.",
    "aggregate": "Write it like: count(where won), sum(amount) or mean(csat where closed).",
}
