"""Keys of groups, written by the database."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Text, func
from sqlalchemy.sql.elements import ColumnElement

from metrics.contributions.terms import text_of
from metrics.dimensions import TOTAL_KEY


def key_column(columns: Sequence[ColumnElement[str]]) -> ColumnElement[str]:
    """The same text as `metrics.dimensions.key_of`."""
    if not columns:
        return text_of(TOTAL_KEY)
    if len(columns) == 1:
        return columns[0]
    backslash, comma = "\\", ","
    escaped: list[ColumnElement[str]] = []
    for column in columns:
        doubled = func.replace(column, text_of(backslash), text_of(2 * backslash))
        escaped.append(func.replace(doubled, text_of(comma), text_of(backslash + comma)))
    key: ColumnElement[str] = escaped[0]
    for part in escaped[1:]:
        key = key.op("||", return_type=Text())(text_of(",")).op("||", return_type=Text())(part)
    return key
