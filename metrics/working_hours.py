"""The company's hours of work as a table, so that work between two instants is a subtraction."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete

from metrics.definition import KpiSettings, WorkingHours
from store import kpis as stored
from store.conversion import day_number, instant_number
from store.loading import load
from store.tables import WORKING_DAYS

FIRST: Final = date(1990, 1, 1)
LAST: Final = date(2079, 12, 31)
"""Durations that reach beyond these days are unknown."""


def renew(conn: Connection, settings: KpiSettings) -> None:
    """Work the table out again if hours, holidays or zone are other ones than before."""
    hours = settings.working_hours
    wanted = f"{settings.company.timezone.key} {hours}"
    if stored.fingerprints(conn).get(stored.HOURS) == wanted:
        return
    conn.execute(delete(WORKING_DAYS))
    if hours is not None:
        columns = ("day", "opens_at", "closes_at", "worked_before")
        load(conn, WORKING_DAYS.name, columns, _rows(settings, hours))
    stored.save_fingerprint(conn, stored.HOURS, wanted)


def _rows(settings: KpiSettings, hours: WorkingHours) -> list[tuple[int, int, int, int]]:
    zone, rows, worked = settings.company.timezone, [], 0
    day = FIRST
    while day <= LAST:
        opens = closes = instant_number(datetime.combine(day, hours.opens, zone).astimezone(UTC))
        if day.weekday() in hours.weekdays and day not in hours.holidays:
            closes = instant_number(datetime.combine(day, hours.closes, zone).astimezone(UTC))
        rows.append((day_number(day), opens, closes, worked))
        worked += closes - opens
        day += timedelta(days=1)
    return rows
