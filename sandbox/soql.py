"""Reads the part of SOQL that the sandbox understands, as strictly as the vendor does.

Pages: SOQL and SOSL Reference, "SOQL SELECT Syntax", "Condition Expression Syntax (WHERE
Clause)", "Logical Operators", "Quoted String Escape Sequences", "Date Formats and Date
Literals in WHERE". What exists at the vendor but not here (subqueries, aggregates, GROUP BY,
relative dates) is refused in words that name the sandbox, never half understood.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final, Literal, TypeAlias

MAX_STATEMENT_CHARACTERS: Final = 100_000  # SOQL Reference, "SOQL Limits"
MAX_OFFSET: Final = 2000  # SOQL Reference, "OFFSET"

Kind: TypeAlias = Literal["string", "number", "boolean", "null", "date", "dateTime"]
Scalar: TypeAlias = str | Decimal | bool | date | datetime | None


class SoqlError(Exception):
    """A query that Salesforce would answer with HTTP 400.

    Args:
        code: Salesforce's errorCode, for example MALFORMED_QUERY.
        message: The vendor's sentence, with the place in the query where it shows one.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class FieldPath:
    """A field as written, relationship names first: `Account.Owner.Name`."""

    names: tuple[str, ...]
    at: int

    @property
    def text(self) -> str:
        """The path as written, without an object alias."""
        return ".".join(self.names)


@dataclass(frozen=True, slots=True)
class LiteralValue:
    """A literal of the query with the kind its spelling gave it."""

    kind: Kind
    value: Scalar
    at: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field expression; `operator` is upper case, several values only for IN and the like."""

    field: FieldPath
    operator: str
    values: tuple[LiteralValue, ...]


@dataclass(frozen=True, slots=True)
class Negation:
    """NOT before one expression."""

    inner: "Condition"


@dataclass(frozen=True, slots=True)
class Junction:
    """Several expressions joined by the same operator."""

    operator: Literal["AND", "OR"]
    parts: tuple["Condition", ...]


Condition: TypeAlias = Comparison | Negation | Junction


@dataclass(frozen=True, slots=True)
class Ordering:
    """One ORDER BY term; nulls come first unless asked otherwise, in both directions."""

    field: FieldPath
    descending: bool
    nulls_last: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed SELECT; `fields` is empty exactly for `SELECT COUNT()`."""

    text: str
    fields: tuple[FieldPath, ...]
    object: str
    object_at: int
    where: Condition | None
    order: tuple[Ordering, ...]
    limit: int | None
    offset: int

    @property
    def is_count(self) -> bool:
        """Whether only the number of rows is asked for."""
        return not self.fields


def located(text: str, at: int, message: str) -> str:
    """The sentence with the row, column and caret that Salesforce puts before it.

    Args:
        text: The whole query.
        at: Offset of the offending token.
        message: The sentence itself.

    Returns:
        Four lines as in the vendor's answers.
    """
    row = text.count("\n", 0, at) + 1
    line_start = text.rfind("\n", 0, at) + 1
    column = at - line_start + 1
    start = max(line_start, at - 30)
    excerpt = text[start : at + 40].splitlines()[0] if text[start : at + 40] else ""
    return f"\n{excerpt}\n{' ' * (at - start)}^\nERROR at Row:{row}:Column:{column}\n{message}"


def parse(text: str) -> Query:
    """Parse one SELECT statement.

    Args:
        text: The statement as it stood in `q=` after URL decoding.

    Returns:
        The query; objects and fields are not yet looked up.

    Raises:
        SoqlError: MALFORMED_QUERY or NUMBER_OUTSIDE_VALID_RANGE, with the place.
    """
    if not text.strip():
        raise SoqlError("MALFORMED_QUERY", "SOQL statements cannot be empty or null")
    if len(text) > MAX_STATEMENT_CHARACTERS:
        raise SoqlError(
            "MALFORMED_QUERY",
            f"SOQL statements cannot be longer than {MAX_STATEMENT_CHARACTERS} characters.",
        )
    return _Parser(text).query()


@dataclass(frozen=True, slots=True)
class _Token:
    type: str
    text: str
    at: int


_TOKEN: Final = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<string>'(?:[^'\\]|\\.)*')
  | (?P<dateTime>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))
  | (?P<date>\d{4}-\d\d-\d\d)(?![\dT])
  | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.:-])
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\s*\.\s*[A-Za-z_][A-Za-z0-9_]*)*)
  | (?P<operator><=|>=|!=|<>|=|<|>)
  | (?P<mark>[(),])
    """,
    re.VERBOSE | re.DOTALL,
)

_ESCAPES: Final = {
    "n": "\n", "N": "\n", "r": "\r", "R": "\r", "t": "\t", "T": "\t",
    "b": "\b", "B": "\b", "f": "\f", "F": "\f", '"': '"', "'": "'", "\\": "\\",
}  # fmt: skip
_NOT_SIMULATED_CLAUSES: Final = frozenset(
    {"GROUP", "HAVING", "WITH", "FOR", "USING", "UPDATE", "ALL", "TYPEOF"}
)
_CLAUSES: Final = frozenset({"WHERE", "ORDER", "LIMIT", "OFFSET"}) | _NOT_SIMULATED_CLAUSES
_RELATIVE_DATE: Final = re.compile(
    r"(?:TODAY|YESTERDAY|TOMORROW|(?:LAST|THIS|NEXT|N)_\w+)\Z", re.IGNORECASE
)


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise SoqlError(
                "MALFORMED_QUERY",
                located(text, at, f"line 1:{at} no viable alternative at character '{text[at]}'"),
            )
        if match.lastgroup != "space":
            yield _Token(match.lastgroup, match.group(), at)
        at = match.end()
    yield _Token("end", "<EOF>", len(text))


class _Parser:
    """Recursive descent over the tokens of one statement."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._next = 0
        self._alias: frozenset[str] = frozenset()

    def query(self) -> Query:
        self._expect_word("SELECT")
        fields = self._fields()
        self._expect_word("FROM")
        name = self._expect("name")
        self._read_alias(name.text)
        where = self._conditions() if self._take_word("WHERE") else None
        order = self._order() if self._take_word("ORDER") else ()
        limit = self._count() if self._take_word("LIMIT") else None
        offset = self._offset() if self._take_word("OFFSET") else 0
        self._refuse_not_simulated()
        if self._peek().type != "end":
            raise self._unexpected(self._peek())
        self._check_count(fields, order)
        return Query(
            text=self._text,
            fields=tuple(self._unaliased(field) for field in fields),
            object=name.text,
            object_at=name.at,
            where=where,
            order=order,
            limit=limit,
            offset=offset,
        )

    # tokens

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _advance(self) -> _Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _take_word(self, word: str) -> bool:
        token = self._peek()
        if token.type == "name" and token.text.upper() == word:
            self._next += 1
            return True
        return False

    def _take_mark(self, mark: str) -> bool:
        token = self._peek()
        if token.type == "mark" and token.text == mark:
            self._next += 1
            return True
        return False

    def _expect(self, kind: str) -> _Token:
        if self._peek().type != kind:
            raise self._unexpected(self._peek())
        return self._advance()

    def _expect_word(self, word: str) -> None:
        if not self._take_word(word):
            self._refuse_not_simulated()
            raise self._unexpected(self._peek())

    def _expect_mark(self, mark: str) -> None:
        if not self._take_mark(mark):
            raise self._unexpected(self._peek())

    def _unexpected(self, token: _Token) -> SoqlError:
        message = f"unexpected token: '{token.text}'"
        return SoqlError("MALFORMED_QUERY", located(self._text, token.at, message))

    def _refuse_not_simulated(self) -> None:
        token = self._peek()
        if token.type == "name" and token.text.upper() in _NOT_SIMULATED_CLAUSES:
            raise self._not_simulated(token, token.text.upper())

    def _not_simulated(self, token: _Token, what: str) -> SoqlError:
        message = f"the sandbox does not simulate {what} in SOQL"
        return SoqlError("MALFORMED_QUERY", located(self._text, token.at, message))

    # SELECT and FROM

    def _fields(self) -> tuple[FieldPath, ...]:
        first = self._peek()
        if first.type == "name" and self._is_call():
            return self._count_call()
        fields = [self._field()]
        while self._take_mark(","):
            fields.append(self._field())
        return tuple(fields)

    def _is_call(self) -> bool:
        following = self._tokens[self._next + 1]
        return following.type == "mark" and following.text == "("

    def _count_call(self) -> tuple[FieldPath, ...]:
        name = self._advance()
        self._expect_mark("(")
        if name.text.upper() != "COUNT" or not self._take_mark(")"):
            raise self._not_simulated(name, f"the function {name.text}(…)")
        if self._peek().type == "mark":
            # SOQL Reference, "COUNT()": it must be the only element of the SELECT list.
            raise self._unexpected(self._peek())
        return ()

    def _field(self) -> FieldPath:
        token = self._peek()
        if token.type == "mark" and token.text == "(":
            raise self._not_simulated(token, "subqueries")
        self._expect("name")
        if self._peek().type == "mark" and self._peek().text == "(":
            raise self._not_simulated(token, f"the function {token.text}(…)")
        if token.text.upper() == "TYPEOF":
            raise self._not_simulated(token, "TYPEOF")
        names = tuple(part.strip() for part in token.text.split("."))
        return FieldPath(names, token.at)

    def _read_alias(self, object_name: str) -> None:
        self._alias = frozenset({object_name.lower()})
        token = self._peek()
        if token.type == "mark" and token.text == ",":
            raise self._not_simulated(token, "several objects in FROM")
        if token.type == "name" and token.text.upper() not in _CLAUSES:
            self._alias |= {self._advance().text.lower()}

    def _unaliased(self, path: FieldPath) -> FieldPath:
        if len(path.names) > 1 and path.names[0].lower() in self._alias:
            return FieldPath(path.names[1:], path.at)
        return path

    def _check_count(self, fields: tuple[FieldPath, ...], order: tuple[Ordering, ...]) -> None:
        if not fields and order:
            # SOQL Reference, "COUNT()": not with ORDER BY.
            message = "ORDER BY is not allowed in a query with COUNT()"
            raise SoqlError("MALFORMED_QUERY", located(self._text, order[0].field.at, message))

    # WHERE

    def _conditions(self) -> Condition:
        """A chain of one operator; the vendor wants parentheses around every mixture."""
        if self._take_word("NOT"):
            negation = Negation(self._simple())
            if self._peek_word() in {"AND", "OR"}:
                raise self._unexpected(self._peek())
            return negation
        parts = [self._simple()]
        operator = self._peek_word()
        if operator not in {"AND", "OR"}:
            return parts[0]
        while self._take_word(operator):
            parts.append(self._simple())
        if self._peek_word() in {"AND", "OR"}:
            raise self._unexpected(self._peek())
        return Junction("AND" if operator == "AND" else "OR", tuple(parts))

    def _peek_word(self) -> str:
        token = self._peek()
        return token.text.upper() if token.type == "name" else ""

    def _simple(self) -> Condition:
        if self._take_mark("("):
            inner = self._conditions()
            self._expect_mark(")")
            return inner
        if self._peek_word() == "NOT":
            raise self._unexpected(self._peek())
        return self._comparison()

    def _comparison(self) -> Comparison:
        field = self._unaliased(self._field())
        token = self._advance()
        if token.type == "operator":
            operator = "!=" if token.text == "<>" else token.text
            return Comparison(field, operator, (self._literal(),))
        word = token.text.upper() if token.type == "name" else ""
        if word == "LIKE":
            return Comparison(field, "LIKE", (self._literal(),))
        if word == "NOT" and self._take_word("IN"):
            return Comparison(field, "NOT IN", self._literals())
        if word in {"IN", "INCLUDES", "EXCLUDES"}:
            return Comparison(field, word, self._literals())
        raise self._unexpected(token)

    def _literals(self) -> tuple[LiteralValue, ...]:
        self._expect_mark("(")
        if self._peek_word() == "SELECT":
            raise self._not_simulated(self._peek(), "semi-joins")
        values = [self._literal()]
        while self._take_mark(","):
            values.append(self._literal())
        self._expect_mark(")")
        return tuple(values)

    def _literal(self) -> LiteralValue:
        token = self._advance()
        match token.type:
            case "string":
                return LiteralValue("string", self._unescaped(token), token.at)
            case "number":
                return LiteralValue("number", Decimal(token.text), token.at)
            case "date" | "dateTime":
                return self._instant(token)
            case "name":
                return self._word(token)
            case _:
                raise self._unexpected(token)

    def _word(self, token: _Token) -> LiteralValue:
        match token.text.upper():
            case "TRUE" | "FALSE" as word:
                return LiteralValue("boolean", word == "TRUE", token.at)
            case "NULL":
                return LiteralValue("null", None, token.at)
        if _RELATIVE_DATE.match(token.text):
            raise self._not_simulated(token, f"the date literal {token.text}")
        raise self._unexpected(token)

    def _instant(self, token: _Token) -> LiteralValue:
        try:
            if token.type == "date":
                return LiteralValue("date", date.fromisoformat(token.text), token.at)
            moment = datetime.fromisoformat(token.text).astimezone(UTC)
        except ValueError:
            message = f"Invalid {token.type}: {token.text}"
            raise SoqlError("MALFORMED_QUERY", located(self._text, token.at, message)) from None
        return LiteralValue("dateTime", moment, token.at)

    def _unescaped(self, token: _Token) -> str:
        body, out, at = token.text[1:-1], [], 0
        while at < len(body):
            if body[at] != "\\":
                out.append(body[at])
                at += 1
                continue
            following = body[at + 1]
            if following in "_%":
                out.append(body[at : at + 2])  # LIKE reads these; elsewhere they lose the slash
                at += 2
            elif following in "uU" and re.fullmatch(r"[0-9a-fA-F]{4}", body[at + 2 : at + 6]):
                character = chr(int(body[at + 2 : at + 6], 16))
                out.append("\\\\" if character == "\\" else character)
                at += 6
            elif following in _ESCAPES:
                # A backslash stays doubled so that LIKE can tell it from its own escapes.
                out.append("\\\\" if following == "\\" else _ESCAPES[following])
                at += 2
            else:
                message = (
                    f"Illegal escape sequence '\\{following}', "
                    "see SOQL Reference, Quoted String Escape Sequences"
                )
                raise SoqlError("MALFORMED_QUERY", located(self._text, token.at, message))
        return "".join(out)

    # ORDER BY, LIMIT, OFFSET

    def _order(self) -> tuple[Ordering, ...]:
        self._expect_word("BY")
        terms = [self._ordering()]
        while self._take_mark(","):
            terms.append(self._ordering())
        return tuple(terms)

    def _ordering(self) -> Ordering:
        field = self._unaliased(self._field())
        descending = self._take_word("DESC")
        if not descending:
            self._take_word("ASC")
        nulls_last = False
        if self._take_word("NULLS"):
            nulls_last = self._take_word("LAST")
            if not nulls_last:
                self._expect_word("FIRST")
        return Ordering(field, descending=descending, nulls_last=nulls_last)

    def _count(self) -> int:
        token = self._expect("number")
        if not token.text.isdigit():
            raise self._unexpected(token)
        return int(token.text)

    def _offset(self) -> int:
        offset = self._count()
        if offset > MAX_OFFSET:
            raise SoqlError(
                "NUMBER_OUTSIDE_VALID_RANGE", f"Maximum SOQL offset allowed is {MAX_OFFSET}"
            )
        return offset


def plain_text(value: str) -> str:
    r"""A string literal's text where no pattern is meant: `\_`, `\%`, `\\` lose the slash."""
    return re.sub(r"\\([_%\\])", r"\1", value)


def like_pattern(value: str) -> re.Pattern[str]:
    r"""A LIKE pattern as a regular expression; case does not matter (SOQL Reference, "LIKE").

    Args:
        value: The literal's value as parsed, with `\_`, `\%` and `\\` still escaped.

    Returns:
        A pattern to be used with `fullmatch`.
    """
    out: list[str] = []
    for piece in re.findall(r"\\[_%\\]|.", value, re.DOTALL):
        if len(piece) == 2:  # noqa: PLR2004 - an escape and what it escapes
            out.append(re.escape(piece[1]))
        else:
            out.append({"%": ".*", "_": "."}.get(piece, re.escape(piece)))
    return re.compile("".join(out), re.IGNORECASE | re.DOTALL)
