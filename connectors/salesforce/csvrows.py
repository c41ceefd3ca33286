"""Rows of a bulk query's CSV, in the shape in which REST answers have them.

Page: Bulk API 2.0, "Get Results for a Query Job": values are quoted, may hold line breaks, a null
is an empty value, every part begins with the header. A value may hold NUL bytes and separators
such as U+2028, so only a CSV reader finds the ends of rows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import IO, Any, Final, TypeAlias

Row: TypeAlias = dict[str, Any]

_LONGEST_VALUE: Final = 64 * 1024 * 1024
"""Characters; Python's reader stops at 131,072 otherwise, the length of one long text area."""
_TRUTHS: Final = {"true": True, "false": False}


class BrokenCsv(ValueError):
    """The text is no CSV of the columns asked for."""


def rows(file: IO[bytes], columns: Sequence[str], booleans: AbstractSet[str]) -> Iterator[Row]:
    """Rows with nested parents, nulls as None, and truths as booleans; numbers stay texts.

    Args:
        file: The part, from where it stands.
        columns: What was asked for, in the describe's spelling; the header may spell otherwise.
        booleans: Columns of true and false.

    Raises:
        BrokenCsv: a column is missing, a row is too short, or a quote is not closed.
    """
    csv.field_size_limit(_LONGEST_VALUE)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
    try:
        yield from _rows(csv.reader(text, strict=True), columns, booleans)
    except csv.Error as error:
        raise BrokenCsv(f"it cannot be read as CSV ({error})") from None
    finally:
        text.detach()


def _rows(
    lines: Iterator[list[str]], columns: Sequence[str], booleans: AbstractSet[str]
) -> Iterator[Row]:
    header = next(lines, None)
    if header is None:
        # No rows: some orgs leave even the header out.
        return
    names = _in_our_spelling(header, columns)
    truths = [place for place, name in enumerate(names) if name in booleans]
    parents = [
        (name, tuple(name.split("."))) for name in names if "." in name
    ]  # fmt: skip
    width = len(names)
    for cells in lines:
        if len(cells) != width:
            raise BrokenCsv(f"a row has {len(cells)} values instead of {width}")
        row: Row = dict(zip(names, [cell or None for cell in cells], strict=True))
        for place in truths:
            row[names[place]] = _TRUTHS.get(cells[place])
        for name, path in parents:
            _nest(row, path, row.pop(name))
        yield row


def _in_our_spelling(header: Sequence[str], columns: Sequence[str]) -> list[str]:
    known = {column.lower(): column for column in columns}
    names = [known.get(name.lower(), name) for name in header]
    missing = [column for column in columns if column not in names]
    if missing:
        raise BrokenCsv(f"it lacks the column {missing[0]}")
    return names


def _nest(row: Row, path: Sequence[str], value: object) -> None:
    """Put a parent's field where REST has it."""
    place = row
    for name in path[:-1]:
        inner = place.get(name)
        if not isinstance(inner, dict):
            inner = place[name] = {}
        place = inner
    place[path[-1]] = value
