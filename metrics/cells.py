"""One page, one transaction: what it changes is taken out of the cells and put back changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Delete,
    FromClause,
    Insert,
    Select,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    tuple_,
    union,
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
from store import identity, kpis, temporary
from store import records as record_store
from store.canonical import CanonicalRecord, RecordRef
from store.engine import is_postgresql
from store.errors import StoreError
from store.identity import Resolution
from store.records import STAGE, Staged
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

    Returns:
        What the page held.

    Raises:
        RecordRefused: a record does not fit into the store.
        StoreError: the cells contradict the records; `kpisync compute --rebuild` mends them.
    """
    staged = record_store.stage(conn, records, deleted, catalog.company)
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
    moving = {"deals", "deal_stage_changes", "stages"} & set(staged.streams)
    if resolution:
        moving |= {"accounts", "owners"}
    return frozenset(name for name, family in catalog.families.items() if family.reads & moving)


# ---------------------------------------------------------------- an increment


class _Increment:
    """What one page changes, in temporary tables on this connection."""

    def __init__(self, conn: Connection, catalog: Catalog, fresh: Collection[str]) -> None:
        self._conn = conn
        self._catalog = catalog
        self._families = [catalog.families[name] for name in sorted(fresh)]
        self._formulas = {family.formula for family in self._families}

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
        for touched in _touched_by(sources, has_moved=bool(resolution)):
            self._touch(touched)
        if redefined and "stage_visits" in self._formulas:
            self._touch(_visitors_of(redefined))
        size = self._conn.execute(select(func.count()).select_from(TOUCHED_DEALS)).scalar_one()
        temporary.analyze(self._conn, TOUCHED_DEALS.name, size)
        return size > 0

    def _touch(self, deals: Select[Any]) -> None:
        refs = deals.subquery("refs")
        is_new = ~exists().where(TOUCHED_DEALS.c.ref == refs.c[0])
        chosen = select(refs.c[0]).where(refs.c[0].is_not(None), is_new).distinct()
        self._conn.execute(insert(TOUCHED_DEALS).from_select(["ref"], chosen))

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
        currency = self._catalog.company.currency
        self._conn.execute(_remember_deals(side, currency))
        size = self._conn.execute(select(func.count()).select_from(DEAL_FACTS)).scalar_one()
        temporary.analyze(self._conn, DEAL_FACTS.name, size, ("ref", "side"))
        if "stage_visits" in self._formulas:
            self._conn.execute(_remember_visits(side))

    # ---- cells

    def move_cells(self) -> None:
        """Add what is there after and take away what was there before."""
        # A deal that counts as before moves nothing, and belongs to the rest of its account.
        self._conn.execute(_DROP_UNMOVED)
        if self._formulas & PURCHASE_FORMULAS:
            self._gather_purchases()
        calendar = self._catalog.settings.calendar
        for family in self._families:
            groupings = self._catalog.groupings[family.name]
            cells = cells_of(family, groupings, MOVED, calendar)
            self._conn.execute(insert(CELL_DELTAS).from_select(CELL_COLUMNS, cells))
        moved = self._conn.execute(select(func.count()).select_from(CELL_DELTAS)).scalar_one()
        if not moved:
            return
        temporary.analyze(self._conn, CELL_DELTAS.name, moved)
        for_postgresql = is_postgresql(self._conn)
        self._conn.execute(_add_deltas(for_postgresql=for_postgresql))
        self._refuse_impossible(self._conn.execute(_DROP_EMPTY).all())
        self._conn.execute(_note_dirty(for_postgresql=for_postgresql))

    def _gather_purchases(self) -> None:
        """The purchases of every account of which one changed: those, and all its other ones."""
        currency = self._catalog.company.currency
        self._conn.execute(_FIND_ACCOUNTS)
        self._conn.execute(_FIND_OTHER_KEYS)
        size = self._conn.execute(select(func.count()).select_from(UNIT_ACCOUNTS)).scalar_one()
        temporary.analyze(self._conn, UNIT_ACCOUNTS.name, size)
        self._conn.execute(_MOVED_PURCHASES)
        self._conn.execute(_other_purchases(currency))

    @staticmethod
    def _refuse_impossible(emptied: Iterable[Any]) -> None:
        for cell in emptied:
            if cell.n < 0 or any(getattr(cell, name) for name in MEASURES):
                raise StoreError(
                    f"the cell {cell.family} {cell.dimension}={cell.key} does not agree with the "
                    "records it was built from; run `kpisync compute --rebuild`, and tell us: "
                    "this must not happen"
                )


# ---------------------------------------------------------------- statements


def _touched_by(streams: frozenset[str], *, has_moved: bool) -> list[Select[Any]]:
    touched: list[Select[Any]] = []
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
    return touched


def _visitors_of(stages: Sequence[str]) -> Select[Any]:
    # Without an index: stages are redefined once in a blue moon.
    changes = DEAL_STAGE_CHANGES
    return select(changes.c.deal).where(changes.c.stage.in_(stages)).distinct()


@lru_cache(maxsize=64)
def _remember_deals(side: int, currency: str) -> Insert:
    facts = deal_facts(side, currency).where(DEALS.c.ref.in_(select(TOUCHED_DEALS.c.ref)))
    return insert(DEAL_FACTS).from_select(DEAL_COLUMNS, facts)


@lru_cache(maxsize=4)
def _remember_visits(side: int) -> Insert:
    deals: FromClause = select(DEAL_FACTS).where(DEAL_FACTS.c.side == side).subquery("deals_then")
    changes: FromClause = (
        select(DEAL_STAGE_CHANGES)
        .where(DEAL_STAGE_CHANGES.c.deal.in_(select(TOUCHED_DEALS.c.ref)))
        .subquery("changes_then")
    )
    return insert(VISIT_FACTS).from_select(VISIT_COLUMNS, visits_of(deals, changes))


def _drop_unmoved() -> Delete:
    columns = [DEAL_FACTS.c[name] for name in DEAL_COLUMNS if name != "side"]
    both = len((BEFORE, AFTER))
    unmoved = select(DEAL_FACTS.c.ref).group_by(*columns).having(func.count() == both)
    return delete(DEAL_FACTS).where(DEAL_FACTS.c.ref.in_(unmoved))


_DROP_UNMOVED: Final = _drop_unmoved()


def _find_accounts() -> Insert:
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
    return insert(UNIT_ACCOUNTS).from_select(["raw"], touched)


_FIND_ACCOUNTS: Final = _find_accounts()

_FIND_OTHER_KEYS: Final = insert(UNIT_ACCOUNTS).from_select(
    ["raw"],
    select(IDENTITY.c.ref).where(
        IDENTITY.c.stream == "accounts", IDENTITY.c.canonical.in_(select(UNIT_ACCOUNTS.c.raw))
    ),
)

_MOVED_PURCHASES: Final = insert(PURCHASE_FACTS).from_select(
    PURCHASE_COLUMNS, purchases_of(DEAL_FACTS)
)


@lru_cache(maxsize=16)
def _other_purchases(currency: str) -> Insert:
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
    return insert(PURCHASE_FACTS).from_select(PURCHASE_COLUMNS, purchases_of(of_touched_accounts))


_CELL_KEY: Final = ("family", "dimension", "key", "day", "currency", "bucket")


@lru_cache(maxsize=2)
def _add_deltas(*, for_postgresql: bool) -> postgresql.Insert | sqlite.Insert:
    # SQLite reads "ON CONFLICT" after a FROM as a join's condition unless a WHERE stands between.
    deltas = select(CELL_DELTAS).where(CELL_DELTAS.c.n.is_not(None))
    upsert: postgresql.Insert | sqlite.Insert = (
        postgresql.insert(CELLS) if for_postgresql else sqlite.insert(CELLS)
    )
    upsert = upsert.from_select(CELL_COLUMNS, deltas)
    return upsert.on_conflict_do_update(
        index_elements=list(_CELL_KEY),
        set_={name: CELLS.c[name] + upsert.excluded[name] for name in ("n", *MEASURES)},
    )


_DROP_EMPTY: Final = (
    delete(CELLS)
    .where(
        CELLS.c.n <= 0,
        tuple_(*(CELLS.c[name] for name in _CELL_KEY)).in_(
            select(*(CELL_DELTAS.c[name] for name in _CELL_KEY)).where(CELL_DELTAS.c.n < 0)
        ),
    )
    .returning(CELLS)
)


@lru_cache(maxsize=2)
def _note_dirty(*, for_postgresql: bool) -> postgresql.Insert | sqlite.Insert:
    columns = ("family", "dimension", "key", "day")
    moved = (
        select(*(CELL_DELTAS.c[name] for name in columns))
        .where(CELL_DELTAS.c.n.is_not(None))
        .distinct()
    )
    note: postgresql.Insert | sqlite.Insert = (
        postgresql.insert(DIRTY_KEYS) if for_postgresql else sqlite.insert(DIRTY_KEYS)
    )
    return note.from_select(columns, moved).on_conflict_do_nothing()
