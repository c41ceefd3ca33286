"""Turns the conditions of a query into tests of records, as strictly as the vendor does.

Pages: SOQL and SOSL Reference, "Comparison Operators", "WHERE", "Date Formats and Date
Literals", "SOQL with null values"; the sentences of the errors are the vendor's.
"""

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import TypeAlias

from sandbox.org import Record
from sandbox.salesforce_columns import Column, Key, KeyGetter
from sandbox.salesforce_fields import FieldSpec
from sandbox.salesforce_ids import is_id, long_id
from sandbox.soql import (
    Comparison,
    Condition,
    FieldPath,
    Junction,
    LiteralValue,
    Negation,
    Query,
    SoqlError,
    like_pattern,
    located,
    plain_text,
)

Test: TypeAlias = Callable[[Record], bool]


def refused(query: Query, code: str, path: FieldPath, message: str) -> SoqlError:
    """The vendor's refusal with the place in the query."""
    return SoqlError(code, located(query.text, path.at, message))


class Filter:
    """Turns conditions into tests.

    Args:
        query: The statement, for the places in error messages.
        column: Looks a field path up.

    Raises:
        SoqlError: for literals or operators that do not fit a field.
    """

    def __init__(self, query: Query, column: Callable[[FieldPath], Column]) -> None:
        self._query = query
        self._column = column

    def _refused(self, code: str, path: FieldPath, message: str) -> SoqlError:
        return refused(self._query, code, path, message)

    def test(self, condition: Condition) -> Test:
        """Whether a record matches."""
        if isinstance(condition, Negation):
            inner = self.test(condition.inner)
            return lambda record: not inner(record)
        if isinstance(condition, Junction):
            tests = [self.test(part) for part in condition.parts]
            if condition.operator == "AND":
                return lambda record: all(test(record) for test in tests)
            return lambda record: any(test(record) for test in tests)
        return self._comparison(condition)

    def _comparison(self, comparison: Comparison) -> Test:
        column = self._column(comparison.field)
        self._check_filterable(comparison, column)
        if comparison.operator == "LIKE":
            return self._like(comparison, column)
        if comparison.operator in {"INCLUDES", "EXCLUDES"}:
            return _includes(comparison, column)
        keys = [self._literal_key(comparison, column, each) for each in comparison.values]
        return _comparing(comparison.operator, column.key, keys)

    def _check_filterable(self, comparison: Comparison, column: Column) -> None:
        name, spec, operator = comparison.field.text, column.spec, comparison.operator
        if not spec.filterable:
            message = f"field '{name}' can not be filtered in a query call"
            raise self._refused("INVALID_FIELD", comparison.field, message)
        fits = {
            "LIKE": spec.is_text,
            "INCLUDES": spec.type == "multipicklist",
            "EXCLUDES": spec.type == "multipicklist",
        }.get(operator, spec.type != "boolean" or operator in {"=", "!=", "IN", "NOT IN"})
        if not fits:
            kind = "id" if spec.is_id else spec.type
            message = f"invalid operator on {kind} field"
            raise self._refused("INVALID_QUERY_FILTER_OPERATOR", comparison.field, message)

    def _like(self, comparison: Comparison, column: Column) -> Test:
        literal = comparison.values[0]
        if literal.kind != "string":
            raise self._wrong_kind(comparison, "string", quoted=True)
        pattern, show = like_pattern(str(literal.value)), column.show
        # A null never is like anything, not even '%'.
        return lambda record: (
            isinstance(text := show(record), str) and pattern.fullmatch(text) is not None
        )

    def _literal_key(self, comparison: Comparison, column: Column, literal: LiteralValue) -> Key:
        spec, value = column.spec, literal.value
        if literal.kind == "null":
            return False if spec.type == "boolean" else None
        if spec.is_id:
            return self._id_key(comparison, literal)
        if spec.is_text:
            if not isinstance(value, str):
                raise self._wrong_kind(comparison, "string", quoted=True)
            return plain_text(value).casefold() or None
        if spec.is_number:
            if not isinstance(value, Decimal):
                raise self._wrong_kind(comparison, "int" if spec.type == "int" else "double")
            return float(value)
        if spec.type == "boolean":
            if not isinstance(value, bool):
                raise self._wrong_kind(comparison, "boolean")
            return value
        return self._instant_key(comparison, spec, literal)

    def _id_key(self, comparison: Comparison, literal: LiteralValue) -> Key:
        if literal.kind != "string":
            raise self._wrong_kind(comparison, "string", quoted=True)
        text = str(literal.value)
        if not text:
            return None
        if not is_id(text):
            message = f"invalid ID field: {text}"
            raise self._refused("INVALID_QUERY_FILTER_OPERATOR", comparison.field, message)
        return long_id(text)

    def _instant_key(self, comparison: Comparison, spec: FieldSpec, literal: LiteralValue) -> Key:
        # SOQL Reference, "Date Formats and Date Literals": a dateTime literal filters only
        # dateTime fields, a date literal only date fields, and neither is quoted.
        value = literal.value
        if spec.type == "date":
            if literal.kind != "date" or not isinstance(value, date):
                raise self._wrong_kind(comparison, "date")
            return value.isoformat()
        if literal.kind != "dateTime" or not isinstance(value, datetime):
            raise self._wrong_kind(comparison, "dateTime")
        return value

    def _wrong_kind(self, comparison: Comparison, kind: str, *, quoted: bool = False) -> SoqlError:
        message = (
            f"value of filter criterion for field '{comparison.field.text}' must be of type {kind} "
            f"and should {'' if quoted else 'not '}be enclosed in quotes"
        )
        return self._refused("INVALID_FIELD", comparison.field, message)


def _comparing(operator: str, key: KeyGetter, keys: list[Key]) -> Test:
    wanted = keys[0]
    match operator:
        case "=":
            return lambda record: key(record) == wanted
        case "!=":
            # Rows without a value are included (SOQL Reference, "Comparison Operators").
            return lambda record: key(record) != wanted
        case "IN":
            among = frozenset(keys)
            return lambda record: key(record) in among
        case "NOT IN":
            among = frozenset(keys)
            return lambda record: key(record) not in among
    return _ranging(operator, key, wanted)


def _ranging(operator: str, key: KeyGetter, wanted: Key) -> Test:
    below = {"<": {-1}, "<=": {-1, 0}, ">": {1}, ">=": {0, 1}}[operator]

    def test(record: Record) -> bool:
        found = key(record)
        return found is not None and wanted is not None and _sign(found, wanted) in below

    return test


def _sign(left: Key, right: Key) -> int:
    if isinstance(left, str) and isinstance(right, str):
        return (left > right) - (left < right)
    if isinstance(left, datetime) and isinstance(right, datetime):
        return (left > right) - (left < right)
    if isinstance(left, int | float) and isinstance(right, int | float):
        return (left > right) - (left < right)
    raise TypeError(f"cannot compare {left!r} with {right!r}")


def _includes(comparison: Comparison, column: Column) -> Test:
    wanted = [
        {part.casefold() for part in plain_text(str(literal.value)).split(";")}
        for literal in comparison.values
    ]
    negated, show = comparison.operator == "EXCLUDES", column.show

    def test(record: Record) -> bool:
        found = show(record)
        have = {part.casefold() for part in found.split(";")} if isinstance(found, str) else set()
        return any(parts <= have for parts in wanted) is not negated

    return test
