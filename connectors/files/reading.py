"""Rows of CSV, JSON-lines and Parquet files, each with the place it came from.

A line that cannot be read is a `BadLine`, never the end of its file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
_LONGEST_WORDS: Final = 200
_LOOKED_AT: Final = 65_536
"""Bytes by which encoding and delimiter are found out."""
_DELIMITERS: Final = ",;\t|"
_MARK: Final = "\ufeff"
_SEPARATOR_LINE: Final = "sep="
"""Begins a line above the heading by which spreadsheets tell each other the delimiter."""
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
    with _translated(path):
        if path.suffix.lower() in CSV:
            yield from _csv_lines(path, dialect)
        elif path.suffix.lower() in JSON_LINES:
            yield from _json_lines(path, dialect)
        else:
            yield from _parquet_lines(path)


def columns_of(path: Path, dialect: Dialect) -> Sequence[str]:
    """The columns of a file: its heading, or the keys of all its objects.

    An object may leave out what it has no value for, so the first one does not tell.

    Raises:
        UnreadableFile: the file as a whole cannot be read.
    """
    keys: dict[str, None] = {}
    with _translated(path):
        if path.suffix.lower() in CSV:
            with _csv_rows(path, dialect) as (heading, _, _):
                keys.update((name, None) for name in heading if name)
        elif path.suffix.lower() in JSON_LINES:
            for line in _json_lines(path, dialect):
                if isinstance(line, GoodLine):
                    keys.update(dict.fromkeys(line.row))
        else:
            with _parquet(path) as file:
                keys.update(dict.fromkeys(file.schema_arrow.names))
    return tuple(keys)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # The reader of Parquet has words only.
        raise UnreadableFile(f"{path.name} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise UnreadableFile(
            f"{path.name} is not {error.encoding} (byte {error.start:,} is none of its"
            " characters): set `encoding` of the stream."
        ) from None
    except UnicodeError as error:
        raise UnreadableFile(
            f"{path.name} is not written in the `encoding` of its stream ({error}): UTF-16 without"
            " a mark at its beginning is utf-16-le or utf-16-be."
        ) from None


# ---------------------------------------------------------------- CSV


def _csv_lines(path: Path, dialect: Dialect) -> Iterator[Line]:
    with _csv_rows(path, dialect) as (heading, rows, delimiter):
        while True:
            line = rows.line_num + 1
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadLine(line, "not_csv", _why_no_row(error, rows.line_num - line), "")
                continue
            if not any(cell.strip() for cell in cells):
                # Spreadsheets write rows of nothing.
                continue
            surplus = cells[len(heading) :]
            if len(cells) < len(heading) or any(surplus):
                reason = f"has {len(cells)} cells where the heading names {len(heading)}"
                yield BadLine(line, "wrong_cells", reason, delimiter.join(cells))
            else:
                named = zip(heading, cells, strict=False)
                yield GoodLine(line, {name: cell for name, cell in named if name})


def _why_no_row(error: csv.Error, swallowed: int) -> str:
    reason = f"cannot be read as CSV ({error})"
    if swallowed <= 0:
        return reason
    return (
        f"{reason}, and with it the {swallowed:,} line(s) below: a quotation mark opens a cell and"
        " does not close it"
    )


@contextmanager
def _csv_rows(path: Path, dialect: Dialect) -> Iterator[tuple[Sequence[str], Any, str]]:
    """The heading, the reader of what follows it, and the delimiter."""
    csv.field_size_limit(LONGEST_CELL)
    # Found out once: to know that all of a file is UTF-8 it has to be read through.
    dialect = replace(dialect, encoding=dialect.encoding or _encoding(path))
    with _opened(path, dialect) as stream:
        delimiter = dialect.delimiter or _delimiter(path, dialect)
        # Strict: a quotation mark that nobody closed would swallow the rows below it unseen.
        rows = csv.reader(stream, delimiter=delimiter, strict=True)
        yield _heading(path, rows), rows, delimiter


def _heading(path: Path, rows: Iterator[list[str]]) -> Sequence[str]:
    try:
        heading = next((cells for row in rows if (cells := _stripped(row)) is not None), [])
    except csv.Error as error:
        raise UnreadableFile(
            f"the heading of {path.name} cannot be read as CSV ({error})."
        ) from None
    if not heading:
        raise UnreadableFile(f"{path.name} is empty: its first line must name the columns.")
    # The lookup of columns does not mind their case.
    named = [name.casefold() for name in heading if name]
    twice = [name for name in heading if named.count(name.casefold()) > 1]
    if twice:
        raise UnreadableFile(
            f'{path.name} names the column "{twice[0]}" twice: rename one of them.'
        )
    return heading


def _stripped(row: Sequence[str]) -> Sequence[str] | None:
    """A row's cells; None: nothing, or no more than which delimiter follows."""
    cells = [cell.strip() for cell in row]
    is_separator_line = cells and _is_separator_line(cells[0]) and not any(cells[1:])
    return cells if any(cells) and not is_separator_line else None


def _is_separator_line(text: str) -> bool:
    return text.casefold().startswith(_SEPARATOR_LINE) and len(text) <= len(_SEPARATOR_LINE) + 1


def _opened(path: Path, dialect: Dialect) -> TextIO:
    encoding = dialect.encoding or _encoding(path)
    try:
        stream = path.open(encoding=encoding, newline="")
    except LookupError:
        raise UnreadableFile(
            f'"{encoding}" is no encoding that Python knows: use utf-8, cp1252 or another.'
        ) from None
    try:
        # A mark is no part of the first column's name, whoever told the encoding.
        if stream.read(1) != _MARK:
            stream.seek(0)
    except BaseException:
        stream.close()
        raise
    return stream


def _encoding(path: Path) -> str:
    """By the file's mark, else UTF-8 where all of it is that, else Windows-1252."""
    with path.open("rb") as stream:
        beginning = stream.read(4)
    for mark, encoding in _MARKS:
        if beginning.startswith(mark):
            return encoding
    match [byte == 0 for byte in beginning]:
        case [False, True, False, True]:
            return "utf-16-le"
        case [True, False, True, False]:
            return "utf-16-be"
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
    heading = ""
    with _opened(path, dialect) as stream:
        while not heading.strip() and (line := stream.readline(_LOOKED_AT)):
            heading = line
    told = heading.strip(" \r\n")
    if _is_separator_line(told) and len(told) > len(_SEPARATOR_LINE):
        return told[-1]
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


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise UnreadableFile(
            f"{path.name} needs the extra for Parquet: pip install 'kpisync[parquet]'."
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except ArrowException as error:
        words = str(error).splitlines()[0][:_LONGEST_WORDS]
        raise UnreadableFile(
            f"{path.name} is no Parquet file, or a damaged one ({words})."
        ) from None


def _parquet_lines(path: Path) -> Iterator[Line]:
    number = 0
    with _parquet(path) as file:
        for batch in file.iter_batches():
            for row in _in_microseconds(batch).to_pylist():
                number += 1
                yield GoodLine(number, row)


def _in_microseconds(batch: Any) -> Any:
    """Instants as Python has them: data frames write nanoseconds."""
    from pyarrow import timestamp, types  # noqa: PLC0415 - an optional extra

    for place, field in enumerate(batch.schema):
        if types.is_timestamp(field.type) and field.type.unit == "ns":
            kind = timestamp("us", field.type.tz)
            column = batch.column(place).cast(kind, safe=False)
            batch = batch.set_column(place, field.with_type(kind), column)
    return batch
