"""The metrics table as a file: CSV for spreadsheets, Parquet for everything that calculates."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Context, Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

from store import exports
from store.engine import reading
from store.kpis import plain
from worker.runtime import Runtime

Row: TypeAlias = Mapping[str, Any]

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula, or skips before one."""

_DIGITS_AFTER_POINT: Final = 18
_PRECISION: Final = 38
_EXACT: Final = Context(prec=_PRECISION)
_ROWS_AT_ONCE: Final = 10_000

_NUMBERS: Final = ("value", "numerator", "denominator")
_INSTANTS: Final = ("as_of", "valid_from", "valid_to")


class CannotExport(Exception):
    """The file cannot be written as asked."""


def export_values(
    runtime: Runtime,
    path: Path,
    *,
    kpi: str | None = None,
    period: str | None = None,
    dimension: str | None = None,
    at: datetime | None = None,
) -> int:
    """Write published values into a file; it appears when it is whole.

    Args:
        runtime: What it works with.
        path: Ends with .csv or .parquet.
        kpi: Only this one.
        period: Only this label (``2026-Q1``, ``all``).
        dimension: Only this one; ``all`` for totals.
        at: An instant: what was believed then.

    Returns:
        How many values were written.

    Raises:
        CannotExport: The format is unknown, its library is missing, or the disk refuses.
        StoreUnavailable: The database is away.
    """
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        known = " or ".join(_WRITERS)
        raise CannotExport(f'"{path.name}" does not say its format: end it with {known}')
    with reading(runtime.engine) as conn:
        rows = exports.rows(conn, kpi=kpi, period=period, dimension=dimension, at=at)
        return _whole(path, lambda file: write(file, rows))


def _whole(path: Path, write: Callable[[Path], int]) -> int:
    """Write beside the target and put it there at the end: nobody reads half a file."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        draft = Path(name)
        try:
            count = write(draft)
            # mkstemp makes files for their owner alone; an export is for whom the folder is.
            draft.chmod(0o644)
            draft.replace(path)
        finally:
            with suppress(FileNotFoundError):
                draft.unlink()
    except OSError as error:
        raise CannotExport(f"{path} cannot be written: {error.strerror}") from error
    return count


# ---------------------------------------------------------------- CSV


def write_table(
    path: Path, columns: Sequence[str], rows: Iterable[Row], *, numbers: Collection[str]
) -> int:
    """Write any rows into a CSV file; it appears when it is whole.

    Args:
        path: The file.
        columns: Keys of the rows, in the order of the file.
        rows: What to write.
        numbers: Columns that may begin with a minus.

    Returns:
        How many rows were written.

    Raises:
        CannotExport: The disk refuses.
    """
    return _whole(path, lambda file: _write_csv(file, rows, columns, numbers))


def _write_csv(
    path: Path,
    rows: Iterable[Row],
    columns: Sequence[str] = exports.COLUMNS,
    numbers: Collection[str] = _NUMBERS,
) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as stream:
        # With both characters of the line's end: a cell that holds either is then quoted.
        writer = csv.writer(stream, lineterminator="\r\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(row[name], is_number=name in numbers) for name in columns])
            count += 1
    return count


def _cell(value: object, *, is_number: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return plain(value) or ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    text = str(value)
    # Numbers may begin with a minus; whatever a CRM's users typed may not begin a formula.
    is_risky = not is_number and text.startswith(_FORMULA)
    return f"'{text}" if is_risky else text


# ---------------------------------------------------------------- Parquet


def _write_parquet(path: Path, rows: Iterable[Row]) -> int:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra that most installations do without
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        raise CannotExport(
            "Parquet needs the library pyarrow: install kpisync[parquet], or write a .csv"
        ) from None
    number = pa.decimal128(_PRECISION, _DIGITS_AFTER_POINT)
    kinds = dict.fromkeys(_NUMBERS, number)
    kinds |= dict.fromkeys(_INSTANTS, pa.timestamp("us", tz="UTC"))
    kinds["n"] = pa.int64()
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in exports.COLUMNS])
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for some in _portions(rows):
            writer.write_batch(
                pa.RecordBatch.from_pylist([_fitted(row) for row in some], schema=schema)
            )
            count += len(some)
    return count


def _portions(rows: Iterable[Row]) -> Iterator[list[Row]]:
    remaining = iter(rows)
    while some := list(islice(remaining, _ROWS_AT_ONCE)):
        yield some


def _fitted(row: Row) -> dict[str, object]:
    """Numbers with as many digits as a Parquet decimal has."""
    numbers: dict[str, object] = {}
    for name in _NUMBERS:
        value = row[name]
        try:
            step = Decimal(1).scaleb(-_DIGITS_AFTER_POINT)
            numbers[name] = None if value is None else value.quantize(step, context=_EXACT)
        except InvalidOperation:
            raise CannotExport(
                f"{row['kpi']} of {row['period']} has more than "
                f"{_PRECISION - _DIGITS_AFTER_POINT} digits before the point, which Parquet does "
                "not hold: write a .csv"
            ) from None
    return {**row, **numbers}


_WRITERS: Final[Mapping[str, Callable[[Path, Iterable[Row]], int]]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
