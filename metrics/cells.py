"""One page, one transaction: what it changes is taken out of the cells and put back changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    Connection,
    CursorResult,
    FromClause,
    Insert,
    RowMapping,
    Table,
    delete,
    exists,
    func,
    insert,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite

from metrics import labels, local_days
from metrics.catalog import Catalog
from metrics.contributions import (
    AFTER,
    BEFORE,
    BOTH,
    CELL_COLUMNS,
    CELL_DELTAS,
    DEAL_COLUMNS,
    DEAL_FACTS,
    MOVED,
    MOVED_KEYS,
    PURCHASE_COLUMNS,
    PURCHASE_FACTS,
    TEMPORARY,
    TOUCHED_DEALS,
    UNIT_ACCOUNTS,
    VISIT_COLUMNS,
    VISIT_FACTS,
    cells_of,
    deal_facts,
    purchases_of,
    visits_of,
)
from metrics.definition import Family
from metrics.dimensions import Grouping
from metrics.periods import Calendar
from store import identity, kpis, temporary
from store import records as record_store
from store.canonical import CanonicalRecord, RecordRef
from store.compiled import AnySelect, text_of
from store.engine import is_postgresql
from store.errors import StoreError
from store.identity import Resolution
from store.records import NOTHING_UNREADABLE, STAGE, Staged
from store.tables import CELLS, DEAL_STAGE_CHANGES, DEALS, DIRTY_KEYS, IDENTITY, MEASURES, STAGES

PURCHASE_FORMULAS: Final = frozenset({"buyers", "first_purchases"})
"""Families that count accounts: what one purchase adds depends on the account's other ones."""


def commit_page(
    conn: Connection,
    catalog: Catalog,
    records: Sequence[CanonicalRecord],
    deleted: Sequence[RecordRef],
    *,
    defer: bool = False,
    unreadable: Mapping[str, AbstractSet[str]] = NOTHING_UNREADABLE,
) -> Staged:
    """Apply a page to the records and move the cells and dirty keys with it.

    Records that are stored as they are touch nothing, so a page can come twice.

    Args:
        conn: in `store.engine.writing`; the caller commits.
        catalog: the cells to keep.
        records: of any streams.
        deleted: records the CRM reports as deleted without showing them.
        defer: of a first load: the families that the page would move become stale instead, and
            are built once, by `metrics.rebuild.rebuild`.
        unreadable: stream -> fields that the CRM does not show now; the stored values stay.

    Returns:
        What the page held.

    Raises:
        RecordRefused: a record does not fit into the store.
        StoreError: the cells contradict the records; `kpisync compute --rebuild` mends them.
    """
    staged = record_store.stage(conn, records, deleted, catalog.company, unreadable=unreadable)
    if not staged.changed:
        record_store.apply(conn, staged)  # only modification times
        return staged
    fresh = _fresh_families(conn, catalog)
    resolution = identity.resolve_page(
        conn, staged.streams, match_owners_by_email=catalog.settings.match_owners_by_email
    )
    if kpis.has_values(conn):
        labels.note_renamed(conn, catalog, staged.streams)
    if defer:
        kpis.forget_fingerprints(conn, _moved_families(catalog, staged, resolution) & fresh)
        fresh = frozenset()
    increment = _Increment(conn, catalog, fresh)
    is_moving = bool(fresh) and increment.find_touched(staged, resolution)
    if is_moving:
        increment.remember(BEFORE)
    record_store.apply(conn, staged)
    if resolution:
        identity.save(conn, resolution)
    if is_moving:
        increment.remember(AFTER)
        increment.move_cells()
    return staged


def _fresh_families(conn: Connection, catalog: Catalog) -> frozenset[str]:
    """The families whose cells can be moved: the others become stale for good.

    A family that another configuration needs, or needs in other groupings, is not moved with
    this page. Should that configuration return, its cells must not pass for up to date.
    """
    built = kpis.fingerprints(conn)
    local_days.note_first(conn, built, catalog.company)
    fresh = {name for name, wanted in catalog.fingerprints.items() if built.get(name) == wanted}
    kpis.forget_fingerprints(conn, built.keys() - fresh - kpis.BOOKKEEPING)
    return frozenset(fresh)


def _moved_families(catalog: Catalog, staged: Staged, resolution: Resolution) -> frozenset[str]:
    # Every family counts deals, and when a deal was closed may be known from its stages alone.
    is_moving = {"deals", "deal_stage_changes", "stages"} & set(staged.streams)
    return frozenset(catalog.families) if is_moving or resolution else frozenset()


# ---------------------------------------------------------------- an increment


class _Increment:
    """What one page changes, in temporary tables on this connection."""

    def __init__(self, conn: Connection, catalog: Catalog, fresh: Collection[str]) -> None:
        self._conn = conn
        self._catalog = catalog
        self._families = [catalog.families[name] for name in sorted(fresh)]
        self._formulas = {family.formula for family in self._families}
        self._currency = catalog.company.currency
        self._for_postgresql = is_postgresql(conn)

    # ---- which deals

    def find_touched(self, staged: Staged, resolution: Resolution) -> bool:
        """Fill `TOUCHED_DEALS`: every deal that may count otherwise once the page is applied."""
        streams = frozenset(staged.streams)
        redefined = self._redefined_stages() if "stages" in streams else []
        sources = streams & {"deals", "deal_stage_changes"}
        if not (sources or resolution or redefined):
            return False
        temporary.prepare(self._conn, TEMPORARY)
        self._add_moved_keys(resolution)
        for touched in _touched_by(sources, bool(resolution), self._for_postgresql):
            self._run(touched)
        if redefined:
            self._conn.execute(_touch(_visitors_of(redefined)))
        size = self._size(TOUCHED_DEALS)
        temporary.analyze(self._conn, TOUCHED_DEALS.name, size)
        return size > 0

    def _redefined_stages(self) -> list[str]:
        """Stages that are new, or open where they were closed, or the other way round."""
        staged = STAGE["stages"]
        query = (
            select(staged.c.ref)
            .select_from(staged.outerjoin(STAGES, STAGES.c.ref == staged.c.ref))
            .where(staged.c.is_changed, staged.c.is_closed.is_distinct_from(STAGES.c.is_closed))
        )
        return list(self._conn.execute(query).scalars())

    def _add_moved_keys(self, resolution: Resolution) -> None:
        moved = [
            {"stream": stream, "ref": ref}
            for stream, keys in (("accounts", resolution.accounts), ("owners", resolution.owners))
            for ref in sorted(keys)
        ]
        if moved:
            self._conn.execute(insert(MOVED_KEYS), moved)

    # ---- before and after

    def remember(self, side: int) -> None:
        """Note the facts of the touched deals as they stand now."""
        self._run(_remember_deals(side, self._currency, self._for_postgresql))
        temporary.analyze(self._conn, DEAL_FACTS.name, self._size(DEAL_FACTS), ("ref", "side"))
        if "stage_visits" in self._formulas:
            self._run(_remember_visits(side, self._for_postgresql))

    # ---- cells

    def move_cells(self) -> None:
        """Add what is there after and take away what was there before."""
        # A deal that counts as before moves nothing, and belongs to the rest of its account.
        self._run(_drop_unmoved(self._for_postgresql))
        if self._formulas & PURCHASE_FORMULAS:
            self._gather_purchases()
        calendar = self._catalog.settings.calendar
        for family in self._families:
            groupings = self._catalog.groupings[family.name]
            self._run(_find_deltas(family, groupings, calendar, self._for_postgresql))
        size = self._size(CELL_DELTAS)
        if not size:
            return
        temporary.analyze(self._conn, CELL_DELTAS.name, size)
        self._run(_add_deltas(self._for_postgresql))
        self._refuse_impossible(self._run(_drop_empty(self._for_postgresql)).mappings())
        self._run(_note_dirty(self._for_postgresql))

    def _gather_purchases(self) -> None:
        """The purchases of every account of which one changed: those, and all its other ones."""
        self._run(_find_accounts(self._for_postgresql))
        self._run(_find_other_keys(self._for_postgresql))
        temporary.analyze(self._conn, UNIT_ACCOUNTS.name, self._size(UNIT_ACCOUNTS))
        self._run(_moved_purchases(self._for_postgresql))
        self._run(_other_purchases(self._currency, self._for_postgresql))

    def _run(self, text: str) -> CursorResult[Any]:
        return self._conn.exec_driver_sql(text)

    def _size(self, table: Table) -> int:
        size: int = self._run(f"SELECT count(*) FROM {table.name}").scalar_one()  # noqa: S608 - our own name
        return size

    @staticmethod
    def _refuse_impossible(emptied: Iterable[RowMapping]) -> None:
        for cell in emptied:
            if cell["n"] < 0 or any(cell[name] for name in MEASURES):
                raise StoreError(
                    f"the cell {cell['family']} {cell['dimension']}={cell['key']} does not agree "
                    "with the records it was built from; run `kpisync compute --rebuild`, and "
                    "tell us: this must not happen"
                )


# ---------------------------------------------------------------- statements


@lru_cache(maxsize=16)
def _touched_by(streams: frozenset[str], has_moved: bool, for_postgresql: bool) -> tuple[str, ...]:
    touched: list[AnySelect] = []
    if "deals" in streams:
        staged = STAGE["deals"]
        touched.append(select(staged.c.ref).where(staged.c.is_changed))
    if "deal_stage_changes" in streams:
        staged, changes = STAGE["deal_stage_changes"], DEAL_STAGE_CHANGES
        touched.append(select(staged.c.deal).where(staged.c.is_changed))
        # A change may have belonged to another deal.
        touched.append(
            select(changes.c.deal)
            .join_from(staged, changes, changes.c.ref == staged.c.ref)
            .where(staged.c.is_changed)
        )
    if has_moved:
        for stream, column in (("accounts", DEALS.c.account), ("owners", DEALS.c.owner)):
            moved = select(MOVED_KEYS.c.ref).where(MOVED_KEYS.c.stream == stream)
            touched.append(select(DEALS.c.ref).where(column.in_(moved)))
    return tuple(text_of(_touch(deals), for_postgresql) for deals in touched)


def _touch(deals: AnySelect) -> Insert:
    refs = deals.subquery("refs")
    is_new = ~exists().where(TOUCHED_DEALS.c.ref == refs.c[0])
    chosen = select(refs.c[0]).where(refs.c[0].is_not(None), is_new).distinct()
    return insert(TOUCHED_DEALS).from_select(["ref"], chosen)


def _visitors_of(stages: Sequence[str]) -> AnySelect:
    # Without an index: stages are redefined once in a blue moon.
    changes = DEAL_STAGE_CHANGES
    return select(changes.c.deal).where(changes.c.stage.in_(stages)).distinct()


# Kept as text (see `metrics.compiled`); the last argument chooses the dialect.


@lru_cache(maxsize=64)
def _remember_deals(side: int, currency: str, for_postgresql: bool) -> str:
    facts = deal_facts(side, currency).where(DEALS.c.ref.in_(select(TOUCHED_DEALS.c.ref)))
    return text_of(insert(DEAL_FACTS).from_select(DEAL_COLUMNS, facts), for_postgresql)


@lru_cache(maxsize=4)
def _remember_visits(side: int, for_postgresql: bool) -> str:
    deals: FromClause = select(DEAL_FACTS).where(DEAL_FACTS.c.side == side).subquery("deals_then")
    changes: FromClause = (
        select(DEAL_STAGE_CHANGES)
        .where(DEAL_STAGE_CHANGES.c.deal.in_(select(TOUCHED_DEALS.c.ref)))
        .subquery("changes_then")
    )
    visits = visits_of(deals, changes)
    return text_of(insert(VISIT_FACTS).from_select(VISIT_COLUMNS, visits), for_postgresql)


@lru_cache(maxsize=2)
def _drop_unmoved(for_postgresql: bool) -> str:
    columns = [DEAL_FACTS.c[name] for name in DEAL_COLUMNS if name != "side"]
    both = len((BEFORE, AFTER))
    unmoved = select(DEAL_FACTS.c.ref).group_by(*columns).having(func.count() == both)
    return text_of(delete(DEAL_FACTS).where(DEAL_FACTS.c.ref.in_(unmoved)), for_postgresql)


@lru_cache(maxsize=2)
def _find_accounts(for_postgresql: bool) -> str:
    purchases = purchases_of(DEAL_FACTS).subquery("purchases")
    columns = [purchases.c[name] for name in PURCHASE_COLUMNS if name != "side"]
    moved = (
        select(purchases.c.account)
        .where(purchases.c.account.is_not(None))
        .group_by(*columns)
        .having(func.count() == 1)
        .subquery("moved")
    )
    # An account that stands for another one, or for nobody, has no key of its own any more.
    stands_for_itself = ~exists().where(
        IDENTITY.c.stream == "accounts", IDENTITY.c.ref == moved.c.account
    )
    touched = select(moved.c.account).where(stands_for_itself).distinct()
    return text_of(insert(UNIT_ACCOUNTS).from_select(["raw"], touched), for_postgresql)


@lru_cache(maxsize=2)
def _find_other_keys(for_postgresql: bool) -> str:
    other = select(IDENTITY.c.ref).where(
        IDENTITY.c.stream == "accounts", IDENTITY.c.canonical.in_(select(UNIT_ACCOUNTS.c.raw))
    )
    return text_of(insert(UNIT_ACCOUNTS).from_select(["raw"], other), for_postgresql)


@lru_cache(maxsize=2)
def _moved_purchases(for_postgresql: bool) -> str:
    moved = insert(PURCHASE_FACTS).from_select(PURCHASE_COLUMNS, purchases_of(DEAL_FACTS))
    return text_of(moved, for_postgresql)


@lru_cache(maxsize=16)
def _other_purchases(currency: str, for_postgresql: bool) -> str:
    of_touched_accounts = (
        deal_facts(BOTH, currency)
        .where(
            DEALS.c.account.in_(select(UNIT_ACCOUNTS.c.raw)),
            DEALS.c.is_closed,
            DEALS.c.is_won,
            ~exists().where(DEAL_FACTS.c.ref == DEALS.c.ref),
        )
        .subquery("others")
    )
    others = purchases_of(of_touched_accounts)
    return text_of(insert(PURCHASE_FACTS).from_select(PURCHASE_COLUMNS, others), for_postgresql)


@lru_cache(maxsize=512)
def _find_deltas(
    family: Family, groupings: tuple[Grouping, ...], calendar: Calendar, for_postgresql: bool
) -> str:
    cells = cells_of(family, groupings, MOVED, calendar)
    return text_of(insert(CELL_DELTAS).from_select(CELL_COLUMNS, cells), for_postgresql)


_CELL_KEY: Final = ("family", "dimension", "key", "day", "currency", "bucket")


@lru_cache(maxsize=2)
def _add_deltas(for_postgresql: bool) -> str:
    # SQLite reads "ON CONFLICT" after a FROM as a join's condition unless a WHERE stands between.
    deltas = select(CELL_DELTAS).where(CELL_DELTAS.c.n.is_not(None))
    upsert: postgresql.Insert | sqlite.Insert = (
        postgresql.insert(CELLS) if for_postgresql else sqlite.insert(CELLS)
    )
    upsert = upsert.from_select(CELL_COLUMNS, deltas)
    moved = {name: CELLS.c[name] + upsert.excluded[name] for name in ("n", *MEASURES)}
    statement = upsert.on_conflict_do_update(index_elements=list(_CELL_KEY), set_=moved)
    return text_of(statement, for_postgresql)


@lru_cache(maxsize=2)
def _drop_empty(for_postgresql: bool) -> str:
    lowered = select(*(CELL_DELTAS.c[name] for name in _CELL_KEY)).where(CELL_DELTAS.c.n < 0)
    key = tuple_(*(CELLS.c[name] for name in _CELL_KEY))
    emptied = delete(CELLS).where(CELLS.c.n <= 0, key.in_(lowered)).returning(CELLS)
    return text_of(emptied, for_postgresql)


@lru_cache(maxsize=2)
def _note_dirty(for_postgresql: bool) -> str:
    columns = ("family", "dimension", "key", "day")
    moved = (
        select(*(CELL_DELTAS.c[name] for name in columns))
        .where(CELL_DELTAS.c.n.is_not(None))
        .distinct()
    )
    note: postgresql.Insert | sqlite.Insert = (
        postgresql.insert(DIRTY_KEYS) if for_postgresql else sqlite.insert(DIRTY_KEYS)
    )
    return text_of(note.from_select(columns, moved).on_conflict_do_nothing(), for_postgresql)
