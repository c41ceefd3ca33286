"""Rows of CSV, JSON-lines and Parquet files, each with the place it came from.

A line that cannot be read is a `BadLine`, never the end of its file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TextIO, TypeAlias

Row: TypeAlias = Mapping[str, Any]
"""Column -> value: text in a CSV file, JSON scalars otherwise."""

CSV: Final = frozenset({".csv", ".tsv", ".txt"})
JSON_LINES: Final = frozenset({".jsonl", ".ndjson"})
PARQUET: Final = frozenset({".parquet"})
KINDS: Final = CSV | JSON_LINES | PARQUET

LONGEST_CELL: Final = 10_000_000
_LOOKED_AT: Final = 65_536
"""Bytes by which encoding and delimiter are found out."""
_DELIMITERS: Final = ",;\t|"
_MARKS: Final = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


class UnreadableFile(Exception):
    """A whole file that cannot be read; its text says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class GoodLine:
    """One row."""

    line: int
    """Where it begins; counted from 1, the heading included."""
    row: Row


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no row."""

    line: int
    code: str
    reason: str
    raw: str


Line: TypeAlias = GoodLine | BadLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How text files are written; None: to be found out."""

    encoding: str | None = None
    delimiter: str | None = None


def lines_of(path: Path, dialect: Dialect) -> Iterator[Line]:
    """Every line of a file, one after another, never the whole file at once.

    Raises:
        UnreadableFile: the file as a whole cannot be read.
    """
    try:
        if path.suffix.lower() in CSV:
            yield from _csv_lines(path, dialect)
        elif path.suffix.lower() in JSON_LINES:
            yield from _json_lines(path, dialect)
        else:
            yield from _parquet_lines(path)
    except OSError as error:
        raise UnreadableFile(f"{path.name} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UnreadableFile(
            f"{path.name} is not {error.encoding} (byte {error.start:,} is none of its"
            " characters): set `encoding` of the stream."
        ) from None


def columns_of(path: Path, dialect: Dialect) -> Sequence[str]:
    """The columns of a file: its heading, or the keys of its first row.

    Raises:
        UnreadableFile: the file as a whole cannot be read.
    """
    for line in lines_of(path, dialect):
        if isinstance(line, GoodLine):
            return tuple(line.row)
    return ()


# ---------------------------------------------------------------- CSV


def _csv_lines(path: Path, dialect: Dialect) -> Iterator[Line]:
    csv.field_size_limit(LONGEST_CELL)
    # Found out once: to know that all of a file is UTF-8 it has to be read through.
    dialect = replace(dialect, encoding=dialect.encoding or _encoding(path))
    with _opened(path, dialect) as stream:
        delimiter = dialect.delimiter or _delimiter(path, dialect)
        rows = csv.reader(stream, delimiter=delimiter, strict=False)
        heading = _heading(path, rows)
        while True:
            line = rows.line_num + 1
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadLine(line, "not_csv", f"cannot be read as CSV ({error})", "")
                continue
            if not cells:
                continue
            if len(cells) != len(heading):
                reason = f"has {len(cells)} cells where the heading names {len(heading)}"
                yield BadLine(line, "wrong_cells", reason, delimiter.join(cells))
            else:
                yield GoodLine(line, dict(zip(heading, cells, strict=True)))


def _heading(path: Path, rows: Iterator[list[str]]) -> Sequence[str]:
    heading = [cell.strip() for cell in next(rows, [])]
    if not heading:
        raise UnreadableFile(f"{path.name} is empty: its first line must name the columns.")
    twice = sorted({name for name in heading if heading.count(name) > 1})
    if twice:
        raise UnreadableFile(
            f'{path.name} names the column "{twice[0]}" twice: rename one of them.'
        )
    return heading


def _opened(path: Path, dialect: Dialect) -> TextIO:
    encoding = dialect.encoding or _encoding(path)
    try:
        return path.open(encoding=encoding, newline="")
    except LookupError:
        raise UnreadableFile(
            f'"{encoding}" is no encoding that Python knows: use utf-8, cp1252 or another.'
        ) from None


def _encoding(path: Path) -> str:
    """By the file's mark, else UTF-8 where all of it is that, else Windows-1252."""
    with path.open("rb") as stream:
        beginning = stream.read(4)
    for mark, encoding in _MARKS:
        if beginning.startswith(mark):
            return encoding
    try:
        with path.open(encoding="utf-8") as text:
            while text.read(_LOOKED_AT):
                pass
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _delimiter(path: Path, dialect: Dialect) -> str:
    """What the heading holds most of: a comma within a heading is rare, within cells it is not."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    with _opened(path, dialect) as stream:
        heading = stream.readline(_LOOKED_AT)
    found = max(_DELIMITERS, key=heading.count)
    return found if found in heading else ","


# ---------------------------------------------------------------- JSON lines and Parquet


def _json_lines(path: Path, dialect: Dialect) -> Iterator[Line]:
    with _opened(path, dialect) as stream:
        for number, text in enumerate(stream, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text, parse_float=Decimal, parse_constant=_no_number)
            except (ValueError, RecursionError):
                yield BadLine(number, "not_json", "is no JSON object", text)
                continue
            if isinstance(row, dict):
                yield GoodLine(number, row)
            else:
                yield BadLine(number, "not_json", "is no JSON object", text)


def _no_number(text: str) -> object:
    raise ValueError(text)


def _parquet_lines(path: Path) -> Iterator[Line]:
    try:
        from pyarrow import ArrowInvalid, parquet  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise UnreadableFile(
            f"{path.name} needs the extra for Parquet: pip install 'kpisync[parquet]'."
        ) from None
    try:
        file = parquet.ParquetFile(path)
    except ArrowInvalid:
        raise UnreadableFile(f"{path.name} is no Parquet file.") from None
    number = 0
    with file:
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield GoodLine(number, row)
