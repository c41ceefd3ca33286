"""Reads a company from CSV files: accounts, products, sales_teams, sales_pipeline.

The format is that of the public "CRM Sales Opportunities" data set. Other companies' files in
the same shape load too, or are refused with file and line. A file may start with a byte order
mark and hold quoted line breaks; one that is not UTF-8 is read as Latin-1, with a warning.
"""

from __future__ import annotations

import csv
import io
import logging
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from pathlib import Path

from sandbox.company import Account, Company, Deal, Rep, StageVisit
from sandbox.org import StageSpec

NOON = time(12, tzinfo=UTC)
MILLION = 1_000_000
PROSPECTING, ENGAGING, WON, LOST = "Prospecting", "Engaging", "Won", "Lost"
STAGES = (
    StageSpec(PROSPECTING, is_closed=False, is_won=False, probability=0.1),
    StageSpec(ENGAGING, is_closed=False, is_won=False, probability=0.4),
    StageSpec(WON, is_closed=True, is_won=True, probability=1.0),
    StageSpec(LOST, is_closed=True, is_won=False, probability=0.0),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "accounts.csv": (
        "account",
        "sector",
        "revenue",
        "employees",
        "office_location",
        "subsidiary_of",
    ),
    "products.csv": ("product",),
    "sales_teams.csv": ("sales_agent",),
    "sales_pipeline.csv": (
        "opportunity_id",
        "sales_agent",
        "product",
        "account",
        "deal_stage",
        "engage_date",
        "close_date",
        "close_value",
    ),
}
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")

log = logging.getLogger("sandbox")


class BadDataError(ValueError):
    """The files cannot be loaded; says where and why."""

    def __init__(self, place: str, fault: str) -> None:
        super().__init__(place, fault)
        self.place = place
        self.fault = fault

    def __str__(self) -> str:
        return f"{self.place}: {self.fault}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a file, by column; knows where it stands."""

    file: str
    line: int
    values: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values[column].strip()

    def needed(self, column: str) -> str:
        """A value that must not be empty."""
        if not self[column]:
            raise self.bad(f"{column} is empty")
        return self[column]

    def day(self, column: str) -> date | None:
        """A calendar day, None where the cell is empty."""
        if not self[column]:
            return None
        try:
            return date.fromisoformat(self[column])
        except ValueError:
            raise self.bad(f'{column} "{self[column]}" is not a date (YYYY-MM-DD)') from None

    def number(self, column: str) -> Decimal | None:
        """A finite number, None where the cell is empty."""
        if not self[column]:
            return None
        try:
            number = Decimal(self[column])
        except InvalidOperation:
            number = Decimal("NaN")
        if not number.is_finite():
            raise self.bad(f'{column} "{self[column]}" is not a number')
        return number

    def bad(self, fault: str) -> BadDataError:
        """An error that points here."""
        return BadDataError(f"{self.file}:{self.line}", fault)


def read_company(folder: Path) -> Company:
    """Read the four files of a folder.

    Raises:
        BadDataError: at the first file, column or row that does not fit.
    """
    if not folder.is_dir():
        raise BadDataError(str(folder), "no such folder")
    reps = _reps(_rows(folder, "sales_teams.csv"))
    accounts = _accounts(_rows(folder, "accounts.csv"))
    products = {
        _key(row["product"]): row.needed("product") for row in _rows(folder, "products.csv")
    }
    pipeline = list(_rows(folder, "sales_pipeline.csv"))
    last_day = _last_day(pipeline)
    known = _Known({rep.name for rep in reps}, {it.name for it in accounts}, products, last_day)
    return Company(
        stages=STAGES,
        reps=reps,
        accounts=accounts,
        deals=[known.deal(row) for row in _unique(pipeline, "opportunity_id")],
        last_day=last_day,
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """What a row of the pipeline may refer to."""

    reps: set[str]
    accounts: set[str]
    products: Mapping[str, str]
    last_day: date

    def deal(self, row: Row) -> Deal:
        stage = row.needed("deal_stage")
        if stage not in STAGE_NAMES:
            raise row.bad(f'deal_stage "{stage}" is none of {", ".join(STAGE_NAMES)}')
        visits, closed_on = self._way(row, stage)
        return Deal(
            name=row["opportunity_id"],
            owner=self._rep(row),
            visits=visits,
            account=self._account(row),
            product=self._product(row),
            amount=row.number("close_value"),
            close_date=closed_on,
        )

    def _way(self, row: Row, stage: str) -> tuple[list[StageVisit], date | None]:
        engaged, closed = row.day("engage_date"), row.day("close_date")
        if stage in (PROSPECTING, ENGAGING):
            created = datetime.combine(engaged or self.last_day, NOON)
            return [StageVisit(created, stage)], closed
        if engaged is None or closed is None:
            missing = "engage_date" if engaged is None else "close_date"
            raise row.bad(f"{missing} is empty, but the deal is {stage}")
        if closed < engaged:
            raise row.bad(f"closed on {closed}, before it was engaged on {engaged}")
        visits = [
            StageVisit(datetime.combine(engaged, NOON), ENGAGING),
            StageVisit(datetime.combine(closed, NOON), stage),
        ]
        return visits, closed

    def _rep(self, row: Row) -> str:
        name = row.needed("sales_agent")
        if name not in self.reps:
            raise row.bad(f'sales_agent "{name}" is not in sales_teams.csv')
        return name

    def _account(self, row: Row) -> str | None:
        name = row["account"] or None
        if name is not None and name not in self.accounts:
            raise row.bad(f'account "{name}" is not in accounts.csv')
        return name

    def _product(self, row: Row) -> str | None:
        written = row["product"]
        if not written:
            return None
        # "GTXPro" in the pipeline is "GTX Pro" among the products.
        if _key(written) not in self.products:
            raise row.bad(f'product "{written}" is not in products.csv')
        return self.products[_key(written)]


def _reps(rows: Iterator[Row]) -> list[Rep]:
    reps: list[Rep] = []
    taken: set[str] = set()
    for row in _unique(rows, "sales_agent"):
        name = row["sales_agent"]
        first, *rest = name.split()
        address = _address(name)
        while address in taken:
            address += "x"
        taken.add(address)
        reps.append(Rep(name, first, " ".join(rest) or first, f"{address}@example.com"))
    return reps


def _accounts(rows: Iterator[Row]) -> list[Account]:
    waiting = {row["account"]: row for row in _unique(rows, "account")}
    known = set(waiting)
    accounts: dict[str, Account] = {}
    while waiting:
        ready = [row for row in waiting.values() if _parent(row, known) not in waiting]
        if not ready:
            row = next(iter(waiting.values()))
            raise row.bad(f'subsidiary_of "{row["subsidiary_of"]}" leads in a circle')
        for row in ready:
            accounts[row["account"]] = _account(waiting.pop(row["account"]))
    return list(accounts.values())


def _parent(row: Row, known: set[str]) -> str | None:
    parent = row["subsidiary_of"] or None
    if parent is not None and parent not in known:
        raise row.bad(f'subsidiary_of "{parent}" is not in accounts.csv')
    return parent


def _account(row: Row) -> Account:
    revenue, employees = row.number("revenue"), row.number("employees")
    return Account(
        name=row["account"],
        industry=row["sector"] or None,
        country=row["office_location"] or None,
        annual_revenue=None if revenue is None else (revenue * MILLION).normalize(),
        employees=None if employees is None else int(employees),
        parent=row["subsidiary_of"] or None,
    )


def _last_day(rows: Sequence[Row]) -> date:
    days = [day for row in rows for day in (row.day("engage_date"), row.day("close_date")) if day]
    if not days:
        raise BadDataError("sales_pipeline.csv", "no row has a date")
    return max(days)


def _unique(rows: Iterator[Row] | Sequence[Row], column: str) -> Iterator[Row]:
    seen: dict[str, int] = {}
    for row in rows:
        value = row.needed(column)
        if value in seen:
            raise row.bad(f'{column} "{value}" stands on line {seen[value]} already')
        seen[value] = row.line
        yield row


def _rows(folder: Path, name: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(_text(folder / name), newline=""), strict=True)
    line = 1
    header: list[str] | None = None
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise BadDataError(f"{name}:{line}", str(error)) from None
        if cells is None:
            break
        if header is None:
            header = _header(name, cells)
        elif cells:
            if len(cells) != len(header):
                fault = f"{len(cells)} columns, but the header has {len(header)}"
                raise BadDataError(f"{name}:{line}", fault)
            yield Row(name, line, dict(zip(header, cells, strict=True)))
        line = reader.line_num + 1
    if header is None:
        raise BadDataError(f"{name}:1", "the file is empty")


def _header(name: str, cells: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    missing = [column for column in COLUMNS[name] if column not in header]
    if missing:
        raise BadDataError(f"{name}:1", f"column {', '.join(missing)} is missing")
    return header


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadDataError(path.name, f"cannot be read: {error.strerror}") from None
    if raw.startswith(UTF_16_MARKS):
        raise BadDataError(f"{path.name}:1", "is UTF-16; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        log.warning("%s:%s: not UTF-8, read as Latin-1", path.name, line)
        return raw.decode("latin-1")


def _key(product: str) -> str:
    return "".join(product.split()).casefold()


def _address(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = ["".join(c for c in word if c.isalnum()) for word in plain.lower().split()]
    return ".".join(word for word in words if word) or "owner"
