"""What a Salesforce field takes: types, ranges and lengths, and the refusal for each.

Pages: SOAP API Developer Guide, "Primitive Data Types", "Field Types" and "StatusCode"; Help
article 000387302 (numbers keep more decimals than the field's scale when written by API).
"""

import re
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Final

from sandbox.org import Value
from sandbox.salesforce_fields import FieldSpec
from sandbox.salesforce_ids import is_id, long_id

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d\Z")
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:?\d\d)\Z")
MAX_EARLIEST_YEAR: Final = 1700  # SOAP API guide, "date": years before 1700 are not stored
MAX_INT: Final = 2_147_483_647


class UnreadableValueError(ValueError):
    """The value has a shape the field's JSON reader refuses: the whole request fails."""

    def __init__(self, spec: FieldSpec, value: object) -> None:
        super().__init__(spec, value)
        token = _token(value)
        shown = "" if isinstance(value, dict | list) else f" value {_shown(value)}"
        self.message = (
            f"Cannot deserialize instance of {_json_name(spec)} from {token}{shown} "
            "or request may be missing a required field at [line:1, column:1]"
        )

    def __str__(self) -> str:
        return self.message


class RefusedValueError(ValueError):
    """The value is readable but this field does not take it: the record fails.

    Args:
        code: Salesforce's statusCode.
        message: The vendor's sentence.
        field: The field's name.
    """

    def __init__(self, code: str, message: str, field: str) -> None:
        super().__init__(code, message, field)
        self.code = code
        self.message = message
        self.field = field

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def stamp_text(moment: datetime) -> str:
    """An instant as REST shows it: whole seconds, UTC, `+0000`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def stored(spec: FieldSpec, value: object) -> Value:
    """The value as the field keeps it.

    Args:
        spec: The field.
        value: JSON as sent, numbers as int, float or Decimal.

    Returns:
        Text, number, boolean, or None; instants as `stamp_text`, dates as YYYY-MM-DD.

    Raises:
        UnreadableValueError: the JSON has the wrong type or form for the field.
        RefusedValueError: it is out of range, too long, or no id.
    """
    if value is None or value == "":
        # Empty text is kept as null (SOAP API guide, "string").
        _refuse_null_checkbox(spec)
        return None
    if spec.type == "anyType" and isinstance(value, str | int | float | bool):
        return value
    if spec.type == "boolean":
        return _boolean(spec, value)
    if spec.is_number:
        return _number(spec, value)
    if spec.type == "date":
        return _date(spec, value)
    if spec.type == "datetime":
        return _moment(spec, value)
    text = _text(spec, value)
    return _reference(spec, text) if spec.is_id else _fitting(spec, text)


def _refuse_null_checkbox(spec: FieldSpec) -> None:
    if spec.type == "boolean":
        # A checkbox is never null (SOAP API guide, "boolean").
        raise RefusedValueError(
            "INVALID_TYPE_ON_FIELD_IN_RECORD", f"{spec.label}: value not of required type: ",
            spec.name,
        )  # fmt: skip


def _boolean(spec: FieldSpec, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise UnreadableValueError(spec, value)


def _number(spec: FieldSpec, value: object) -> Value:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise UnreadableValueError(spec, value)
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise UnreadableValueError(spec, value) from None
    if not number.is_finite():
        raise UnreadableValueError(spec, value)
    if spec.type == "int":
        return _whole(spec, number, value)
    # Digits before the point: precision - scale. Digits after it are not cut: what is written
    # by API is stored and returned with more decimals than the field shows (000387302).
    if abs(number) >= Decimal(10) ** (spec.precision - spec.scale):
        raise _out_of_range(spec, value)
    return float(number)


def _whole(spec: FieldSpec, number: Decimal, value: object) -> int:
    if number != number.to_integral_value():
        raise UnreadableValueError(spec, value)
    if abs(number) > MAX_INT or abs(number) >= Decimal(10) ** (spec.precision or 9):
        raise _out_of_range(spec, value)
    return int(number)


def _out_of_range(spec: FieldSpec, value: object) -> RefusedValueError:
    message = f"{spec.label}: value outside of valid range on numeric field: {value}"
    return RefusedValueError("NUMBER_OUTSIDE_VALID_RANGE", message, spec.name)


def _date(spec: FieldSpec, value: object) -> str:
    if not isinstance(value, str) or not _DATE.match(value):
        raise UnreadableValueError(spec, value)
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise UnreadableValueError(spec, value) from None
    if day.year < MAX_EARLIEST_YEAR:
        message = f"{spec.label}: invalid date: {value}"
        raise RefusedValueError("INVALID_TYPE_ON_FIELD_IN_RECORD", message, spec.name)
    return value


def _moment(spec: FieldSpec, value: object) -> str:
    if not isinstance(value, str) or not _MOMENT.match(value):
        raise UnreadableValueError(spec, value)
    try:
        return stamp_text(datetime.fromisoformat(value))
    except ValueError:
        raise UnreadableValueError(spec, value) from None


def _text(spec: FieldSpec, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return str(value)
    if not isinstance(value, str):
        raise UnreadableValueError(spec, value)
    return value


def _reference(spec: FieldSpec, text: str) -> str:
    if not is_id(text):
        message = f"{spec.label}: id value of incorrect type: {text}"
        raise RefusedValueError("MALFORMED_ID", message, spec.name)
    return long_id(text)


def _fitting(spec: FieldSpec, text: str) -> str | None:
    kept = text.strip()
    if spec.length and len(kept) > spec.length:
        message = f"{spec.label}: data value too large: {kept} (max length={spec.length})"
        raise RefusedValueError("STRING_TOO_LONG", message, spec.name)
    return kept or None


def _json_name(spec: FieldSpec) -> str:
    if spec.is_number:
        return "int" if spec.type == "int" else spec.type.replace("percent", "double")
    return spec.type if spec.type in {"boolean", "date", "datetime"} else "string"


def _token(value: object) -> str:
    match value:
        case bool():
            return f"VALUE_{str(value).upper()}"
        case int():
            return "VALUE_NUMBER_INT"
        case float() | Decimal():
            return "VALUE_NUMBER_FLOAT"
        case dict():
            return "START_OBJECT"
        case list():
            return "START_ARRAY"
        case _:
            return "VALUE_STRING"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
