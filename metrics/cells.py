"""One page, one transaction: what it changes is taken out of the cells and put back changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    Connection,
    CursorResult,
    FromClause,
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

from metrics import identities, labels, local_days
from metrics.catalog import Catalog
from metrics.contributions import customers, emails, marketing, moved, sales, service
from metrics.contributions.own import Mapped
from metrics.contributions.summing import Kept, cells_of_all, together
from metrics.contributions.tables import (
    CELL_COLUMNS,
    CELL_DELTAS,
    DEAL_FACTS,
    FACTS,
    PURCHASE_FACTS,
    TEMPORARY,
    TOUCHED_CAMPAIGNS,
    TOUCHED_CONTRACTS,
    TOUCHED_COSTS,
    TOUCHED_CREDITS,
    TOUCHED_DEALS,
    TOUCHED_EMAILS,
    TOUCHED_LEADS,
    TOUCHED_STAGES,
    TOUCHED_SURVEYS,
    TOUCHED_TICKETS,
    TOUCHES,
    UNIT_ACCOUNTS,
    columns_of,
)
from metrics.contributions.terms import AFTER, BEFORE, BOTH
from metrics.definition import Family
from metrics.dimensions import places_in
from metrics.expression import upkeep
from metrics.families import NEIGHBOURLY
from metrics.periods import Calendar
from metrics.touching import Page, find_touched, movable, reached
from store import kpis, record_history, temporary
from store import records as record_store
from store.canonical import CanonicalRecord, Key, RecordRef
from store.compiled import AnySelect, run_all, text_of
from store.engine import database_now, is_postgresql
from store.errors import StoreError
from store.identity import Resolution
from store.identity_rules import ALWAYS_KEPT
from store.records import NOTHING_UNREADABLE, Staged
from store.tables import (
    CELLS,
    DEAL_STAGE_CHANGES,
    DEALS,
    DIRTY_KEYS,
    IDENTITY,
    MEASURES,
    TICKET_STATUS_CHANGES,
)


def commit_page(
    conn: Connection,
    catalog: Catalog,
    records: Sequence[CanonicalRecord],
    deleted: Sequence[RecordRef],
    *,
    defer: bool = False,
    unreadable: Mapping[str, AbstractSet[str]] = NOTHING_UNREADABLE,
    run: str | None = None,
    at: datetime | None = None,
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
        run: the run that brings the page, for the history of records.
        at: the instant of the transaction (aware); None: by the database's clock.

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
    record_history.note(
        conn,
        staged.streams,
        {ref.connection for ref in (*(record.ref for record in records), *deleted)},
        at=at or database_now(conn),
        run=run,
        is_first_load=defer,
    )
    fresh = _fresh_families(conn, catalog)
    resolution = identities.resolve_page(conn, catalog, staged.streams)
    if kpis.has_values(conn):
        labels.note_renamed(conn, catalog, staged.streams)
    if defer:
        kpis.forget_fingerprints(conn, _moved_families(catalog, staged, resolution) & fresh)
        fresh = frozenset()
    _apply(conn, catalog, staged, resolution, fresh)
    return staged


def commit_decision(
    conn: Connection, catalog: Catalog, stream: str, refs: Collection[Key]
) -> Resolution:
    """Move who stands for whom, and all that counts by it, after a decision that is stored.

    Args:
        conn: in `store.engine.writing`; the caller commits.
        catalog: the cells to keep.
        stream: of the records that were decided about.
        refs: these records.

    Returns:
        Who stands for somebody else now.
    """
    nothing = record_store.stage(conn, [], [], catalog.company)
    fresh = _fresh_families(conn, catalog)
    resolution = identities.resolve_decision(conn, catalog, stream, refs)
    _apply(conn, catalog, nothing, resolution, fresh)
    return resolution


def _apply(
    conn: Connection,
    catalog: Catalog,
    staged: Staged,
    resolution: Resolution,
    fresh: Collection[str],
) -> None:
    """Apply what is staged and resolved, and move the cells of families that are up to date."""
    increment = _Increment(conn, catalog, fresh)
    is_moving = bool(fresh) and increment.find_touched(staged, resolution)
    if is_moving:
        increment.remember(BEFORE)
    record_store.apply(conn, staged)
    identities.save(conn, catalog, resolution)
    if is_moving:
        increment.remember(AFTER)
        increment.move_cells()


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
    sources = movable(catalog.sources, staged.streams, resolution)
    return frozenset(
        name for name, family in catalog.families.items() if sources_of(family) & sources
    )


# ---------------------------------------------------------------- an increment


class _Increment:
    """What one page changes, in temporary tables on this connection."""

    def __init__(self, conn: Connection, catalog: Catalog, fresh: Collection[str]) -> None:
        self._conn = conn
        self._catalog = catalog
        self._families = [catalog.families[name] for name in sorted(fresh)]
        self._sources: frozenset[str] = frozenset()
        self._waiting: list[str] = []
        self._currency = catalog.company.currency
        self._for_postgresql = is_postgresql(conn)

    # ---- what is touched

    def find_touched(self, staged: Staged, resolution: Resolution) -> bool:
        """Note everything that may count otherwise once the page is applied."""
        kept = {source for family in self._families for source in sources_of(family)}
        wanted = movable(kept, staged.streams, resolution)
        if not wanted:
            return False
        temporary.prepare(self._conn, TEMPORARY)
        page = Page(
            sources=wanted,
            streams=frozenset(staged.streams),
            moved=resolution.streams,
            matched=ALWAYS_KEPT.union(self._catalog.settings.identity.streams),
            dimensions=self._catalog.dimensions,
            neighbours=frozenset(
                family.source
                for family in self._families
                if family.formula in NEIGHBOURLY or family.is_latest
            ),
            custom=frozenset(
                self._catalog.custom_parts[name].custom.stream for name in self._custom_families()
            ),
        )
        self._sources = find_touched(self._conn, page, resolution)
        self._families = [one for one in self._families if sources_of(one) & self._sources]
        return bool(self._sources)

    # ---- before and after

    def remember(self, side: int) -> None:
        """Note the facts of everything touched as they stand now."""
        if self._sources & {"deals", "visits", "purchases"}:
            deals = _remember_deals(side, self._currency, self._mapped("deals"))
            self._fill(DEAL_FACTS, deals, ("ref", "side"))
        if "tickets" in self._sources or "closings" in self._sources:
            self._run_later(_remember("tickets", side, self._currency, self._mapped("tickets")))
        if "credits" in self._sources:
            if side == AFTER:
                self._run_later("DELETE FROM touches")
            self._fill(TOUCHES, _remember_touches(self._for_postgresql), ("account",))
        for name in sorted(self._sources - {"deals", "purchases", "tickets", "custom"}):
            self._run_later(_remember(name, side, self._currency, self._mapped(name)))
        self._run_waiting()
        if "custom" in self._sources:
            names = self._custom_families()
            if side == BEFORE:
                upkeep.prepare(self._conn, self._catalog, names)
            upkeep.note(self._conn, self._catalog, names, side, only_touched=True)

    def _custom_families(self) -> list[str]:
        return [family.name for family in self._families if family.source == "custom"]

    # ---- cells

    def move_cells(self) -> None:
        """Add what is there after and take away what was there before."""
        if self._sources & {"deals", "purchases"}:
            # A deal that counts as before moves nothing, and belongs to the rest of its account.
            self._run_later(_drop_unmoved(self._for_postgresql))
        if any("purchases" in sources_of(family) for family in self._families):
            self._gather_purchases()
        calendar = self._catalog.settings.calendar
        for kept in together(self._families, self._catalog.groupings):
            self._run_later(_find_deltas(kept, calendar, self._for_postgresql))
        self._run_waiting()
        # Asked for: the driver does not count the rows of a statement that begins with WITH.
        size = self._run("SELECT count(*) FROM cell_deltas").scalar_one()
        if not size:
            return
        temporary.analyze(self._conn, CELL_DELTAS.name, size, ("n",))
        self._refuse_impossible(self._add_deltas())
        self._run(_note_dirty(self._for_postgresql))

    def _add_deltas(self) -> Sequence[RowMapping]:
        """Move the cells; those that are empty then are taken out and returned."""
        if not self._for_postgresql:
            self._run(_add_deltas(for_postgresql=False))
            return self._run(_drop_lowered_on_sqlite()).mappings().all()
        # It names the few that are empty by itself: no need to look all lowered ones up again.
        found = self._run(_add_deltas_on_postgresql()).mappings().all()
        if found:
            keys = tuple([cell[name] for cell in found] for name in _CELL_KEY)
            self._conn.exec_driver_sql(_DROP_ON_POSTGRESQL, keys)
        return found

    def _gather_purchases(self) -> None:
        """The purchases of every account of which one changed: those, and all its other ones."""
        keys = _find_other_keys(self._for_postgresql)
        self._run_later(_find_accounts(self._columns_of_purchases(), self._for_postgresql))
        self._fill(UNIT_ACCOUNTS, keys, ("raw",))
        self._run_later(_moved_purchases(self._for_postgresql))
        self._run_later(_other_purchases(self._currency, self._mapped("purchases")))

    def _columns_of_purchases(self) -> tuple[str, ...]:
        """What the families of purchases read of them, beside whose they are and when."""
        kept = {"kind"}  # which purchases are upsells
        for family in self._families:
            if "purchases" in sources_of(family):
                for grouping in self._catalog.groupings[family.name]:
                    kept.update(places_in(grouping, family.mapped))
        return tuple(sorted(kept | {"ref", "account", "closed_day"}))

    def _mapped(self, source: str) -> Mapped:
        catalog = self._catalog
        return Mapped(
            catalog.mapped_fields(source), self._for_postgresql, catalog.columns_read.get(source)
        )

    def _fill(self, table: Table, text: str, columns: tuple[str, ...]) -> None:
        """Run a statement that adds rows to a temporary table, and tell the planner of them."""
        self._run_later(text)
        if self._for_postgresql:
            # Not asking whether there are any: the answer would be waited for.
            self._run_later(f"ANALYZE {table.name} ({', '.join(columns)})")
            return
        self._run_waiting()
        count = self._run(f"SELECT count(*) FROM (SELECT 1 FROM {table.name} LIMIT 1)")  # noqa: S608 - our own name
        temporary.analyze(self._conn, table.name, count.scalar_one())

    def _run_later(self, text: str) -> None:
        """Put a statement off until an answer is wanted; see `store.compiled.run_all`."""
        self._waiting.append(text)

    def _run_waiting(self) -> None:
        run_all(self._conn, self._waiting)
        self._waiting.clear()

    def _run(self, text: str) -> CursorResult[Any]:
        return self._conn.exec_driver_sql(text)

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


# Kept as text (see `store.compiled`); the last argument chooses the dialect.


def sources_of(family: Family) -> frozenset[str]:
    """The facts a family reads."""
    return frozenset({family.source, *family.also})


@lru_cache(maxsize=64)
def _remember_deals(side: int, currency: str, mapped: Mapped) -> str:
    facts = sales.deal_facts(side, currency, TOUCHED_DEALS, mapped)
    noted = insert(DEAL_FACTS).from_select(columns_of(DEAL_FACTS), facts)
    return text_of(noted, mapped.for_postgresql)


@lru_cache(maxsize=128)
def _remember(source: str, side: int, currency: str, mapped: Mapped) -> str:
    table = FACTS[source]
    facts = _FACTS_OF[source](side, currency, mapped)
    return text_of(insert(table).from_select(columns_of(table), facts), mapped.for_postgresql)


@lru_cache(maxsize=2)
def _remember_touches(for_postgresql: bool) -> str:
    touches = marketing.touches_of(reached("credits")).subquery("found")
    chosen = select(*(touches.c[name] for name in columns_of(TOUCHES))).where(
        touches.c.account.is_not(None)
    )
    return text_of(insert(TOUCHES).from_select(columns_of(TOUCHES), chosen), for_postgresql)


def _side_of(table: Table, side: int) -> FromClause:
    return select(table).where(table.c.side == side).subquery(f"{table.name}_then")


def _of_touched(changes: Table, link: str, touched: Table) -> FromClause:
    chosen = select(changes).where(changes.c[link].in_(select(touched.c.ref)))
    return chosen.subquery(f"{changes.name}_then")


def _visits(side: int, _: str, mapped: Mapped) -> AnySelect:
    changes = _of_touched(DEAL_STAGE_CHANGES, "deal", TOUCHED_DEALS)
    return sales.visits_of(_side_of(DEAL_FACTS, side), changes, mapped)


def _closings(side: int, _: str, __: Mapped) -> AnySelect:
    changes = _of_touched(TICKET_STATUS_CHANGES, "ticket", TOUCHED_TICKETS)
    return service.closings_of(_side_of(FACTS["tickets"], side), changes)


def _credits(side: int, currency: str, mapped: Mapped) -> AnySelect:
    facts = sales.deal_facts(side, currency, TOUCHED_CREDITS, mapped)
    deals = facts.subquery("credited_deals")
    return marketing.credits_of(deals, TOUCHES, mapped=mapped)


_FACTS_OF: Final[Mapping[str, Callable[[int, str, Mapped], AnySelect]]] = {
    "visits": _visits,
    "closings": _closings,
    "credits": _credits,
    "tickets": lambda side, _, mapped: service.ticket_facts(side, TOUCHED_TICKETS, mapped),
    "surveys": lambda side, _, mapped: service.survey_facts(side, TOUCHED_SURVEYS, mapped),
    "leads": lambda side, _, mapped: marketing.lead_facts(side, TOUCHED_LEADS, mapped),
    "costs": lambda side, currency, _: marketing.cost_facts(
        side, currency, TOUCHED_COSTS, TOUCHED_CAMPAIGNS
    ),
    "emails": lambda side, _, __: emails.email_facts(side, TOUCHED_EMAILS),
    "contracts": lambda side, _, __: customers.contract_facts(side, TOUCHED_CONTRACTS),
    "stages": lambda side, _, __: sales.stage_facts(side, TOUCHED_STAGES),
}


@lru_cache(maxsize=2)
def _drop_unmoved(for_postgresql: bool) -> str:
    columns = [DEAL_FACTS.c[name] for name in columns_of(DEAL_FACTS) if name != "side"]
    both = len((BEFORE, AFTER))
    unmoved = select(DEAL_FACTS.c.ref).group_by(*columns).having(func.count() == both)
    return text_of(delete(DEAL_FACTS).where(DEAL_FACTS.c.ref.in_(unmoved)), for_postgresql)


@lru_cache(maxsize=16)
def _find_accounts(compared: tuple[str, ...], for_postgresql: bool) -> str:
    purchases = customers.purchases_of(DEAL_FACTS).subquery("purchases")
    columns = [purchases.c[name] for name in compared]
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
    moved = insert(PURCHASE_FACTS).from_select(
        columns_of(PURCHASE_FACTS), customers.purchases_of(DEAL_FACTS)
    )
    return text_of(moved, for_postgresql)


@lru_cache(maxsize=16)
def _other_purchases(currency: str, mapped: Mapped) -> str:
    of_touched_accounts = (
        sales.deal_facts(BOTH, currency, mapped=mapped)
        .where(
            DEALS.c.account.in_(select(UNIT_ACCOUNTS.c.raw)),
            DEALS.c.is_closed,
            DEALS.c.is_won,
            ~exists().where(DEAL_FACTS.c.ref == DEALS.c.ref),
        )
        .subquery("others")
    )
    others = customers.purchases_of(of_touched_accounts)
    noted = insert(PURCHASE_FACTS).from_select(columns_of(PURCHASE_FACTS), others)
    return text_of(noted, mapped.for_postgresql)


@lru_cache(maxsize=512)
def _find_deltas(kept: tuple[Kept, ...], calendar: Calendar, for_postgresql: bool) -> str:
    cells = cells_of_all(kept, moved(calendar))
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


@lru_cache(maxsize=1)
def _add_deltas_on_postgresql() -> str:
    listed = ", ".join(CELL_COLUMNS)
    moved = f"{_add_deltas(for_postgresql=True)} RETURNING cells.*"
    return f"WITH moved AS ({moved}) SELECT {listed} FROM moved WHERE n <= 0"  # noqa: S608 - our own names


@lru_cache(maxsize=1)
def _drop_lowered_on_sqlite() -> str:
    lowered = select(*(CELL_DELTAS.c[name] for name in _CELL_KEY)).where(CELL_DELTAS.c.n < 0)
    key = tuple_(*(CELLS.c[name] for name in _CELL_KEY))
    emptied = delete(CELLS).where(CELLS.c.n <= 0, key.in_(lowered)).returning(CELLS)
    return text_of(emptied, for_postgresql=False)


_DROP_ON_POSTGRESQL: Final = """
    DELETE FROM cells USING unnest(
        %s::text[], %s::text[], %s::text[], %s::int[], %s::text[], %s::bigint[]
    ) AS gone (family, dimension, key, day, currency, bucket)
    WHERE cells.family = gone.family AND cells.dimension = gone.dimension
    AND cells.key = gone.key COLLATE "C" AND cells.day = gone.day
    AND cells.currency = gone.currency AND cells.bucket = gone.bucket"""
"""Cells by six arrays, of the parts of `_CELL_KEY`."""


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
