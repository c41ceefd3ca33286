"""What is stored of a field outlives the right to read it.

A field that a CRM stops showing (a permission withdrawn, a property archived) comes as nothing,
which would read as "no value" and take good values away. Its stored values stay instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, select

from store.canonical import CanonicalRecord, Company, Key
from store.conversion import RecordMaker
from store.tables import RECORD_TABLES

_REFS_AT_ONCE: Final = 500


def with_stored_values(
    conn: Connection,
    stream: str,
    records: Sequence[CanonicalRecord],
    unreadable: Collection[str],
    company: Company,
) -> list[CanonicalRecord]:
    """Fill fields that could not be read with what is stored of them.

    Args:
        conn: a connection in a transaction.
        stream: the canonical stream of all the records.
        records: records as mapped, without those fields.
        unreadable: canonical names and names of own fields.
        company: the default currency of amounts.
    """
    stored: dict[Key, CanonicalRecord] = {}
    for refs in _portions([record.ref.key for record in records]):
        stored |= _stored(conn, stream, refs, company)
    return [_filled(record, stored.get(record.ref.key), unreadable) for record in records]


def _stored(
    conn: Connection, stream: str, refs: Sequence[Key], company: Company
) -> dict[Key, CanonicalRecord]:
    table = RECORD_TABLES[stream]
    maker = RecordMaker(stream, company)
    rows = conn.execute(select(table).where(table.c.ref.in_(refs))).mappings()
    return {row["ref"]: maker.record(row) for row in rows}


def _filled(
    record: CanonicalRecord, stored: CanonicalRecord | None, unreadable: Collection[str]
) -> CanonicalRecord:
    if stored is None:
        return record
    canonical: dict[str, Any] = {
        name: getattr(stored, name)
        for name in unreadable
        # A value that the connector knows in another way is not missing.
        if name in record.__dataclass_fields__ and getattr(record, name) is None
    }
    own = {name: stored.extra[name] for name in unreadable if name in stored.extra}
    return replace(record, **canonical, extra={**own, **record.extra})


def _portions(refs: Sequence[Key]) -> Iterator[Sequence[Key]]:
    for start in range(0, len(refs), _REFS_AT_ONCE):
        yield refs[start : start + _REFS_AT_ONCE]
