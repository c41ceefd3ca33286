"""What DuckDB is asked: the additive families, written down in SQL for a third time.

Each source is one SELECT over plain copies of the record tables: what a record is grouped by, its
day, its currency, its bucket and its measures. Nothing of the statements that keep the cells is
used; local days, mergers and closing days are worked out anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

COPIED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "accounts": ("ref", "deleted", "merged_into"),
        "owners": ("ref", "team", "merged_into"),
        "campaigns": (
            *("ref", "deleted", "merged_into", "channel", "start_date", "cost", "currency"),
        ),
        "costs": (
            *("ref", "deleted", "merged_into", "campaign", "source", "category", "date"),
            *("amount", "currency"),
        ),
        "email_statistics": (
            *("ref", "deleted", "merged_into", "email", "campaign", "date", "delivered"),
            *("opens", "clicks", "unsubscribes", "bounces"),
        ),
        "stages": ("ref", "is_closed"),
        "deals": (
            *("ref", "deleted", "merged_into", "created_at", "account", "owner", "pipeline"),
            *("stage", "is_closed", "is_won", "amount", "currency", "close_date", "closed_at"),
            *("probability", "type", "kind", "source", "campaign", "product", "segment"),
            *("region", "lost_reason"),
        ),
        "deal_stage_changes": ("ref", "deleted", "merged_into", "deal", "stage", "at"),
        "leads": (
            *("ref", "deleted", "merged_into", "created_at", "owner", "source"),
            *("qualified_at", "converted_at"),
        ),
        "tickets": (
            *("ref", "deleted", "merged_into", "created_at", "account", "owner", "category"),
            *("type", "priority", "pipeline", "is_closed", "closed_at", "first_response_at"),
        ),
        "survey_responses": (
            *("ref", "deleted", "merged_into", "kind", "score", "submitted_at", "account"),
            "category",
        ),
    }
)
"""Record table -> the columns that are copied."""

_WINNERS: Final = """
CREATE TABLE {table}_winners AS
WITH RECURSIVE chain(ref, path, last, is_over) AS (
    SELECT ref, [ref], coalesce(merged_into, ref), merged_into IS NULL FROM {table}
    UNION ALL
    SELECT chain.ref, list_append(path, last),
        CASE WHEN one.merged_into IS NULL THEN last
             WHEN list_contains(list_append(path, last), one.merged_into)
             THEN list_min(list_slice(list_append(path, last),
                  list_position(list_append(path, last), one.merged_into), len(path) + 1))
             ELSE one.merged_into END,
        one.merged_into IS NULL OR list_contains(list_append(path, last), one.merged_into)
    FROM chain LEFT JOIN {table} one ON one.ref = last
    WHERE NOT is_over
)
SELECT ref, last FROM chain WHERE is_over;
"""

PREPARATION: Final = (
    """
    CREATE MACRO local_day(us) AS CASE WHEN us IS NOT NULL THEN date_diff('day',
    DATE '1970-01-01', CAST(make_timestamptz(us) AT TIME ZONE '{zone}' AS DATE)) END
    """,
    "CREATE MACRO cut(words) AS substr(words, 1, 120)",
    "CREATE MACRO day_or_none(day) AS coalesce(day, {no_day})",
    *(
        statement
        for table in ("accounts", "owners")
        for statement in (_WINNERS.format(table=table),)
    ),
    """
    CREATE TABLE account_of AS
    SELECT w.ref, w.last AS account FROM accounts_winners w
    LEFT JOIN accounts a ON a.ref = w.last
    WHERE a.ref IS NULL OR NOT (a.deleted AND a.merged_into IS NULL)
    """,
    """
    CREATE TABLE deal_entries AS
    SELECT deal, stage, entered, ref FROM (
        SELECT deal, stage, ref, "at" AS entered,
            lag(stage) OVER (PARTITION BY deal ORDER BY "at", ref) AS before
        FROM deal_stage_changes WHERE NOT deleted AND merged_into IS NULL
    ) WHERE before IS DISTINCT FROM stage
    """,
    """
    CREATE TABLE last_closings AS
    SELECT d.ref, max(e.entered) AS left_open FROM deals d JOIN deal_entries e ON e.deal = d.ref
    LEFT JOIN stages s ON s.ref = e.stage
    WHERE CASE WHEN s.ref IS NOT NULL THEN s.is_closed ELSE e.stage = d.stage AND d.is_closed END
    GROUP BY d.ref
    """,
    """
    CREATE TABLE live_deals AS
    SELECT d.ref AS deal, d.is_closed, d.is_closed AND d.is_won AS won, d.amount, d.probability,
        CASE WHEN d.amount IS NULL THEN '' ELSE coalesce(nullif(d.currency, ''), '{currency}') END
            AS currency,
        d.close_date, local_day(d.created_at) AS created_day,
        coalesce(d.close_date, local_day(d.closed_at), local_day(l.left_open)) AS closed_day,
        coalesce(w.last, d.owner) AS owner, cut(o.team) AS team,
        CASE WHEN a.ref IS NULL THEN d.account ELSE of_account.account END AS account,
        d.pipeline, d.stage, cut(d.product) AS product, cut(d.source) AS source,
        cut(d.type) AS type, cut(d.kind) AS kind, cut(d.region) AS region,
        cut(d.segment) AS segment, d.campaign, cut(c.channel) AS channel,
        cut(d.lost_reason) AS lost_reason
    FROM deals d
    LEFT JOIN last_closings l ON l.ref = d.ref
    LEFT JOIN owners_winners w ON w.ref = d.owner
    LEFT JOIN owners o ON o.ref = coalesce(w.last, d.owner)
    LEFT JOIN accounts a ON a.ref = d.account
    LEFT JOIN account_of of_account ON of_account.ref = d.account
    LEFT JOIN campaigns c ON c.ref = d.campaign
    WHERE NOT d.deleted AND d.merged_into IS NULL
    """,
    """
    CREATE TABLE deal_visits AS
    SELECT *, coalesce(is_open AND lag(NOT is_open AND NOT is_unknown) OVER (
        PARTITION BY deal ORDER BY entered, entry), false) AS is_reopening
    FROM (
        SELECT d.* EXCLUDE (currency) REPLACE (e.stage AS stage), e.entered, e.left_at,
            e.ref AS entry,
            (e.left_at - e.entered) // 1000000 AS stayed,
            coalesce(CASE WHEN s.ref IS NOT NULL THEN NOT s.is_closed
                ELSE e.stage = d.stage AND NOT d.is_closed END, false) AS is_open,
            s.ref IS NULL AND e.stage IS DISTINCT FROM d.stage AS is_unknown
        FROM (
            SELECT *, lead(entered) OVER (PARTITION BY deal ORDER BY entered, ref) AS left_at
            FROM deal_entries
        ) e
        JOIN live_deals d ON d.deal = e.deal LEFT JOIN stages s ON s.ref = e.stage
    )
    """,
    """
    CREATE TABLE stages_passed AS
    SELECT h.deal,
        count(DISTINCT CASE WHEN s.ref IS NOT NULL AND NOT s.is_closed THEN h.stage END) AS passed
    FROM deal_stage_changes h LEFT JOIN stages s ON s.ref = h.stage
    WHERE NOT h.deleted AND h.merged_into IS NULL GROUP BY h.deal
    """,
    """
    CREATE TABLE spendings AS
    SELECT k.campaign, cut(c.channel) AS channel, cut(k.source) AS source,
        cut(k.category) AS category, k."date" AS spent_on, k.amount AS spent,
        coalesce(nullif(k.currency, ''), '{currency}') AS currency
    FROM costs k LEFT JOIN campaigns c ON c.ref = k.campaign
    WHERE NOT k.deleted AND k.merged_into IS NULL AND k.amount IS NOT NULL
    UNION ALL
    SELECT c.ref, cut(c.channel), NULL, NULL, c.start_date, c.cost,
        coalesce(nullif(c.currency, ''), '{currency}')
    FROM campaigns c
    WHERE NOT c.deleted AND c.merged_into IS NULL AND c.cost IS NOT NULL
    AND c.ref NOT IN (
        SELECT campaign FROM costs
        WHERE NOT deleted AND merged_into IS NULL AND campaign IS NOT NULL
    )
    """,
    """
    CREATE TABLE live_tickets AS
    SELECT t.ref AS ticket, t.is_closed, t.created_at, t.closed_at, t.first_response_at,
        coalesce(w.last, t.owner) AS owner, cut(o.team) AS team, cut(t.category) AS category,
        cut(t.type) AS type, cut(t.priority) AS priority, t.pipeline,
        CASE WHEN a.ref IS NULL THEN t.account ELSE of_account.account END AS account
    FROM tickets t
    LEFT JOIN owners_winners w ON w.ref = t.owner
    LEFT JOIN owners o ON o.ref = coalesce(w.last, t.owner)
    LEFT JOIN accounts a ON a.ref = t.account
    LEFT JOIN account_of of_account ON of_account.ref = t.account
    WHERE NOT t.deleted AND t.merged_into IS NULL
    """,
)
"""Statements before the sources; they take zone, currency and no_day."""

_DEALS: Final = (
    *("owner", "team", "pipeline", "stage", "product", "source", "type", "kind", "region"),
    *("segment", "account", "campaign", "channel", "lost_reason", "deal"),
)
_TICKETS: Final = (
    *("owner", "team", "category", "type", "priority", "pipeline", "account", "ticket"),
)
_VISITS: Final = """
    SELECT *, day_or_none(local_day(left_at)) AS day, '' AS currency, {bucket} AS bucket,
        (NOT is_unknown)::INT AS visits,
        CASE WHEN is_unknown THEN 0 ELSE stayed END AS seconds, is_unknown::INT AS unknown
    FROM deal_visits WHERE left_at IS NOT NULL AND (is_open OR is_unknown)
"""
_EMAILS: Final = """
    SELECT e.campaign, cut(c.channel) AS channel, cut(e.email) AS email,
        day_or_none(e."date") AS day, '' AS currency, 0 AS bucket,
        CASE WHEN e.{events} + e.delivered IS NULL THEN 0 ELSE e.{events} END AS events,
        CASE WHEN e.{events} + e.delivered IS NULL THEN 0 ELSE e.delivered END AS arrived,
        (e.{events} + e.delivered IS NULL)::INT AS incomplete
    FROM email_statistics e LEFT JOIN campaigns c ON c.ref = e.campaign
    WHERE NOT e.deleted AND e.merged_into IS NULL
"""
_DURATION: Final = """
    SELECT *, day_or_none(local_day(ended)) AS day, '' AS currency,
        CASE WHEN is_measured THEN seconds ELSE -1 END AS bucket,
        is_measured::INT AS measured, CASE WHEN is_measured THEN seconds ELSE 0 END AS seconds_,
        (created_at IS NOT NULL AND ended IS NOT NULL AND ended < created_at)::INT AS negative,
        (created_at IS NULL OR ended IS NULL)::INT AS undated
    FROM (
        SELECT *, (ended - created_at) // 1000000 AS seconds,
            created_at IS NOT NULL AND ended IS NOT NULL AND ended >= created_at AS is_measured
        FROM (SELECT *, {end} AS ended FROM live_tickets WHERE {where})
    )
"""


@dataclass(frozen=True, slots=True)
class Source:
    """One family."""

    dimensions: tuple[str, ...]
    measures: Mapping[str, str]
    """Measure of the family -> column of the query."""
    query: str


def _source(dimensions: tuple[str, ...], measures: str, query: str) -> Source:
    parts = [one.partition("=") for one in measures.split()]
    named = {name: column or name for name, _, column in parts}
    return Source(dimensions, MappingProxyType(named), query)


SOURCES: Final[Mapping[str, Source]] = MappingProxyType(
    {
        "deals_closed": _source(
            _DEALS,
            "won=won_ lost won_amount lost_amount won_by_account",
            """
            SELECT *, day_or_none(closed_day) AS day, 0 AS bucket,
                won::INT AS won_, (NOT won)::INT AS lost,
                CASE WHEN won THEN coalesce(amount, 0) ELSE 0 END AS won_amount,
                CASE WHEN won THEN 0 ELSE coalesce(amount, 0) END AS lost_amount,
                (won AND account IS NOT NULL)::INT AS won_by_account
            FROM live_deals WHERE is_closed
            """,
        ),
        "deals_created": _source(
            _DEALS,
            "created won=won_ closed",
            """
            SELECT * EXCLUDE (currency), day_or_none(created_day) AS day, '' AS currency,
                0 AS bucket, 1 AS created, won::INT AS won_, is_closed::INT AS closed
            FROM live_deals
            """,
        ),
        "sales_cycle": _source(
            _DEALS,
            "measured days negative undated",
            """
            SELECT * EXCLUDE (currency), day_or_none(closed_day) AS day, '' AS currency,
                CASE WHEN closed_day >= created_day THEN closed_day - created_day ELSE -1 END
                    AS bucket,
                coalesce(closed_day >= created_day, false)::INT AS measured,
                CASE WHEN closed_day >= created_day THEN closed_day - created_day ELSE 0 END
                    AS days,
                coalesce(closed_day < created_day, false)::INT AS negative,
                (closed_day IS NULL OR created_day IS NULL)::INT AS undated
            FROM live_deals WHERE won
            """,
        ),
        "deals_open": _source(
            _DEALS,
            "open amount=amount_",
            """
            SELECT *, day_or_none(close_date) AS day,
                CASE WHEN probability >= 0 THEN probability ELSE -1 END AS bucket,
                1 AS open, coalesce(amount, 0) AS amount_
            FROM live_deals WHERE NOT is_closed
            """,
        ),
        "stage_visits": _source(_DEALS, "visits seconds unknown", _VISITS.format(bucket="0")),
        "stage_times": _source(
            _DEALS,
            "visits unknown",
            _VISITS.format(bucket="CASE WHEN is_unknown THEN -1 ELSE stayed END"),
        ),
        "reopenings": _source(
            _DEALS,
            "reopened",
            """
            SELECT *, day_or_none(local_day(entered)) AS day, '' AS currency, 0 AS bucket,
                1 AS reopened
            FROM deal_visits WHERE is_reopening
            """,
        ),
        "stages_seen": _source(
            _DEALS,
            "deals=known stages=passed_ without_history",
            """
            SELECT d.* EXCLUDE (currency), day_or_none(d.closed_day) AS day, '' AS currency,
                0 AS bucket, (p.deal IS NOT NULL)::INT AS known,
                coalesce(p.passed, 0) AS passed_, (p.deal IS NULL)::INT AS without_history
            FROM live_deals d LEFT JOIN stages_passed p ON p.deal = d.deal WHERE d.is_closed
            """,
        ),
        "first_purchases": _source(
            _DEALS,
            "customers anonymous",
            """
            SELECT * EXCLUDE (currency), day_or_none(closed_day) AS day, '' AS currency,
                0 AS bucket, (account IS NOT NULL)::INT AS customers,
                (account IS NULL)::INT AS anonymous
            FROM live_deals WHERE won
            QUALIFY account IS NULL OR row_number() OVER (
                PARTITION BY account ORDER BY closed_day IS NULL, closed_day, deal
            ) = 1
            """,
        ),
        "costs": _source(
            ("campaign", "channel", "source", "category"),
            "costs=one amount=spent campaign_costs",
            """
            SELECT *, day_or_none(spent_on) AS day, 0 AS bucket, 1 AS one,
                (campaign IS NOT NULL)::INT AS campaign_costs
            FROM spendings
            """,
        ),
        **{
            f"email_{events}": _source(
                ("campaign", "channel", "email"),
                "events delivered=arrived incomplete",
                _EMAILS.format(events=events),
            )
            for events in ("opens", "clicks", "unsubscribes", "bounces")
        },
        "leads_created": _source(
            ("source", "owner", "team"),
            "created converted",
            """
            SELECT cut(l.source) AS source, coalesce(w.last, l.owner) AS owner,
                cut(o.team) AS team, day_or_none(local_day(l.created_at)) AS day,
                '' AS currency, 0 AS bucket, 1 AS created,
                (l.converted_at IS NOT NULL)::INT AS converted
            FROM leads l
            LEFT JOIN owners_winners w ON w.ref = l.owner
            LEFT JOIN owners o ON o.ref = coalesce(w.last, l.owner)
            WHERE NOT l.deleted AND l.merged_into IS NULL
            """,
        ),
        "leads_qualified": _source(
            ("source", "owner", "team"),
            "qualified",
            """
            SELECT cut(l.source) AS source, coalesce(w.last, l.owner) AS owner,
                cut(o.team) AS team, local_day(l.qualified_at) AS day,
                '' AS currency, 0 AS bucket, 1 AS qualified
            FROM leads l
            LEFT JOIN owners_winners w ON w.ref = l.owner
            LEFT JOIN owners o ON o.ref = coalesce(w.last, l.owner)
            WHERE NOT l.deleted AND l.merged_into IS NULL AND l.qualified_at IS NOT NULL
            """,
        ),
        "tickets_created": _source(
            _TICKETS,
            "created recurrent",
            """
            SELECT *, day_or_none(local_day(created_at)) AS day, '' AS currency, 0 AS bucket,
                1 AS created,
                coalesce(account IS NOT NULL AND category IS NOT NULL
                    AND created_at - before <= 30 * 86400 * 1000000::BIGINT, false)::INT
                    AS recurrent
            FROM (
                SELECT *, lag(created_at) OVER (
                    PARTITION BY account, category, created_at IS NULL
                    ORDER BY created_at, ticket
                ) AS before FROM live_tickets
            )
            """,
        ),
        "tickets_closed": _source(
            _TICKETS,
            "closed",
            """
            SELECT *, day_or_none(local_day(closed_at)) AS day, '' AS currency, 0 AS bucket,
                1 AS closed
            FROM live_tickets WHERE is_closed
            """,
        ),
        "tickets_open": _source(
            _TICKETS,
            "open",
            """
            SELECT *, 0 AS day, '' AS currency, 0 AS bucket, 1 AS open
            FROM live_tickets WHERE NOT is_closed
            """,
        ),
        "resolution": _source(
            _TICKETS,
            "measured seconds=seconds_ negative undated",
            _DURATION.format(end="closed_at", where="is_closed"),
        ),
        "first_response": _source(
            _TICKETS,
            "measured seconds=seconds_ negative undated",
            _DURATION.format(end="first_response_at", where="first_response_at IS NOT NULL"),
        ),
        "answers": _source(
            ("account", "category"),
            "promoters passives detractors invalid",
            """
            SELECT *, 0 AS bucket, '' AS currency,
                coalesce(is_valid AND score >= 9000000, false)::INT AS promoters,
                coalesce(is_valid AND score >= 7000000 AND score < 9000000, false)::INT
                    AS passives,
                coalesce(is_valid AND score < 7000000, false)::INT AS detractors,
                (NOT is_valid)::INT AS invalid
            FROM (
                SELECT s.score, local_day(s.submitted_at) AS day, cut(s.category) AS category,
                    CASE WHEN a.ref IS NULL THEN s.account ELSE of_account.account END AS account,
                    coalesce(s.score % 1000000 = 0 AND s.score BETWEEN 0 AND 10000000, false)
                        AS is_valid
                FROM survey_responses s
                LEFT JOIN accounts a ON a.ref = s.account
                LEFT JOIN account_of of_account ON of_account.ref = s.account
                WHERE NOT s.deleted AND s.merged_into IS NULL
                AND (s.kind IS NULL OR s.kind = 'nps')
            )
            """,
        ),
    }
)
"""Family -> its source."""
