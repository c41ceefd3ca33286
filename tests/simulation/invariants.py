"""What must hold when all is quiet, and what must hold at every commit.

Read from the database file and from the CRM's memory, by statements of our own: nothing of the
product's reading is believed but `verify`, which is what I3 is about.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Final, Self

from metrics.verify import verify
from store.engine import reading
from tests.simulation.connector import LOOKBACK
from tests.simulation.crm import ACCOUNTS, DEALS, KPI_FIELDS, SPOILT, Crm, Row
from tests.simulation.installation import CONNECTION, Installation
from tests.simulation.snapshots import EPOCH, MICROSECOND

Rows = list[tuple[object, ...]]

_KPI_OF: Final = {"kpi_revenue": "revenue", "kpi_win_rate": "win_rate"}
_STREAMS: Final = {"accounts": ACCOUNTS, "deals": DEALS}

_FINAL: Final = {
    "accounts": "SELECT ref, name, owner, deleted, merged_into FROM accounts ORDER BY ref",
    "deals": "SELECT ref, account, owner, stage, is_won, amount, close_date, deleted FROM deals"
    " ORDER BY ref",
    "cells": "SELECT * FROM cells ORDER BY family, dimension, key, day, currency, bucket",
    "values": "SELECT kpi, period, dimension, key, value, numerator, denominator, n, left_out"
    " FROM kpi_values WHERE valid_to IS NULL ORDER BY kpi, period, dimension, key",
    "dirty keys": "SELECT * FROM dirty_keys",
    "letters": "SELECT ref, stream, direction, field, code FROM dead_letters ORDER BY 1, 2, 3",
    "outbox": "SELECT state, record_id, field, value FROM outbox"
    " WHERE state IN ('pending', 'sending')",
    "pushed": "SELECT record_id, field, value FROM pushed_values ORDER BY 1, 2",
    "streams": "SELECT stream, is_full_pull_running, state, error, definition FROM checkpoints"
    " ORDER BY 1",
    "holds": "SELECT writeback, kind FROM writeback_holds",
}


def final_state(site: Installation) -> dict[str, Rows]:
    """What stays of a run when it does not matter how it came about."""
    with closing(sqlite3.connect(site.disk.path)) as conn:
        found = {name: conn.execute(query).fetchall() for name, query in _FINAL.items()}
    for object_name in _STREAMS.values():
        found[object_name] = [
            (row.id, row.deleted, row.merged_into, *sorted(row.fields.items()))
            for row in sorted(site.crm.rows[object_name].values(), key=lambda row: row.id)
        ]
    return found


def unlike(one: dict[str, Rows], other: dict[str, Rows]) -> Iterator[str]:
    """Where a state differs from that of the undisturbed run."""
    for name, expected in one.items():
        found = other[name]
        if found != expected:
            missing = [row for row in expected if row not in found]
            extra = [row for row in found if row not in expected]
            yield f"undisturbed: {name}: missing {missing[:3]}, instead {extra[:3]}"


def findings(
    site: Installation,
    *,
    lost_answers: int = 0,
    with_values: bool = True,
    with_order: bool = True,
) -> list[str]:
    """Every broken promise, once all is quiet; none when all is well.

    Args:
        site: What to look at.
        lost_answers: So many writes may have been repeated.
        with_values: Recompute every value as well.
        with_order: No request was on its way when its process froze; one that was may come after
            those of its successor.
    """
    with closing(sqlite3.connect(site.disk.path)) as conn:
        return [
            *_store_is_the_crm(conn, site.crm),
            *(_values_are_recomputed(site) if with_values else ()),
            *_fields_hold_the_values(conn, site.crm),
            *_no_redundant_write(site.crm, lost_answers),
            *_nothing_else_was_written(site.crm),
            *_letters_are_of_rejected_records(conn, site.crm),
            *(_never_an_older_value(conn, site.crm) if with_order else ()),
            *_runs_have_ended(conn),
            *runs_that_do_not_add_up(conn),
            *_nothing_is_left_to_do(conn),
        ]


# ---------------------------------------------------------------- I1, I2, I3


def _store_is_the_crm(conn: sqlite3.Connection, crm: Crm) -> Iterator[str]:
    for stream, object_name in _STREAMS.items():
        query = f"SELECT * FROM {stream}"  # noqa: S608 - one of two names
        cursor = conn.execute(query)
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
        stored = {str(row["ref"]): row for row in rows}
        if len(stored) < len(rows):
            yield f"I2: {stream} holds a record twice"
        held = {f"{CONNECTION}:{row.id}": row for row in crm.rows[object_name].values()}
        alive = {ref for ref, row in stored.items() if not row["deleted"]}
        readable = {ref for ref, row in held.items() if not row.deleted and _is_readable(row)}
        spoilt = {ref for ref, row in held.items() if not _is_readable(row)}
        for ref in sorted(readable - alive):
            yield f"I1: {ref} is in the CRM and not in the store"
        for ref in sorted(alive - readable - spoilt):
            yield f"I1: {ref} is in the store and not in the CRM"
        for ref in sorted(readable & alive):
            yield from _same_record(ref, stored[ref], held[ref])
        for ref, row in held.items():
            if row.merged_into and ref in stored:
                winner = f"{CONNECTION}:{row.merged_into}"
                if stored[ref]["merged_into"] != winner:
                    yield f"I1: {ref} was merged into {winner}, the store does not know"


def _same_record(ref: str, stored: dict[str, object], held: Row) -> Iterator[str]:
    fields = held.fields
    expected: dict[str, object] = {"name": fields.get("name")}
    for link in ("account", "owner", "stage"):
        if link in fields and link in stored:
            expected[link] = f"{CONNECTION}:{fields[link]}"
    if "amount" in fields:
        amount = fields["amount"]
        expected["amount"] = None if amount is None else int(Decimal(amount) * 100)
    for name, value in expected.items():
        if name in stored and stored[name] != value:
            yield f"I1: {ref}.{name} is {stored[name]!r}, in the CRM {value!r}"


def _is_readable(row: Row) -> bool:
    return row.fields.get("amount") != SPOILT


def _values_are_recomputed(site: Installation) -> Iterator[str]:
    with reading(site.disk.unwatched) as conn:
        found = verify(conn, site.definition.catalog, as_of=site.world.now)
    for one in found.differences[:5]:
        yield f"I3: {one}"
    if not found.checked:
        yield "I3: there is no value at all"


# ---------------------------------------------------------------- I5, I6, I8, I10


def _fields_hold_the_values(conn: sqlite3.Connection, crm: Crm) -> Iterator[str]:
    query = (
        "SELECT kpi, key, value FROM kpi_values WHERE valid_to IS NULL AND dimension = 'account'"
        " AND period = 'all'"
    )
    values = {(kpi, key): value for kpi, key, value in conn.execute(query)}
    for row in crm.alive(ACCOUNTS):
        for name, kpi in _KPI_OF.items():
            value = values.get((kpi, f"{CONNECTION}:{row.id}"))
            if value is None or row.id in crm.refusing:
                continue
            held = row.fields.get(name)
            if held is None or not _rounds_to(Decimal(str(value)), Decimal(held)):
                yield f"I5: {row.id}.{name} is {held}, the value is {value}"


def _rounds_to(exact: Decimal, held: Decimal) -> bool:
    return any(
        exact.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP) == held for places in (2, 4)
    )


def _no_redundant_write(crm: Crm, lost_answers: int) -> Iterator[str]:
    redundant = [entry for entry in crm.journal if entry.is_redundant]
    if len({(one.at, one.id) for one in redundant}) > lost_answers:
        first = redundant[0]
        yield (
            f"I6: {len(redundant)} redundant writes, {lost_answers} lost answers; the first is "
            f"{first.id}.{first.field} = {first.new} at {first.at:%H:%M:%S.%f}"
        )


def _nothing_else_was_written(crm: Crm) -> Iterator[str]:
    for entry in crm.journal:
        if entry.object != ACCOUNTS or entry.field not in KPI_FIELDS:
            yield f"I8: {entry.object} {entry.id}.{entry.field} was written"
        elif entry.new is None and entry.old is not None:
            yield f"I8: {entry.id}.{entry.field} was blanked"


def _never_an_older_value(conn: sqlite3.Connection, crm: Crm) -> Iterator[str]:
    query = (
        "SELECT kpi, key, value FROM kpi_values WHERE dimension = 'account' AND period = 'all'"
        " AND value IS NOT NULL ORDER BY id"
    )
    history: dict[tuple[str, str], list[Decimal]] = defaultdict(list)
    for kpi, key, value in conn.execute(query):
        history[kpi, key].append(Decimal(str(value)))
    written: dict[tuple[str, str], list[Decimal]] = defaultdict(list)
    for entry in crm.journal:
        if entry.new is not None:
            written[entry.id, entry.field].append(Decimal(entry.new))
    for (record, name), values in written.items():
        known = history[_KPI_OF[name], f"{CONNECTION}:{record}"]
        at = 0
        for value in values:
            ahead = next((i for i in range(at, len(known)) if _rounds_to(known[i], value)), None)
            if ahead is None:
                yield f"I10: {record}.{name} was given {value} after {values}, known are {known}"
                break
            at = ahead


# ---------------------------------------------------------------- I9, I13, I7


def _letters_are_of_rejected_records(conn: sqlite3.Connection, crm: Crm) -> Iterator[str]:
    query = "SELECT direction, ref FROM dead_letters"
    letters = conn.execute(query).fetchall()
    listed = sorted(ref for direction, ref in letters if direction == "pull")
    spoilt = sorted(f"{CONNECTION}:{row.id}" for row in crm.alive(DEALS) if not _is_readable(row))
    if listed != spoilt:
        yield f"I9: the letters name {listed}, what cannot be read is {spoilt}"
    parked = {ref for direction, ref in letters if direction == "push"}
    for ref in sorted(parked - {f"{CONNECTION}:{one}" for one in crm.refusing}):
        yield f"I9: {ref} takes values and has a dead letter"


def _runs_have_ended(conn: sqlite3.Connection) -> Iterator[str]:
    query = "SELECT run, kind FROM runs WHERE state = 'running'"
    for run, kind in conn.execute(query):
        yield f"I13: {kind} {run} never ended"


def runs_that_do_not_add_up(conn: sqlite3.Connection) -> Iterator[str]:
    """I13: of each run, what was pulled is what was stored, unchanged or dead."""
    query = (
        "SELECT run, kind, pulled, stored, unchanged, dead FROM runs"
        " WHERE pulled <> stored + unchanged + dead"
    )
    for run, kind, pulled, stored, unchanged, dead in conn.execute(query):
        yield f"I13: {kind} {run}: {pulled} pulled = {stored} + {unchanged} + {dead}?"


def _nothing_is_left_to_do(conn: sqlite3.Connection) -> Iterator[str]:
    dirty = conn.execute("SELECT count(*) FROM dirty_keys").fetchone()[0]
    waiting = conn.execute(
        "SELECT count(*) FROM outbox WHERE state IN ('pending', 'sending')"
    ).fetchone()[0]
    held = conn.execute("SELECT name FROM leases WHERE holder IS NOT NULL").fetchall()
    if dirty or waiting:
        yield f"I7: {dirty} dirty keys and {waiting} values in the outbox are left"
    if held:
        yield f"I7: leases are still held: {held}"


# ---------------------------------------------------------------- I4, at every commit


class Watch:
    """Looks at each commit whether the store has what its checkpoints claim."""

    def __init__(self, site: Installation) -> None:
        self._site = site
        self.conn = sqlite3.connect(site.disk.path, isolation_level=None, check_same_thread=False)
        """For looks from outside, which see what is committed."""
        self._believed: Sequence[tuple[str, str]] = ()
        self.found: list[str] = []

    def __enter__(self) -> Self:
        self._site.world.on_commit = self.look
        return self

    def __exit__(self, *_: object) -> None:
        self._site.world.on_commit = None
        self.conn.close()

    @property
    def version(self) -> int:
        """Another one after each commit that changed something."""
        found: int = self.conn.execute("PRAGMA data_version").fetchone()[0]
        return found

    def look(self) -> None:
        """A commit has just been made."""
        query = "SELECT stream, complete_until FROM checkpoints WHERE complete_until IS NOT NULL"
        told = self.conn.execute(query).fetchall()
        if told == self._believed:
            return
        self._believed = told
        for stream, until in told:
            edge = datetime.fromisoformat(until) - LOOKBACK
            self.found += self._missing(stream, edge)

    def _missing(self, stream: str, edge: datetime) -> Iterable[str]:
        query = f"SELECT ref, modified_at FROM {stream}"  # noqa: S608 - one of two names
        stored: dict[str, int | None] = dict(self.conn.execute(query).fetchall())
        now = self._site.world.now
        for row in self._site.crm.rows[_STREAMS[stream]].values():
            is_shown = row.visible_from is None or row.visible_from <= now
            if row.deleted or not is_shown or row.changed_at > edge or not _is_readable(row):
                continue
            at = stored.get(f"{CONNECTION}:{row.id}")
            if at is None:
                yield f"I4: {row.id} of {row.changed_at} is not in the store, complete is {edge}"
            elif (EPOCH + at * MICROSECOND) < row.changed_at:
                # Echoes of our own writes are no news: they may stay as they were.
                pass
