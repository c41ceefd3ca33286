"""The queries of a pull, and how their columns are split when a request line would be too long.

Page: SOQL and SOSL Reference, "Date Formats and Date Literals in WHERE": instants stand
unquoted, in UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from simple_salesforce.format import format_soql

MOST_IDS: Final = 400
"""Ids in one ``IN (…)``: 27 bytes each when encoded."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is read of an object: which rows, ordered by which change time."""

    object: str
    cursor_column: str
    where: str | None
    """What every row meets."""
    limit: int
    live_where: str | None = None
    """What a row meets that counts as a live record."""

    def window(
        self,
        columns: Sequence[str],
        *,
        low: datetime | None,
        high: datetime | None,
        after: datetime | None,
    ) -> str:
        """Rows changed from `low` on (or later than `after`), and before `high`."""
        column = self.cursor_column
        conditions = [
            f"{column} > {instant(after)}" if after else "",
            f"{column} >= {instant(low)}" if low and not after else "",
            f"{column} < {instant(high)}" if high else "",
        ]
        order = f"ORDER BY {column}, Id LIMIT {self.limit}"
        return self._query(columns, conditions, order)

    def tie(self, columns: Sequence[str], *, at: datetime, after_id: str) -> str:
        """The rest of the rows that share one change time."""
        conditions = [
            f"{self.cursor_column} = {instant(at)}",
            format_soql("Id > {}", after_id),
        ]
        return self._query(columns, conditions, f"ORDER BY Id LIMIT {self.limit}")

    def unordered(self, columns: Sequence[str], *, low: datetime | None) -> str:
        """Everything changed from `low` on, in no order: ordering forbids dividing the work.

        There is no upper bound: a row edited while the query runs must not fall out of it.
        """
        conditions = [f"{self.cursor_column} >= {instant(low)}" if low else ""]
        return self._query(columns, conditions, "")

    def by_id(self, columns: Sequence[str], ids: Sequence[str]) -> str:
        """The rows of these ids."""
        return self._query(columns, [format_soql("Id IN {}", list(ids))], "")

    def linked(self, columns: Sequence[str], *, by: str, to: Sequence[str]) -> str:
        """The rows that point to one of these ids."""
        return self._query(columns, [f"{by} IN {format_soql('{}', list(to))}"], "")

    def count(self, *, high: datetime | None = None) -> str:
        """What to count: everything, or what was changed before `high` (text behind FROM)."""
        where = self._where([f"{self.cursor_column} < {instant(high)}"] if high else [])
        return f"{self.object} WHERE {where}" if where else self.object

    def live_ids(self) -> str:
        """The ids of all live records."""
        return f"SELECT Id FROM {self.object}" + (  # noqa: S608  # described names
            f" WHERE {self.live_where}" if self.live_where else ""
        )

    def live_count(self, before: datetime) -> str:
        """How many live records have not changed since an instant."""
        own = f" AND ({self.live_where})" if self.live_where else ""
        condition = f"{self.cursor_column} < {instant(before)}{own}"
        return f"SELECT COUNT() FROM {self.object} WHERE {condition}"  # noqa: S608  # described names

    def _query(self, columns: Sequence[str], conditions: Sequence[str], order: str) -> str:
        where = self._where(conditions)
        text = f"SELECT {','.join(columns)} FROM {self.object}"  # noqa: S608  # described names
        return " ".join(part for part in (text, f"WHERE {where}" if where else "", order) if part)

    def _where(self, conditions: Sequence[str]) -> str:
        own = [f"({self.where})"] if self.where else []
        return " AND ".join([*(condition for condition in conditions if condition), *own])


def instant(value: datetime) -> str:
    """A dateTime literal; a fraction only where there is one."""
    precision = "milliseconds" if value.microsecond else "seconds"
    return value.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def column_groups(
    columns: Sequence[str],
    marks: Sequence[str],
    *,
    first: Callable[[Sequence[str]], int],
    further: Callable[[Sequence[str]], int],
    longest: int,
) -> list[list[str]]:
    """Split columns into queries short enough; every group begins with the marks.

    Args:
        columns: All columns but the marks.
        marks: What every query carries.
        first: Bytes of the ordering query with the given columns.
        further: Bytes of a query by ids with the given columns.
        longest: Most bytes allowed.

    Returns:
        Groups in the order of `columns`; one that is too long even with a single column
        stands alone.
    """
    groups = [list(marks)]
    for column in columns:
        measure = first if len(groups) == 1 else further
        if measure([*groups[-1], column]) > longest and len(groups[-1]) > len(marks):
            groups.append(list(marks))
        groups[-1].append(column)
    return groups
