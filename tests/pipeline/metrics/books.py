"""A company's books for tests: commit pages, publish, and look at the numbers."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, select

from metrics import catalog as kpi_catalog
from metrics import values
from metrics.catalog import Catalog
from metrics.cells import commit_page
from metrics.definition import KpiSettings
from metrics.rebuild import rebuild, stale_families
from metrics.values import KpiValue, Published
from metrics.verify import verify
from store import kpis
from store.canonical import (
    Account,
    CanonicalRecord,
    Company,
    Deal,
    Owner,
    RecordRef,
    Stage,
    StageChange,
)
from store.engine import open_store, reading, writing
from store.records import Staged
from store.schema import ensure_current
from store.tables import CELLS, IDENTITY

BERLIN = Company(ZoneInfo("Europe/Berlin"), "EUR")
FIRST_INSTANT = datetime(2024, 6, 1, 12, tzinfo=UTC)


class Books:
    """A store with its catalogue."""

    def __init__(self, url: str, settings: KpiSettings | None = None) -> None:
        _copy_empty_store(url)
        self.engine: Engine = open_store(url)
        ensure_current(self.engine)
        self.catalog: Catalog = kpi_catalog.build(settings or KpiSettings(company=BERLIN))
        self.now = FIRST_INSTANT
        self.rebuild()

    def configure(self, settings: KpiSettings) -> None:
        """Go on with another configuration."""
        self.catalog = kpi_catalog.build(settings)

    def rebuild(self) -> None:
        """Build what is stale."""
        with writing(self.engine) as conn:
            stale = stale_families(conn, self.catalog)
            if stale:
                rebuild(conn, self.catalog, stale, at=self.now)

    def commit(
        self,
        *records: CanonicalRecord,
        deleted: Sequence[RecordRef] = (),
        defer: bool = False,
    ) -> Staged:
        """Commit one page."""
        with writing(self.engine) as conn:
            return commit_page(
                conn,
                self.catalog,
                records,
                deleted,
                defer=defer,
                run="pulled",
                at=self.now + timedelta(seconds=1),
            )

    def publish(
        self, limit: int | None = None, *, later: timedelta = timedelta(minutes=1)
    ) -> Published:
        """Publish everything that is dirty, a minute later than the last time."""
        self.now += later
        changed = unchanged = 0
        while True:
            with writing(self.engine) as conn:
                done = values.publish(conn, self.catalog, run="run", as_of=self.now, limit=limit)
            changed, unchanged = changed + done.changed, unchanged + done.unchanged
            if not done.remaining:
                return Published(changed=changed, unchanged=unchanged, remaining=0)

    def publish_some(self, limit: int) -> None:
        """One step of a publication that is left unfinished."""
        self.now += timedelta(minutes=1)
        with writing(self.engine) as conn:
            values.publish(conn, self.catalog, run="run", as_of=self.now, limit=limit)

    def current(self) -> dict[tuple[str, str, str, str], KpiValue]:
        """The values that are believed now."""
        with reading(self.engine) as conn:
            found = values.current(conn, self.catalog)
        return {(value.kpi, value.period, value.dimension, value.key): value for value in found}

    def value(
        self, kpi: str, period: str = "all", dimension: str = "all", key: str = "*"
    ) -> KpiValue | None:
        """One value."""
        return self.current().get((kpi, period, dimension, key))

    def number(
        self, kpi: str, period: str = "all", dimension: str = "all", key: str = "*"
    ) -> Decimal | None:
        """One value's number; it must be there."""
        value = self.value(kpi, period, dimension, key)
        assert value is not None, f"no {kpi} for {period} by {dimension}={key}"
        return value.value

    def dirty_keys(self) -> int:
        """How many keys are dirty."""
        with reading(self.engine) as conn:
            return kpis.count_dirty_keys(conn)

    def verify(self) -> None:
        """Values equal those of an independent recomputation."""
        with reading(self.engine) as conn:
            verification = verify(conn, self.catalog, as_of=self.now)
        assert verification.differences == []

    def check(self) -> None:
        """Cells and values equal those of a rebuild, and an independent recomputation."""
        self.verify()
        with self.engine.connect() as conn, conn.begin() as transaction:
            before = cells_of(conn), identity_of(conn)
            rebuild(conn, self.catalog)
            after = cells_of(conn), identity_of(conn)
            assert before == after
            again = values.publish(
                conn, self.catalog, run="run", as_of=self.now + timedelta(seconds=1)
            )
            assert again.changed == 0
            transaction.rollback()

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


@lru_cache(maxsize=1)
def _empty_store() -> bytes:
    """An empty SQLite store as a file: migrating once is enough for all tests."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        engine = open_store(f"sqlite:///{path}")
        ensure_current(engine)
        engine.dispose()
        return path.read_bytes()


def _copy_empty_store(url: str) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not path.exists():
        path.write_bytes(_empty_store())


def cells_of(conn: Connection) -> set[tuple[object, ...]]:
    """All cells."""
    return {tuple(row) for row in conn.execute(select(CELLS))}


def identity_of(conn: Connection) -> set[tuple[object, ...]]:
    """All records that do not stand for themselves."""
    return {tuple(row) for row in conn.execute(select(IDENTITY))}


# ---------------------------------------------------------------- records


def ref(stream: str, name: str) -> RecordRef:
    """``crm:name``, or with another connection ``other:name``."""
    connection, _, native_id = name.rpartition(":")
    return RecordRef(connection or "crm", stream, native_id)


def key(name: str | None) -> str | None:
    """The key of a record of any stream."""
    return None if name is None else ref("any", name).key


def deal(
    name: str,
    *,
    account: str | None = "A",
    owner: str | None = "ana",
    stage: str | None = None,
    pipeline: str | None = None,
    is_closed: bool = False,
    is_won: bool = False,
    amount: str | int | None = 100,
    currency: str | None = None,
    created: datetime | None = datetime(2024, 1, 2, 12, tzinfo=UTC),
    close_date: date | None = None,
    closed_at: datetime | None = None,
    probability: str | None = None,
    product: str | None = None,
    source: str | None = None,
    region: str | None = None,
    segment: str | None = None,
    kind: str | None = None,
    campaign: str | None = None,
    lost_reason: str | None = None,
    deleted: bool = False,
    merged_into: str | None = None,
) -> Deal:
    """A deal; open unless said otherwise."""
    return Deal(
        ref=ref("deals", name),
        name=name,
        account=key(account),
        owner=key(owner),
        stage=key(stage),
        pipeline=key(pipeline),
        is_closed=is_closed,
        is_won=is_won,
        amount=None if amount is None else Decimal(amount),
        currency=currency,
        created_at=created,
        close_date=close_date,
        closed_at=closed_at,
        probability=None if probability is None else Decimal(probability),
        product=product,
        source=source,
        region=region,
        segment=segment,
        kind=kind,
        campaign=key(campaign),
        lost_reason=lost_reason,
        deleted=deleted,
        merged_into=key(merged_into),
    )


def won(name: str, closed: date | None = date(2024, 3, 10), **fields: object) -> Deal:
    """A won deal."""
    return deal(name, is_closed=True, is_won=True, close_date=closed, **fields)  # type: ignore[arg-type]  # fields of `deal`


def lost(name: str, closed: date | None = date(2024, 3, 10), **fields: object) -> Deal:
    """A lost deal."""
    return deal(name, is_closed=True, close_date=closed, **fields)  # type: ignore[arg-type]  # fields of `deal`


def account(
    name: str, *, label: str | None = None, deleted: bool = False, merged_into: str | None = None
) -> Account:
    """An account."""
    return Account(
        ref=ref("accounts", name),
        name=label or f"Account {name}",
        deleted=deleted,
        merged_into=key(merged_into),
    )


def owner(name: str, *, label: str | None = None, email: str | None = None) -> Owner:
    """An owner."""
    return Owner(ref=ref("owners", name), name=label or f"Rep {name}", email=email)


def stage(name: str, *, is_closed: bool = False, pipeline: str | None = "sales") -> Stage:
    """A stage."""
    return Stage(
        ref=ref("stages", name),
        label=f"Stage {name}",
        pipeline=key(pipeline),
        pipeline_label=None if pipeline is None else f"Pipeline {pipeline}",
        is_closed=is_closed,
    )


def entered(
    deal_name: str, stage_name: str, at: datetime, *, name: str | None = None, deleted: bool = False
) -> StageChange:
    """A deal entered a stage."""
    return StageChange(
        ref=ref("deal_stage_changes", name or f"{deal_name}-{at:%Y%m%d%H%M%S%f}"),
        deal=key(deal_name) or "",
        stage=key(stage_name) or "",
        at=at,
        deleted=deleted,
    )
