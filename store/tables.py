"""Every table of the store, for SQLite and PostgreSQL alike.

Conventions: keys are text compared byte by byte; instants in record tables are integers
(microseconds since 1970, UTC), calendar days are integers (days since 1970-01-01), money is an
integer of the currency's minor units, ratios are integers of millionths. Operational tables use
real timestamps. ``store.records`` is the only place that converts records.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.types import TypeEngine

METADATA: Final = MetaData()

KEY: Final = Text().with_variant(Text(collation="C"), "postgresql")
"""Names of records, compared by bytes on both stores."""

ROW_ID: Final = BigInteger().with_variant(Integer(), "sqlite")

NO_DAY: Final = -2_000_000_000
"""The day of a contribution whose day is unknown: it counts in the period ``all`` alone."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware instant; on SQLite ISO 8601 text with microseconds, whose order is time order."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """SQLite has no instants of its own."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(32))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | datetime | None:
        """Refuse naive datetimes: their instant is unknown."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime has no instant")
        instant = value.astimezone(UTC)
        return instant.isoformat(timespec="microseconds") if dialect.name == "sqlite" else instant

    def process_result_value(self, value: object, _dialect: Dialect) -> datetime | None:
        """Always aware UTC."""
        if value is None:
            return None
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        return datetime.fromisoformat(str(value))


class ExactNumber(TypeDecorator[Decimal]):
    """A Decimal that loses nothing: NUMERIC on PostgreSQL, text on SQLite (floats only)."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Tools that read the metrics table want a number where there is an exact one."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else Numeric())

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | Decimal | None:
        """Plain notation, never an exponent."""
        if value is None or dialect.name != "sqlite":
            return value
        return format(value, "f")

    def process_result_value(self, value: object, _dialect: Dialect) -> Decimal | None:
        """Always Decimal."""
        if value is None or isinstance(value, Decimal):
            return value
        return Decimal(str(value))


def _record_table(name: str, *columns: Column[object], indexes: tuple[str, ...] = ()) -> Table:
    return Table(
        name,
        METADATA,
        Column("ref", KEY, primary_key=True),
        Column("created_at", BigInteger),
        Column("created_day", Integer),
        Column("modified_at", BigInteger),
        Column("deleted", Boolean(create_constraint=False), nullable=False),
        Column("merged_into", KEY),
        Column("extra", Text),
        *columns,
        *(Index(f"ix_{name}_{column}", column) for column in indexes),
    )


def _texts(*names: str) -> tuple[Column[object], ...]:
    return tuple(Column(name, Text) for name in names)


def _keys(*names: str) -> tuple[Column[object], ...]:
    return tuple(Column(name, KEY) for name in names)


def _big(*names: str) -> tuple[Column[object], ...]:
    return tuple(Column(name, BigInteger) for name in names)


def _days(*names: str) -> tuple[Column[object], ...]:
    return tuple(Column(name, Integer) for name in names)


def _flags(*names: str) -> tuple[Column[object], ...]:
    return tuple(Column(name, Boolean(create_constraint=False), nullable=False) for name in names)


ACCOUNTS: Final = _record_table(
    "accounts",
    *_texts("name", "domain"),
    *_keys("owner", "parent"),
    *_texts("type", "industry", "segment", "region", "country"),
    *_big("employees", "annual_revenue"),
    *_texts("currency"),
    *_days("contract_end"),
)

CONTACTS: Final = _record_table(
    "contacts",
    *_texts("name", "email"),
    *_keys("account", "owner"),
    *_texts("source", "lifecycle_stage"),
    *_big("nps_score"),
    indexes=("account",),
)

LEADS: Final = _record_table(
    "leads",
    *_texts("name", "email", "company"),
    *_keys("owner"),
    *_texts("source", "status"),
    *_big("qualified_at", "converted_at"),
    # The local day of `qualified_at`.
    *_days("qualified_day"),
    *_keys("converted_account", "converted_contact", "converted_deal"),
    indexes=("converted_account", "converted_deal"),
)

DEALS: Final = _record_table(
    "deals",
    *_texts("name"),
    *_keys("account", "owner", "pipeline", "stage"),
    *_flags("is_closed", "is_won"),
    *_big("amount"),
    *_texts("currency"),
    *_days("close_date"),
    *_big("closed_at"),
    # The local day a closed deal counts on: its close date, else the day of `closed_at`;
    # null for open deals and for closed ones that have neither.
    *_days("closed_day"),
    *_big("probability"),
    *_texts("type", "kind", "source"),
    *_keys("campaign"),
    *_texts("product", "segment", "region", "forecast_category", "lost_reason"),
    *_big("last_activity_at"),
    indexes=("account", "owner"),
)

DEAL_STAGE_CHANGES: Final = _record_table(
    "deal_stage_changes",
    *_keys("deal", "stage", "pipeline"),
    *_big("at"),
    # The local day of `at`.
    *_days("at_day"),
    indexes=("deal",),
)

DEAL_CONTACTS: Final = _record_table(
    "deal_contacts",
    *_keys("deal", "contact"),
    *_texts("role"),
    *_flags("is_primary"),
    indexes=("deal", "contact"),
)

DEAL_LINES: Final = _record_table(
    "deal_lines",
    *_keys("deal"),
    # Quantities are millionths.
    *_texts("product"),
    *_big("quantity", "unit_price", "total"),
    *_texts("currency"),
    indexes=("deal",),
)

CAMPAIGNS: Final = _record_table(
    "campaigns",
    *_texts("name", "channel", "status"),
    *_keys("parent"),
    *_days("start_date", "end_date"),
    *_big("cost", "budget"),
    *_texts("currency"),
)

CAMPAIGN_MEMBERS: Final = _record_table(
    "campaign_members",
    *_keys("campaign", "contact", "lead"),
    *_texts("status"),
    *_big("at"),
    *_days("at_day"),
    indexes=("campaign", "contact", "lead"),
)

EMAIL_STATISTICS: Final = _record_table(
    "email_statistics",
    *_texts("email"),
    *_keys("campaign"),
    *_days("date"),
    *_big("sent", "delivered", "opens", "clicks", "unsubscribes", "bounces"),
    indexes=("campaign",),
)

COSTS: Final = _record_table(
    "costs",
    *_keys("campaign"),
    *_texts("source"),
    *_days("date"),
    *_big("amount"),
    *_texts("currency", "category"),
    indexes=("campaign",),
)

TICKETS: Final = _record_table(
    "tickets",
    *_texts("subject"),
    *_keys("account", "contact", "owner"),
    *_texts("category", "type", "priority"),
    *_keys("pipeline"),
    *_texts("status"),
    *_flags("is_closed"),
    *_big("closed_at"),
    *_days("closed_day"),
    *_big("first_response_at", "csat"),
    # The local day of `first_response_at`.
    *_days("first_response_day"),
    indexes=("account", "contact"),
)

TICKET_STATUS_CHANGES: Final = _record_table(
    "ticket_status_changes",
    *_keys("ticket"),
    *_texts("status"),
    *_flags("is_closed"),
    *_big("at"),
    *_days("at_day"),
    indexes=("ticket",),
)

SURVEY_RESPONSES: Final = _record_table(
    "survey_responses",
    *_texts("kind"),
    *_big("score", "submitted_at"),
    *_days("submitted_day"),
    *_keys("account", "contact"),
    *_texts("category", "comment"),
    indexes=("account", "contact"),
)

CONTRACTS: Final = _record_table(
    "contracts",
    *_keys("account"),
    *_days("start_date", "end_date"),
    *_big("amount"),
    *_texts("currency"),
    indexes=("account",),
)

OWNERS: Final = _record_table(
    "owners",
    *_texts("name", "email", "team"),
    *_keys("manager"),
    *_flags("is_active"),
    indexes=("email",),
)

STAGES: Final = _record_table(
    "stages",
    *_keys("pipeline"),
    *_texts("pipeline_label", "label"),
    *_big("position"),
    *_flags("is_closed", "is_won"),
    *_big("probability"),
    *_flags("is_active"),
)

RATES: Final = _record_table(
    "rates",
    *_texts("currency"),
    *_days("date"),
    # Exact decimal text: a rate has as many digits as it has.
    *_texts("rate"),
)

IDENTITY: Final = Table(
    "identity",
    METADATA,
    Column("stream", Text, primary_key=True),
    Column("ref", KEY, primary_key=True),
    Column("canonical", KEY),
    Index("ix_identity_canonical", "stream", "canonical"),
)
"""Records that do not stand for themselves: merged ones name their winner, matched ones the
entity they belong to, deleted ones nobody (null). A record without a row is its own entity."""

IDENTITY_KEYS: Final = Table(
    "identity_keys",
    METADATA,
    Column("stream", Text, primary_key=True),
    # The rule's place among those of the stream.
    Column("rule", Integer, primary_key=True),
    Column("value", KEY, primary_key=True),
    Column("ref", KEY, primary_key=True),
    sqlite_with_rowid=False,
)
"""What may show that records of several CRMs are one: ids, domains, addresses, own keys."""

IDENTITY_DECISIONS: Final = Table(
    "identity_decisions",
    METADATA,
    Column("stream", Text, primary_key=True),
    # Two records, the smaller key first.
    Column("one", KEY, primary_key=True),
    Column("other", KEY, primary_key=True),
    Column("is_same", Boolean(create_constraint=False), nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
)
"""What people have said of two records: the same, or not; it wins over every rule."""

IDENTITY_DECISION_LOG: Final = Table(
    "identity_decision_log",
    METADATA,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("stream", Text, nullable=False),
    Column("one", KEY, nullable=False),
    Column("other", KEY, nullable=False),
    # Null: what was said before is taken back.
    Column("is_same", Boolean(create_constraint=False)),
    Column("at", UtcDateTime, nullable=False),
)
"""Everything that people ever said of two records, in order: what was believed when."""

WORKING_DAYS: Final = Table(
    "working_days",
    METADATA,
    Column("day", Integer, primary_key=True),
    # Instants in microseconds; on a day without work both are its first instant.
    Column("opens_at", BigInteger, nullable=False),
    Column("closes_at", BigInteger, nullable=False),
    # Microseconds of work on all days before.
    Column("worked_before", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""The company's hours of work, local day by local day, for durations in business hours."""

SEEN_REFS: Final = Table(
    "seen_refs",
    METADATA,
    Column("connection", Text, primary_key=True),
    Column("stream", Text, primary_key=True),
    Column("ref", KEY, primary_key=True),
)
"""What a running full pull has seen so far; the rest has vanished when it ends."""

CONNECTIONS: Final = Table(
    "connections",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("org_id", Text),
    Column("pinned_at", UtcDateTime),
    Column("paused_until", UtcDateTime),
    Column("paused_reason", Text),
    # Null or false: writing rests too.
    Column("is_only_reading_paused", Boolean(create_constraint=False)),
    # What the CRM last said of the whole org's calls in its own window.
    Column("org_calls", BigInteger),
    Column("org_limit", BigInteger),
    Column("org_calls_at", UtcDateTime),
)

CALLS: Final = Table(
    "calls",
    METADATA,
    Column("connection", Text, primary_key=True),
    Column("purpose", Text, primary_key=True),
    # Minutes since 1970, by the database's clock.
    Column("minute", BigInteger, primary_key=True),
    Column("calls", BigInteger, nullable=False),
)
"""The quota ledger: API calls of each connection by minute, for the last day."""

TOKENS: Final = Table(
    "tokens",
    METADATA,
    Column("connection", Text, primary_key=True),
    # Encrypted with a key made from the connection's own credentials.
    Column("sealed", Text, nullable=False),
    Column("renewed_at", UtcDateTime, nullable=False),
)
"""The access token that all processes of a connection share."""

NOTES: Final = Table(
    "notes",
    METADATA,
    Column("connection", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("text", Text, nullable=False),
    Column("noted_at", UtcDateTime, nullable=False),
)
"""What a connector must remember beyond its process, such as a job that is under way."""

CHECKPOINTS: Final = Table(
    "checkpoints",
    METADATA,
    Column("connection", Text, primary_key=True),
    Column("stream", Text, primary_key=True),
    Column("cursor", Text),
    # The instant up to which the stream is complete; null before the first full pull ended.
    Column("complete_until", UtcDateTime),
    Column("is_full_pull_running", Boolean(create_constraint=False), nullable=False),
    Column("last_attempt", UtcDateTime),
    Column("last_success", UtcDateTime),
    Column("last_full", UtcDateTime),
    Column("state", Text, nullable=False),
    Column("error", Text),
    Column("strikes", Integer, nullable=False, server_default="0"),
    # What the stored rows were mapped with, and fields that could not be read then.
    Column("definition", Text),
    Column("unreadable", Text),
    Column("volatile", Text),
    # When the CRM last said that something changed.
    Column("rung_at", UtcDateTime),
)

LEASES: Final = Table(
    "leases",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("token", BigInteger, nullable=False),
    Column("holder", Text),
    Column("expires_at", UtcDateTime),
)

RUNS: Final = Table(
    "runs",
    METADATA,
    Column("run", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("connection", Text),
    Column("stream", Text),
    Column("writeback", Text),
    Column("state", Text, nullable=False),
    Column("started", UtcDateTime, nullable=False),
    Column("ended", UtcDateTime),
    *(
        Column(name, BigInteger, nullable=False, server_default="0")
        for name in (
            "pulled",
            "stored",
            "unchanged",
            "dead",
            "cleaned",
            "sent",
            "failed",
            "calls",
            "minimum_calls",
        )
    ),
    Column("error", Text),
    # JSON list of sentences.
    Column("warnings", Text),
    Index("ix_runs_started", "started"),
)

DEAD_LETTERS: Final = Table(
    "dead_letters",
    METADATA,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("ref", KEY, nullable=False),
    Column("connection", Text, nullable=False),
    Column("stream", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("field", Text, nullable=False, server_default=""),
    Column("reason", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("raw", Text),
    Column("attempts", Integer, nullable=False),
    Column("first_seen", UtcDateTime, nullable=False),
    Column("last_seen", UtcDateTime, nullable=False),
    Index(
        "ux_dead_letters_place",
        "direction",
        "connection",
        "stream",
        "ref",
        "field",
        unique=True,
    ),
)

FAMILIES: Final = Table(
    "families",
    METADATA,
    Column("family", Text, primary_key=True),
    # What the cells were built with: formula version, groupings, zone, currency.
    Column("fingerprint", Text, nullable=False),
    Column("built_at", UtcDateTime, nullable=False),
)

LARGEST_SUM: Final = 9 * 10**18
"""What a cell's sums may come to. SQLite goes on with rounded numbers beyond 64 bits: a check
refuses them."""
SUMS_FIT: Final = "cells_sums_fit"

MEASURES: Final = ("m1", "m2", "m3", "m4", "m5", "m6")
"""Columns of a cell's integer sums; each family names the ones it uses."""

CELLS: Final = Table(
    "cells",
    METADATA,
    Column("family", Text, nullable=False),
    Column("dimension", Text, nullable=False),
    Column("key", KEY, nullable=False),
    Column("day", Integer, nullable=False),
    Column("currency", Text, nullable=False),
    Column("bucket", BigInteger, nullable=False),
    Column("n", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in MEASURES),
    PrimaryKeyConstraint("family", "dimension", "key", "day", "currency", "bucket"),
    CheckConstraint(
        " AND ".join(f"{name} BETWEEN -{LARGEST_SUM} AND {LARGEST_SUM}" for name in MEASURES),
        name=SUMS_FIT,
    ),
    sqlite_with_rowid=False,
)
"""Sums of contributions. `currency` is empty where no money is known; `bucket` splits a cell by a
whole number that sums cannot carry (a probability in millionths, a duration for medians)."""

DIRTY_KEYS: Final = Table(
    "dirty_keys",
    METADATA,
    Column("family", Text, nullable=False),
    Column("dimension", Text, nullable=False),
    Column("key", KEY, nullable=False),
    Column("day", Integer, nullable=False),
    PrimaryKeyConstraint("family", "dimension", "key", "day"),
    sqlite_with_rowid=False,
)
"""Cells that moved since the values above them were published; an empty dimension means the
whole family."""

KPI_VALUES: Final = Table(
    "kpi_values",
    METADATA,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("kpi", Text, nullable=False),
    Column("period", Text, nullable=False),
    Column("dimension", Text, nullable=False),
    Column("key", KEY, nullable=False),
    Column("label", Text),
    Column("value", ExactNumber),
    Column("numerator", ExactNumber),
    Column("denominator", ExactNumber),
    Column("n", BigInteger, nullable=False),
    # JSON object: reason -> count.
    Column("left_out", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("currency", Text),
    Column("as_of", UtcDateTime, nullable=False),
    Column("definition", Text, nullable=False),
    Column("valid_from", UtcDateTime, nullable=False),
    Column("valid_to", UtcDateTime),
    Column("run", Text),
    # Instead of `value` where the unit is text.
    Column("words", Text),
    Index(
        "ux_kpi_values_current",
        "kpi",
        "dimension",
        "key",
        "period",
        unique=True,
        sqlite_where=text("valid_to IS NULL"),
        postgresql_where=text("valid_to IS NULL"),
    ),
)
"""The metrics table: what each KPI was believed to be from `valid_from` until `valid_to`
(null: until now). Columns are documented in docs/metrics-table.md and only ever added."""

OUTBOX: Final = Table(
    "outbox",
    METADATA,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("writeback", Text, nullable=False),
    Column("connection", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("record_id", KEY, nullable=False),
    Column("field", Text, nullable=False),
    # JSON text of a scalar (store.scalars); null clears.
    Column("value", Text, nullable=False),
    Column("old", Text, nullable=False),
    Column("as_of", UtcDateTime, nullable=False),
    Column("state", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("sent_at", UtcDateTime),
    Column("code", Text),
    Column("error", Text),
    Index(
        "ux_outbox_open",
        "connection",
        "object",
        "record_id",
        "field",
        unique=True,
        sqlite_where=text("state IN ('pending', 'sending')"),
        postgresql_where=text("state IN ('pending', 'sending')"),
    ),
    Index("ix_outbox_state", "state"),
)

PUSHED_VALUES: Final = Table(
    "pushed_values",
    METADATA,
    Column("connection", Text, primary_key=True),
    Column("object", Text, primary_key=True),
    Column("record_id", KEY, primary_key=True),
    Column("field", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("pushed_at", UtcDateTime, nullable=False),
    Column("run", Text, nullable=False),
)
"""The last value we wrote into each field, and what stood there before we first wrote."""

APPROVALS: Final = Table(
    "approvals",
    METADATA,
    Column("writeback", Text, primary_key=True),
    # Of the write-back's definition: a changed one must be approved again.
    Column("fingerprint", Text, nullable=False),
    Column("approved_at", UtcDateTime, nullable=False),
)

WRITEBACK_HOLDS: Final = Table(
    "writeback_holds",
    METADATA,
    Column("writeback", Text, primary_key=True),
    # guard, canary or revert.
    Column("kind", Text, nullable=False),
    Column("reason", Text, nullable=False),
    # Of the definition and the guard then: a changed one is a person's decision.
    Column("fingerprint", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("held_at", UtcDateTime, nullable=False),
)
"""Write-backs that write nothing until a person has looked."""

WRITEBACK_MARKS: Final = Table(
    "writeback_marks",
    METADATA,
    Column("writeback", Text, primary_key=True),
    Column("run", Text, nullable=False),
    Column("marked_at", UtcDateTime, nullable=False),
    # JSON object: what was counted -> how much.
    Column("counts", Text, nullable=False),
)
"""How much stood behind a write-back when it last ended well."""

REWRITTEN_FIELDS: Final = Table(
    "rewritten_fields",
    METADATA,
    Column("connection", Text, primary_key=True),
    Column("object", Text, primary_key=True),
    Column("record_id", KEY, primary_key=True),
    Column("field", Text, primary_key=True),
    Column("writeback", Text, nullable=False),
    # How many of our writes somebody else replaced.
    Column("times", Integer, nullable=False),
    # The newest of those writes: each counts once, however often it is looked at.
    Column("counted_push", UtcDateTime, nullable=False),
    Column("held", Text, nullable=False),
    Column("last_seen", UtcDateTime, nullable=False),
    Column("frozen_at", UtcDateTime),
)
"""Fields in which others replace what we write; a frozen one is left alone."""

SINK_POSITIONS: Final = Table(
    "sink_positions",
    METADATA,
    Column("sink", Text, primary_key=True),
    # Of its address and form: another place begins anew.
    Column("fingerprint", Text, nullable=False),
    # The newest row of kpi_values that the sink holds.
    Column("last_id", BigInteger, nullable=False),
    # The computation up to which closed and relabelled rows are known there.
    Column("computed", Text, nullable=False),
    Column("synced_at", UtcDateTime, nullable=False),
)
"""How far the metrics table has been copied to each other place."""

ALERTS: Final = Table(
    "alerts",
    METADATA,
    Column("rule", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("words", Text, nullable=False),
    # Names of channels, comma between.
    Column("channels", Text, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("told_at", UtcDateTime, nullable=False),
)
"""Troubles that people were told of and that are not over."""

HEARTBEATS: Final = Table(
    "heartbeats",
    METADATA,
    Column("role", Text, primary_key=True),
    Column("host", Text, primary_key=True),
    Column("pid", Integer, primary_key=True),
    Column("started_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
)

RECORD_TABLES: Final = {
    table.name: table
    for table in (
        ACCOUNTS,
        CONTACTS,
        LEADS,
        DEALS,
        DEAL_STAGE_CHANGES,
        DEAL_CONTACTS,
        DEAL_LINES,
        CAMPAIGNS,
        CAMPAIGN_MEMBERS,
        EMAIL_STATISTICS,
        COSTS,
        TICKETS,
        TICKET_STATUS_CHANGES,
        SURVEY_RESPONSES,
        CONTRACTS,
        OWNERS,
        STAGES,
        RATES,
    )
}
"""Canonical stream name -> its table."""
