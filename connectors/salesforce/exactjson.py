"""JSON text in which a Decimal stands with all its digits (``json`` knows floats only)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal


def exact_json(value: object) -> str:
    """Write JSON; dates as calendar days, instants in UTC with milliseconds.

    Raises:
        TypeError: a value that JSON cannot hold.
        ValueError: a number that is not finite.
    """
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("a number that is not finite cannot be written")
        return format(value, "f")
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(str(key))}:{exact_json(item)}" for key, item in value.items())
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return "[" + ",".join(map(exact_json, value)) + "]"
    if isinstance(value, datetime):
        in_utc = value.astimezone(UTC).isoformat(timespec="milliseconds")
        return json.dumps(in_utc.replace("+00:00", "Z"))
    if isinstance(value, date):
        return json.dumps(value.isoformat())
    return json.dumps(value, allow_nan=False)
