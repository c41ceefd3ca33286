"""What an expression means on the records of a stream, or why it means nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Final

from metrics.expression import parsing, tree
from metrics.expression.faults import ExpressionFault, nearest
from metrics.expression.fields import NUMBERS, TEXTS, TIMES, Field, Type

_CLOSED: Final = "is_closed"
_WON: Final = "is_won"

_MIRRORED: Final = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def words_of(fields: Mapping[str, Field]) -> Mapping[str, tree.Condition]:
    """Short words for what records are: won, lost, open and closed."""
    found: dict[str, tree.Condition] = {}
    if _CLOSED in fields:
        closed = tree.Flag(fields[_CLOSED])
        found = {"closed": closed, "open": tree.Not(closed)}
        if _WON in fields:
            won = tree.Flag(fields[_WON])
            found["won"] = tree.And((closed, won))
            found["lost"] = tree.And((closed, tree.Not(won)))
    return {word: meaning for word, meaning in found.items() if word not in fields}


@dataclass(frozen=True)
class Checker:
    """Checks expressions over the records of one stream."""

    stream: str
    fields: Mapping[str, Field]

    def filter(self, text: str) -> tree.Condition:
        """What a filter means.

        Raises:
            ExpressionFault: nothing; names the column.
        """
        return self._condition(parsing.parse_filter(text))

    def aggregate(self, text: str) -> tree.Aggregate:
        """What an aggregate means.

        Raises:
            ExpressionFault: nothing; names the column.
        """
        call = parsing.parse_aggregate(text)
        value = self._value(call)
        where = None if call.where is None else self._condition(call.where)
        return tree.Aggregate(call.function, value, where)

    def date(self, name: str) -> Field:
        """The field that decides the period.

        Raises:
            ExpressionFault: there is none of that name, or it is no date.
        """
        known = [one.name for one in self.fields.values() if one.type in TIMES | {Type.UNSAID}]
        field = self.fields.get(name)
        if field is None:
            message = f'"{name[:60]}" is not a field of {self.stream}.'
            raise ExpressionFault(message, 1, nearest(name, known))
        if field.type is Type.UNSAID:
            return replace(field, type=Type.DATETIME)
        if field.type not in TIMES:
            raise ExpressionFault(f'"{name}" is no date.', 1, nearest(name, known))
        return field

    # ---- aggregates

    def _value(self, call: parsing.Call) -> tree.Value | None:
        if call.function == "count":
            self._refuse_names(call)
            return None
        if not call.names:
            example = "account" if call.function == "distinct" else "amount"
            hint = f"Write {call.function}({example})."
            raise ExpressionFault(f"{call.function} of what?", call.column, hint)
        if len(call.names) > 1:
            return self._span(call)
        name = call.names[0]
        return self._member(name) if call.function == "distinct" else self._number(call, name)

    @staticmethod
    def _refuse_names(call: parsing.Call) -> None:
        if call.names:
            message = "count counts records and takes no field."
            hint = "Write count(where ...), or distinct(field) for different values."
            raise ExpressionFault(message, call.names[0].column, hint)

    def _member(self, name: parsing.Name) -> Field:
        field = self._field(name)
        if field.type in TEXTS:
            return field
        if field.type is Type.UNSAID:
            return replace(field, type=Type.TEXT)
        hint = "Different texts and links can be counted, such as distinct(account)."
        raise ExpressionFault(f'"{field.name}" is {_a(field.type)}.', name.column, hint)

    def _number(self, call: parsing.Call, name: parsing.Name) -> Field:
        field = self._field(name)
        if field.type is Type.UNSAID:
            raise _no_type(field, name.column)
        if field.type not in NUMBERS | {Type.MONEY}:
            known = [one.name for one in self.fields.values() if one.type in NUMBERS]
            known += [one.name for one in self.fields.values() if one.type is Type.MONEY]
            message = f'"{field.name}" is {_a(field.type)}; {call.function} takes numbers.'
            hint = nearest(field.name, known) if known else ""
            if field.type in TIMES:
                hint = f"Write {call.function}(closed_at - created_at) for the time between."
            raise ExpressionFault(message, name.column, hint)
        return field

    def _span(self, call: parsing.Call) -> tree.Span:
        if call.function in {"sum", "mean", "median", "min", "max"}:
            end, start = (self._time(name) for name in call.names)
            return tree.Span(start, end)
        message = f"{call.function} takes one field."
        raise ExpressionFault(message, call.names[1].column, "")

    def _time(self, name: parsing.Name) -> Field:
        field = self._field(name)
        if field.type is Type.UNSAID:
            return replace(field, type=Type.DATETIME)
        if field.type not in TIMES:
            message = f'"{field.name}" is {_a(field.type)}.'
            hint = "Only dates can be taken from each other, such as closed_at - created_at."
            raise ExpressionFault(message, name.column, hint)
        return field

    # ---- conditions

    def _condition(self, phrase: parsing.Phrase) -> tree.Condition:
        match phrase:
            case parsing.Name():
                return self._word(phrase)
            case parsing.Negated(part):
                return tree.Not(self._condition(part))
            case parsing.Joined(word, parts):
                meant = tuple(self._condition(part) for part in parts)
                return tree.And(meant) if word == "and" else tree.Or(meant)
            case parsing.Missing(left, column):
                return tree.Not(tree.IsKnown(self._known(left, column)))
            case parsing.Between(left, low, high, column):
                return tree.And(
                    (
                        self._compared(left, ">=", low, column),
                        self._compared(left, "<=", high, column),
                    )
                )
            case parsing.Among(left, values, column):
                parts_of = tuple(self._compared(left, "=", value, column) for value in values)
                return parts_of[0] if len(parts_of) == 1 else tree.Or(parts_of)
            case parsing.Compared(left, operator, right, column):
                return self._compared(left, operator, right, column)

    def _word(self, name: parsing.Name) -> tree.Condition:
        words = words_of(self.fields)
        if name.text in words:
            return words[name.text]
        field = self._field(name, also=words)
        if field.type is Type.UNSAID:
            field = replace(field, type=Type.BOOLEAN)
        if field.type is not Type.BOOLEAN:
            message = f'"{field.name}" is {_a(field.type)} and says neither yes nor no.'
            hint = f"Compare it: {field.name} {_example(field.type)}."
            raise ExpressionFault(message, name.column, hint)
        return tree.Flag(field)

    def _field(self, name: parsing.Name, also: Mapping[str, object] | None = None) -> Field:
        found = self.fields.get(name.text)
        if found is None:
            known = {*self.fields, *(also or {})}
            message = f'"{name.text[:60]}" is not a field of {self.stream}.'
            raise ExpressionFault(message, name.column, nearest(name.text, known))
        return found

    def _known(self, operand: parsing.Operand, column: int) -> Field:
        if isinstance(operand, parsing.Name):
            return self._field(operand)
        raise ExpressionFault("Only a field can be null.", column, "")

    def _compared(
        self, left: parsing.Operand, operator: str, right: parsing.Operand, column: int
    ) -> tree.Condition:
        if not isinstance(left, parsing.Name):
            if not isinstance(right, parsing.Name):
                hint = "A field belongs on one side of a comparison."
                raise ExpressionFault("Nothing of the record is compared here.", column, hint)
            left, operator, right = right, _MIRRORED[operator], left
        field = self._field(left)
        if operator == "!=":
            return tree.Not(self._beside(field, "=", right, left.column))
        return self._beside(field, operator, right, left.column)

    def _beside(
        self, field: Field, operator: str, right: parsing.Operand, column: int
    ) -> tree.Condition:
        match right:
            case parsing.Today(days):
                if field.type is Type.UNSAID:
                    field = replace(field, type=Type.DATETIME)
                if field.type not in TIMES:
                    message = f'"{field.name}" is {_a(field.type)}, no date.'
                    known = [one.name for one in self.fields.values() if one.type in TIMES]
                    raise ExpressionFault(message, column, nearest(field.name, known))
                return tree.CompareToday(field, operator, days)
            case parsing.Written():
                return self._beside_literal(field, operator, right)
            case parsing.Name():
                return self._beside_field(field, operator, self._field(right), right.column)

    def _beside_literal(
        self, field: Field, operator: str, written: parsing.Written
    ) -> tree.Condition:
        value = written.value
        field = self._said(field, written)
        if isinstance(value, Decimal) and field.type is Type.PERCENT and not field.is_own:
            self._refuse_beyond_one(field, value, written.column)
        if isinstance(value, bool):
            if field.type is not Type.BOOLEAN or operator != "=":
                raise self._unlike(field, written)
            flag = tree.Flag(field)
            return flag if value else tree.Not(flag)
        if field.type in TIMES and isinstance(value, str):
            value = _day(value, written.column)
        is_alike = (
            (field.type in TEXTS and isinstance(value, str))
            or (field.type in NUMBERS | {Type.MONEY} and isinstance(value, Decimal))
            or (field.type in TIMES and isinstance(value, date))
        )
        if not is_alike:
            raise self._unlike(field, written)
        if isinstance(value, str) and operator != "=":
            message = f'"{field.name}" is {_a(field.type)}, and texts have no order here.'
            raise ExpressionFault(message, written.column, "Use =, != or in.")
        return tree.Compare(field, operator, value)

    @staticmethod
    def _said(field: Field, written: parsing.Written) -> Field:
        """The field with the type that a literal beside it says."""
        if field.type is not Type.UNSAID:
            return field
        if isinstance(written.value, Decimal):
            raise _no_type(field, written.column)
        return replace(field, type=_TYPE_OF[type(written.value)])

    @staticmethod
    def _refuse_beyond_one(field: Field, value: Decimal, column: int) -> None:
        if not 0 <= value <= 1:
            message = f'"{field.name}" lies between 0 and 1.'
            hint = f"Write {value:f}%, or {value.scaleb(-2):f}."
            raise ExpressionFault(message, column, hint)

    def _unlike(self, field: Field, written: parsing.Written) -> ExpressionFault:
        message = f'"{field.name}" is {_a(field.type)} and cannot be compared with this.'
        return ExpressionFault(
            message, written.column, f"Write it like: {field.name} {_example(field.type)}."
        )

    def _beside_field(
        self, field: Field, operator: str, other: Field, column: int
    ) -> tree.Condition:
        if field.type is Type.UNSAID and other.type is not Type.UNSAID:
            field = replace(field, type=other.type)
        elif other.type is Type.UNSAID and field.type is not Type.UNSAID:
            other = replace(other, type=field.type)
        if Type.UNSAID in (field.type, other.type):
            message = f'Nobody says what "{field.name}" and "{other.name}" hold.'
            raise ExpressionFault(message, column, "Give them a type where they are mapped.")
        alike = (TEXTS, TIMES, {Type.NUMBER, Type.PERCENT}, {Type.INTEGER}, {Type.MONEY})
        if not any({field.type, other.type} <= set(kinds) for kinds in alike):
            message = (
                f'"{field.name}" is {_a(field.type)}, "{other.name}" is {_a(other.type)}: '
                "they cannot be compared."
            )
            raise ExpressionFault(message, column, "")
        if field.type in TEXTS and operator != "=":
            message = f'"{field.name}" is {_a(field.type)}, and texts have no order here.'
            raise ExpressionFault(message, column, "Use = or !=.")
        return tree.CompareFields(field, operator, other)


def _no_type(field: Field, column: int) -> ExpressionFault:
    # Amounts of several currencies must not pass for plain numbers.
    message = f'Nobody says whether "{field.name}" is money or a number.'
    hint = "Give it a type where it is mapped: {from: ..., type: money}, or number, integer."
    return ExpressionFault(message, column, hint)


_TYPE_OF: Final = {
    str: Type.TEXT,
    date: Type.DATETIME,
    bool: Type.BOOLEAN,
}


def _day(text: str, column: int) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ExpressionFault("This is no day.", column, "Write it like 2026-01-31.") from None


def _a(kind: Type) -> str:
    words = {
        Type.INTEGER: "an integer",
        Type.MONEY: "money",
        Type.REF: "a link to a record",
        Type.BOOLEAN: "yes or no",
        Type.PERCENT: "a ratio",
        Type.DATETIME: "an instant",
    }
    return words.get(kind, f"a {kind}")


def _example(kind: Type) -> str:
    if kind in TIMES:
        return ">= today - 30d"
    if kind is Type.BOOLEAN:
        return "= true"
    return "= 'some text'" if kind in TEXTS else ">= 100"
