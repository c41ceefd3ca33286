"""The first schema: records, cells, values, and what operation remembers."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# A migration is history: it spells its types out and imports none that may change later.
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")
EXACT_NUMBER = sa.Numeric().with_variant(sa.Text(), "sqlite")

Columns = tuple[sa.Column[Any], ...]


def upgrade() -> None:
    """Create every table in an empty database."""
    _create_record_tables()
    _create_operational_tables()
    _create_metric_tables()
    _create_writeback_tables()
    _create_history_tables()


def _create_record_tables() -> None:
    op.create_table(
        "accounts",
        *_of_every_record(),
        *_texts("name", "domain"),
        *_keys("owner", "parent"),
        *_texts("type", "industry", "segment", "region", "country"),
        *_wholes("employees", "annual_revenue"),
        *_texts("currency"),
        *_smalls("contract_end"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_table(
        "contacts",
        *_of_every_record(),
        *_texts("name", "email"),
        *_keys("account", "owner"),
        *_texts("source", "lifecycle_stage"),
        *_wholes("nps_score"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_index("ix_contacts_account", "contacts", ["account"])
    op.create_table(
        "leads",
        *_of_every_record(),
        *_texts("name", "email", "company"),
        *_keys("owner"),
        *_texts("source", "status"),
        *_wholes("qualified_at", "converted_at"),
        *_smalls("qualified_day"),
        *_keys("converted_account", "converted_contact", "converted_deal"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_index("ix_leads_converted_account", "leads", ["converted_account"])
    op.create_index("ix_leads_converted_deal", "leads", ["converted_deal"])
    op.create_table(
        "deals",
        *_of_every_record(),
        *_texts("name"),
        *_keys("account", "owner", "pipeline", "stage"),
        *_flags("is_closed", "is_won"),
        *_wholes("amount"),
        *_texts("currency"),
        *_smalls("close_date"),
        *_wholes("closed_at"),
        *_smalls("closed_day"),
        *_wholes("probability"),
        *_texts("type", "kind", "source"),
        *_keys("campaign"),
        *_texts("product", "segment", "region", "forecast_category", "lost_reason"),
        *_wholes("last_activity_at"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_index("ix_deals_owner", "deals", ["owner"])
    op.create_index("ix_deals_account", "deals", ["account"])
    op.create_table(
        "deal_stage_changes",
        *_of_every_record(),
        *_keys("deal", "stage", "pipeline"),
        *_wholes("at"),
        *_smalls("at_day"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_index("ix_deal_stage_changes_deal", "deal_stage_changes", ["deal"])
    op.create_table(
        "deal_contacts",
        *_of_every_record(),
        *_keys("deal", "contact"),
        *_texts("role"),
        *_flags("is_primary"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_index("ix_deal_contacts_deal", "deal_contacts", ["deal"])
    op.create_index("ix_deal_contacts_contact", "deal_contacts", ["contact"])
    op.create_table(
        "deal_lines",
        *_of_every_record(),
        *_keys("deal"),
        *_texts("product"),
        *_wholes("quantity", "unit_price", "total"),
        *_texts("currency"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_index("ix_deal_lines_deal", "deal_lines", ["deal"])
    op.create_table(
        "campaigns",
        *_of_every_record(),
        *_texts("name", "channel", "status"),
        *_keys("parent"),
        *_smalls("start_date", "end_date"),
        *_wholes("cost", "budget"),
        *_texts("currency"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_table(
        "campaign_members",
        *_of_every_record(),
        *_keys("campaign", "contact", "lead"),
        *_texts("status"),
        *_wholes("at"),
        *_smalls("at_day"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_index("ix_campaign_members_contact", "campaign_members", ["contact"])
    op.create_index("ix_campaign_members_lead", "campaign_members", ["lead"])
    op.create_index("ix_campaign_members_campaign", "campaign_members", ["campaign"])
    op.create_table(
        "email_statistics",
        *_of_every_record(),
        *_texts("email"),
        *_keys("campaign"),
        *_smalls("date"),
        *_wholes("sent", "delivered", "opens", "clicks", "unsubscribes", "bounces"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_index("ix_email_statistics_campaign", "email_statistics", ["campaign"])
    op.create_table(
        "costs",
        *_of_every_record(),
        *_keys("campaign"),
        *_texts("source"),
        *_smalls("date"),
        *_wholes("amount"),
        *_texts("currency", "category"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_index("ix_costs_campaign", "costs", ["campaign"])
    op.create_table(
        "tickets",
        *_of_every_record(),
        *_texts("subject"),
        *_keys("account", "contact", "owner"),
        *_texts("category", "type", "priority"),
        *_keys("pipeline"),
        *_texts("status"),
        *_flags("is_closed"),
        *_wholes("closed_at"),
        *_smalls("closed_day"),
        *_wholes("first_response_at", "csat"),
        *_smalls("first_response_day"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_index("ix_tickets_account", "tickets", ["account"])
    op.create_index("ix_tickets_contact", "tickets", ["contact"])
    op.create_table(
        "ticket_status_changes",
        *_of_every_record(),
        *_keys("ticket"),
        *_texts("status"),
        *_flags("is_closed"),
        *_wholes("at"),
        *_smalls("at_day"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_index("ix_ticket_status_changes_ticket", "ticket_status_changes", ["ticket"])
    op.create_table(
        "survey_responses",
        *_of_every_record(),
        *_texts("kind"),
        *_wholes("score", "submitted_at"),
        *_smalls("submitted_day"),
        *_keys("account", "contact"),
        *_texts("category", "comment"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_index("ix_survey_responses_account", "survey_responses", ["account"])
    op.create_index("ix_survey_responses_contact", "survey_responses", ["contact"])
    op.create_table(
        "contracts",
        *_of_every_record(),
        *_keys("account"),
        *_smalls("start_date", "end_date"),
        *_wholes("amount"),
        *_texts("currency"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_index("ix_contracts_account", "contracts", ["account"])
    op.create_table(
        "owners",
        *_of_every_record(),
        *_texts("name", "email", "team"),
        *_keys("manager"),
        *_flags("is_active"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_index("ix_owners_email", "owners", ["email"])
    op.create_table(
        "stages",
        *_of_every_record(),
        *_keys("pipeline"),
        *_texts("pipeline_label", "label"),
        *_wholes("position"),
        *_flags("is_closed", "is_won"),
        *_wholes("probability"),
        *_flags("is_active"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_table(
        "rates",
        *_of_every_record(),
        *_texts("currency"),
        *_smalls("date"),
        *_texts("rate"),
        sa.PrimaryKeyConstraint("ref"),
    )


def _create_operational_tables() -> None:
    op.create_table(
        "identity",
        *_texts("stream", nullable=False),
        *_keys("ref", nullable=False),
        *_keys("canonical"),
        sa.PrimaryKeyConstraint("stream", "ref"),
    )
    op.create_index("ix_identity_canonical", "identity", ["stream", "canonical"])
    op.create_table(
        "identity_keys",
        *_texts("stream", nullable=False),
        *_smalls("rule", nullable=False),
        *_keys("value", "ref", nullable=False),
        sa.PrimaryKeyConstraint("stream", "rule", "value", "ref"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "identity_decisions",
        *_texts("stream", nullable=False),
        *_keys("one", "other", nullable=False),
        *_flags("is_same"),
        *_instants("decided_at", nullable=False),
        sa.PrimaryKeyConstraint("stream", "one", "other"),
    )
    op.create_table(
        "identity_decision_log",
        _row_id(),
        *_texts("stream", nullable=False),
        *_keys("one", "other", nullable=False),
        sa.Column("is_same", sa.Boolean(create_constraint=False)),
        *_instants("at", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "deal_fallbacks",
        *_keys("ref", nullable=False),
        *_wholes("amount"),
        *_texts("currency", "product", "source", "type", "kind", "region", "segment"),
        *_texts("lost_reason", "extra"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_table(
        "account_fallbacks",
        *_keys("ref", nullable=False),
        *_texts("name", "domain"),
        *_keys("owner", "parent"),
        *_texts("type", "industry", "segment", "region", "country"),
        *_wholes("employees", "annual_revenue"),
        *_texts("currency"),
        *_smalls("contract_end"),
        *_texts("extra"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_table(
        "contact_fallbacks",
        *_keys("ref", nullable=False),
        *_texts("name", "email"),
        *_keys("owner"),
        *_texts("source", "lifecycle_stage"),
        *_wholes("nps_score"),
        *_texts("extra"),
        sa.PrimaryKeyConstraint("ref"),
    )
    op.create_table(
        "working_days",
        *_smalls("day", nullable=False),
        *_wholes("opens_at", "closes_at", "worked_before", nullable=False),
        sa.PrimaryKeyConstraint("day"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "seen_refs",
        *_texts("connection", "stream", nullable=False),
        *_keys("ref", nullable=False),
        sa.PrimaryKeyConstraint("connection", "stream", "ref"),
    )
    op.create_table(
        "connections",
        *_texts("name", nullable=False),
        *_texts("org_id"),
        *_instants("pinned_at", "paused_until"),
        *_texts("paused_reason"),
        sa.Column("is_only_reading_paused", sa.Boolean(create_constraint=False)),
        *_wholes("org_calls", "org_limit"),
        *_instants("org_calls_at"),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "calls",
        *_texts("connection", "purpose", nullable=False),
        *_wholes("minute", "calls", nullable=False),
        sa.PrimaryKeyConstraint("connection", "purpose", "minute"),
    )
    op.create_table(
        "tokens",
        *_texts("connection", "sealed", nullable=False),
        *_instants("renewed_at", nullable=False),
        sa.PrimaryKeyConstraint("connection"),
    )
    op.create_table(
        "notes",
        *_texts("connection", "name", "text", nullable=False),
        *_instants("noted_at", nullable=False),
        sa.PrimaryKeyConstraint("connection", "name"),
    )
    op.create_table(
        "checkpoints",
        *_texts("connection", "stream", nullable=False),
        *_texts("cursor"),
        *_instants("complete_until"),
        *_flags("is_full_pull_running"),
        *_instants("last_attempt", "last_success", "last_full"),
        *_texts("state", nullable=False),
        *_texts("error"),
        *_smalls("strikes", nullable=False, default="0"),
        *_texts("definition", "unreadable", "volatile"),
        *_instants("rung_at"),
        sa.PrimaryKeyConstraint("connection", "stream"),
    )
    op.create_table(
        "leases",
        *_texts("name", nullable=False),
        *_wholes("token", nullable=False),
        *_texts("holder"),
        *_instants("expires_at"),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "runs",
        *_texts("run", "kind", nullable=False),
        *_texts("connection", "stream", "writeback"),
        *_texts("state", nullable=False),
        *_instants("started", nullable=False),
        *_instants("ended"),
        *_wholes(
            "pulled",
            "stored",
            "unchanged",
            "dead",
            "cleaned",
            "sent",
            "failed",
            "calls",
            "minimum_calls",
            nullable=False,
            default="0",
        ),
        *_texts("error", "warnings"),
        sa.PrimaryKeyConstraint("run"),
    )
    op.create_index("ix_runs_started", "runs", ["started"])
    op.create_table(
        "dead_letters",
        _row_id(),
        *_keys("ref", nullable=False),
        *_texts("connection", "stream", "direction", nullable=False),
        *_texts("field", nullable=False, default=""),
        *_texts("reason", "code", nullable=False),
        *_texts("raw"),
        *_smalls("attempts", nullable=False),
        *_instants("first_seen", "last_seen", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ux_dead_letters_place",
        "dead_letters",
        ["direction", "connection", "stream", "ref", "field"],
        unique=True,
    )
    op.create_table(
        "alerts",
        *_texts("rule", "subject", "words", "channels", nullable=False),
        *_instants("since", "told_at", nullable=False),
        sa.PrimaryKeyConstraint("rule", "subject"),
    )
    op.create_table(
        "heartbeats",
        *_texts("role", "host", nullable=False),
        *_smalls("pid", nullable=False),
        *_instants("started_at", "seen_at", nullable=False),
        sa.PrimaryKeyConstraint("role", "host", "pid"),
    )


def _create_metric_tables() -> None:
    op.create_table(
        "families",
        *_texts("family", "fingerprint", nullable=False),
        *_instants("built_at", nullable=False),
        sa.PrimaryKeyConstraint("family"),
    )
    op.create_table(
        "cells",
        *_texts("family", "dimension", nullable=False),
        *_keys("key", nullable=False),
        *_smalls("day", nullable=False),
        *_texts("currency", nullable=False),
        *_wholes("bucket", "n", "m1", "m2", "m3", "m4", "m5", "m6", nullable=False),
        sa.PrimaryKeyConstraint("family", "dimension", "key", "day", "currency", "bucket"),
        sa.CheckConstraint(
            " AND ".join(
                f"{name} BETWEEN -9000000000000000000 AND 9000000000000000000"
                for name in ("m1", "m2", "m3", "m4", "m5", "m6")
            ),
            name="cells_sums_fit",
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "dirty_keys",
        *_texts("family", "dimension", nullable=False),
        *_keys("key", nullable=False),
        *_smalls("day", nullable=False),
        sa.PrimaryKeyConstraint("family", "dimension", "key", "day"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "kpi_values",
        _row_id(),
        *_texts("kpi", "period", "dimension", nullable=False),
        *_keys("key", nullable=False),
        *_texts("label"),
        *_exact_numbers("value", "numerator", "denominator"),
        *_wholes("n", nullable=False),
        *_texts("left_out", "unit", nullable=False),
        *_texts("currency"),
        *_instants("as_of", nullable=False),
        *_texts("definition", nullable=False),
        *_instants("valid_from", nullable=False),
        *_instants("valid_to"),
        *_texts("run", "words"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ux_kpi_values_current",
        "kpi_values",
        ["kpi", "dimension", "key", "period"],
        unique=True,
        sqlite_where=sa.text("valid_to IS NULL"),
        postgresql_where=sa.text("valid_to IS NULL"),
    )


def _create_writeback_tables() -> None:
    op.create_table(
        "outbox",
        _row_id(),
        *_texts("writeback", "connection", "object", nullable=False),
        *_keys("record_id", nullable=False),
        *_texts("field", "value", "old", nullable=False),
        *_instants("as_of", nullable=False),
        *_texts("state", "run", nullable=False),
        *_smalls("attempts", nullable=False, default="0"),
        *_instants("sent_at"),
        *_texts("code", "error"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ux_outbox_open",
        "outbox",
        ["connection", "object", "record_id", "field"],
        unique=True,
        sqlite_where=sa.text("state IN ('pending', 'sending')"),
        postgresql_where=sa.text("state IN ('pending', 'sending')"),
    )
    op.create_index("ix_outbox_state", "outbox", ["state"])
    op.create_table(
        "pushed_values",
        *_texts("connection", "object", nullable=False),
        *_keys("record_id", nullable=False),
        *_texts("field", "value", "before", nullable=False),
        *_instants("pushed_at", nullable=False),
        *_texts("run", nullable=False),
        sa.PrimaryKeyConstraint("connection", "object", "record_id", "field"),
    )
    op.create_table(
        "approvals",
        *_texts("writeback", "fingerprint", nullable=False),
        *_instants("approved_at", nullable=False),
        sa.PrimaryKeyConstraint("writeback"),
    )
    op.create_table(
        "writeback_holds",
        *_texts("writeback", "kind", "reason", "fingerprint", "run", nullable=False),
        *_instants("held_at", nullable=False),
        sa.PrimaryKeyConstraint("writeback"),
    )
    op.create_table(
        "writeback_marks",
        *_texts("writeback", "run", nullable=False),
        *_instants("marked_at", nullable=False),
        *_texts("counts", nullable=False),
        sa.PrimaryKeyConstraint("writeback"),
    )
    op.create_table(
        "rewritten_fields",
        *_texts("connection", "object", nullable=False),
        *_keys("record_id", nullable=False),
        *_texts("field", "writeback", nullable=False),
        *_smalls("times", nullable=False),
        *_instants("counted_push", nullable=False),
        *_texts("held", nullable=False),
        *_instants("last_seen", nullable=False),
        *_instants("frozen_at"),
        sa.PrimaryKeyConstraint("connection", "object", "record_id", "field"),
    )
    op.create_table(
        "sink_positions",
        *_texts("sink", "fingerprint", nullable=False),
        *_wholes("last_id", nullable=False),
        *_texts("computed", nullable=False),
        *_instants("synced_at", nullable=False),
        sa.PrimaryKeyConstraint("sink"),
    )


def _create_history_tables() -> None:
    op.create_table(
        "record_history",
        _row_id(),
        *_texts("stream", nullable=False),
        *_keys("ref", nullable=False),
        *_wholes("at", nullable=False),
        *_texts("kind", nullable=False),
        *_texts("run", "former"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_record_history_at", "record_history", ["stream", "at"])
    op.create_table(
        "first_loads",
        *_texts("connection", "stream", nullable=False),
        *_wholes("began", "ended", nullable=False),
        *_flags("is_over"),
        sa.PrimaryKeyConstraint("connection", "stream"),
    )
    op.create_table(
        "kpi_definitions",
        _row_id(),
        *_texts("name", nullable=False),
        *_instants("since", nullable=False),
        *_texts("run"),
        *_texts("definition", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_kpi_definitions_name", "kpi_definitions", ["name", "since"])


def _of_every_record() -> Columns:
    return (
        *_keys("ref", nullable=False),
        *_wholes("created_at"),
        *_smalls("created_day"),
        *_wholes("modified_at"),
        *_flags("deleted"),
        *_keys("merged_into"),
        *_texts("extra"),
    )


def _columns(
    type_: Any, names: tuple[str, ...], nullable: bool, default: str | None = None
) -> Columns:
    return tuple(
        sa.Column(name, type_, nullable=nullable, server_default=default) for name in names
    )


def _keys(*names: str, nullable: bool = True) -> Columns:
    return _columns(KEY, names, nullable)


def _texts(*names: str, nullable: bool = True, default: str | None = None) -> Columns:
    return _columns(sa.Text(), names, nullable, default)


def _wholes(*names: str, nullable: bool = True, default: str | None = None) -> Columns:
    return _columns(sa.BigInteger(), names, nullable, default)


def _smalls(*names: str, nullable: bool = True, default: str | None = None) -> Columns:
    return _columns(sa.Integer(), names, nullable, default)


def _instants(*names: str, nullable: bool = True) -> Columns:
    return _columns(INSTANT, names, nullable)


def _exact_numbers(*names: str) -> Columns:
    return _columns(EXACT_NUMBER, names, nullable=True)


def _flags(*names: str) -> Columns:
    return _columns(sa.Boolean(create_constraint=False), names, nullable=False)


def _row_id() -> sa.Column[Any]:
    return sa.Column("id", ROW_ID, autoincrement=True, nullable=False)
