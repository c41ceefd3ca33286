"""Local days in the record tables, when the company's time zone changes.

The days of records are worked out when they are stored. Another zone makes other days of the
same instants: then they are all worked out again, before the cells are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, RowMapping, bindparam, select, update

from store import kpis as stored
from store.canonical import Company
from store.errors import StoreError
from store.money import minor_units
from store.tables import RECORD_TABLES

LOCAL_DAYS: Final = "local_days"
"""The bookkeeping entry that says with which zone and currency records were stored."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ROWS_AT_ONCE: Final = 5_000


@dataclass(frozen=True, slots=True)
class _StoredWith:
    zone: str
    currency: str

    @classmethod
    def of(cls, company: Company) -> _StoredWith:
        return cls(company.timezone.key, company.currency)

    @classmethod
    def read(cls, text: str) -> _StoredWith:
        zone, _, currency = text.partition(" ")
        return cls(zone, currency)

    def __str__(self) -> str:
        return f"{self.zone} {self.currency}"


def note_first(conn: Connection, fingerprints: Mapping[str, str], company: Company) -> None:
    """Remember what the very first records are stored with."""
    if LOCAL_DAYS not in fingerprints:
        stored.save_fingerprint(conn, LOCAL_DAYS, str(_StoredWith.of(company)))


def renew(conn: Connection, company: Company) -> None:
    """Work every local day out again if the zone is another one than before.

    Raises:
        StoreError: the company's currency changed to one with another number of digits:
            what the stored amounts without a currency mean is lost.
    """
    noted = stored.fingerprints(conn).get(LOCAL_DAYS)
    now = _StoredWith.of(company)
    if noted == str(now):
        return
    before = now if noted is None else _StoredWith.read(noted)
    if minor_units(before.currency) != minor_units(now.currency):
        raise StoreError(
            f"company.currency changed from {before.currency} to {now.currency}, which has another "
            "number of digits; stored amounts without a currency of their own would be wrong. "
            "Start with an empty database, or set the currency back"
        )
    if before.zone != now.zone:
        for stream in RECORD_TABLES:
            _renew_table(conn, stream, company.timezone)
    stored.save_fingerprint(conn, LOCAL_DAYS, str(now))


_SOURCES: Final[Mapping[str, tuple[str, ...]]] = {
    "created_day": ("created_at",),
    "at_day": ("at",),
    "submitted_day": ("submitted_at",),
    "qualified_day": ("qualified_at",),
    "first_response_day": ("first_response_at",),
    "closed_day": ("is_closed", "close_date", "closed_at"),
}
"""Column of a local day -> the columns it is worked out from, where a table has them."""


def _renew_table(conn: Connection, stream: str, zone: ZoneInfo) -> None:
    table = RECORD_TABLES[stream]
    days = [name for name in _SOURCES if name in table.c]
    sources = {source for name in days for source in _SOURCES[name] if source in table.c}
    statement = (
        update(table)
        .where(table.c.ref == bindparam("a_ref"))
        .values({name: bindparam(f"a_{name}") for name in days})
    )
    query = select(table.c.ref, *(table.c[name] for name in {*sources, *days}))
    moved: list[dict[str, object]] = []
    for row in conn.execute(query).mappings().all():
        renewed = {name: _day(name, row, zone) for name in days}
        if any(row[name] != day for name, day in renewed.items()):
            moved.append(
                {"a_ref": row["ref"], **{f"a_{name}": day for name, day in renewed.items()}}
            )
    for start in range(0, len(moved), _ROWS_AT_ONCE):
        conn.execute(statement, moved[start : start + _ROWS_AT_ONCE])


def _day(name: str, row: RowMapping, zone: ZoneInfo) -> int | None:
    if name != "closed_day":
        return _local_day(row[_SOURCES[name][0]], zone)
    if not row["is_closed"]:
        return None
    close_date: int | None = row.get("close_date")
    return close_date if close_date is not None else _local_day(row["closed_at"], zone)


def _local_day(microseconds: int | None, zone: ZoneInfo) -> int | None:
    if microseconds is None:
        return None
    local = (_EPOCH + timedelta(microseconds=microseconds)).astimezone(zone).date()
    return (local - date(1970, 1, 1)).days
