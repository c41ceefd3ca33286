"""What becomes of a value when records are edited, move, merge, vanish and come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from metrics.catalog.examples import (
    answer,
    campaign,
    contact,
    contract,
    cost,
    email,
    entered,
    lead,
    lost,
    stage,
    still_open,
    ticket,
    ticket_status,
    touch,
    won,
)
from metrics.definition import KpiSettings, OwnSettings
from store.canonical import Account, CanonicalRecord, Company, RecordRef
from tests.pipeline.metrics.books import BERLIN, Books

Step = tuple[CanonicalRecord | RecordRef, str | None]
"""What a page brings (a reference: a deletion), and the value afterwards."""

NOON = datetime(2024, 1, 9, 12, tzinfo=UTC)
MERGED_B = Account(ref=RecordRef("crm", "accounts", "B"), merged_into="crm:A")


@dataclass(frozen=True)
class Life:
    """One KPI and the pages that move it."""

    kpi: str
    steps: Sequence[Step]
    before: Sequence[CanonicalRecord] = ()
    period: str = "all"
    by: str = "all"
    key: str = "*"
    own: OwnSettings = field(default_factory=OwnSettings)


TICKET = ticket(1, closed=NOON, replied=NOON, account="B", category="billing")
LEAD = lead(1, converted=date(2024, 2, 1), account="A")
SPENT = cost(1, 100, campaign="fair")
SENT = email("news", campaign="fair", delivered=10, opens=5)
RUNNING = contract(1, "B", date(2023, 1, 1), date(2024, 2, 10))
MAILED = touch("P", "mail", date(2024, 1, 2))

LIVES = {
    "a ticket is deleted, comes back, is merged": Life(
        "tickets_created",
        [
            (TICKET, "1"),
            (TICKET.ref, "0"),
            (TICKET, "1"),
            (replace(TICKET, merged_into="crm:T2"), "0"),
        ],
    ),
    "a ticket's account is merged": Life(
        "tickets_created",
        [(TICKET, None), (MERGED_B, "1"), (replace(MERGED_B, merged_into=None), "0")],
        by="account",
        key="crm:A",
    ),
    "a reply comes before the ticket, vanishes, comes in time": Life(
        "first_response_hours",
        [
            (replace(TICKET, first_response_at=NOON - timedelta(days=9)), None),
            (replace(TICKET, first_response_at=None), None),
            (replace(TICKET, first_response_at=TICKET.created_at), "0"),
        ],
    ),
    "a ticket is opened again, then the history is taken back": Life(
        "reopen_rate",
        [
            (TICKET, "0"),
            (ticket_status(1, NOON, is_closed=True), "0"),
            (ticket_status(1, NOON + timedelta(days=1), is_closed=False), "1"),
            (ticket_status(1, NOON + timedelta(days=1), is_closed=False).ref, "0"),
        ],
    ),
    "a lead changes hands": Life(
        "leads_created",
        [(replace(LEAD, owner="crm:ana"), "1"), (replace(LEAD, owner="crm:ben"), "0")],
        by="owner",
        key="crm:ana",
    ),
    "a lead is merged, and a conversion is taken back": Life(
        "lead_conversion_rate",
        [
            (LEAD, "1"),
            (replace(LEAD, converted_at=None), "0"),
            (replace(LEAD, merged_into="crm:L9"), None),
        ],
    ),
    "a lead's customer is another account by merge": Life(
        "lead_to_customer_rate",
        [(LEAD, "0"), (won(1, account="B", amount=1), "0"), (MERGED_B, "1")],
    ),
    "an answer is corrected, is none, is deleted": Life(
        "nps",
        [
            (answer(1, "6"), "-100"),
            (answer(1, "9"), "100"),
            (answer(1, "11"), None),
            (answer(1, "0"), "-100"),
            (answer(1, "0").ref, None),
        ],
    ),
    "the last answer of a person is deleted": Life(
        "nps",
        [
            (answer(1, "9", contact="P"), "100"),
            (answer(2, "0", day=date(2024, 1, 11), contact="P"), "-100"),
            (answer(2, "0").ref, "100"),
        ],
        own=OwnSettings(answers="latest"),
    ),
    "a contract is cut short, and its account is merged into one that goes on": Life(
        "contract_churn_rate",
        [
            (RUNNING, "0"),
            (replace(RUNNING, end_date=date(2024, 1, 20)), "1"),
            (contract(2, "A", date(2023, 6, 1), None), "0.5"),
            (MERGED_B, "0"),
            (RUNNING.ref, "0"),
        ],
        period="2024-01",
    ),
    "a cost moves to another campaign and loses its rate": Life(
        "campaign_cost",
        [
            (SPENT, "100"),
            (replace(SPENT, amount=Decimal("-3.5")), "-3.5"),
            (replace(SPENT, currency="XTS"), "0"),
            (replace(SPENT, campaign="crm:mail"), "50"),
            (SPENT, "100"),
            (SPENT.ref, "50"),
        ],
        before=[campaign("fair", cost=50)],
        by="campaign",
        key="crm:fair",
    ),
    "a touch is deleted, its person works elsewhere": Life(
        "campaign_revenue_first",
        [
            (MAILED, "100"),
            (MAILED.ref, "0"),
            (MAILED, "100"),
            (contact("P", account="B"), "0"),
            (MERGED_B, "100"),
        ],
        before=[contact("P", account="A"), won(1, account="A", amount=100)],
        by="campaign",
        key="crm:mail",
        own=OwnSettings(models=("first",)),
    ),
    "statistics of an e-mail become unknown, move, vanish": Life(
        "email_open_rate",
        [
            (SENT, "0.5"),
            (replace(SENT, opens=None), None),
            (replace(SENT, delivered=0), None),
            (replace(SENT, campaign="crm:mail"), None),
            (SENT, "0.5"),
            (SENT.ref, None),
        ],
        by="campaign",
        key="crm:fair",
    ),
    "a purchase that kept a customer is lost after all": Life(
        "retention_rate",
        [
            (won(1, account="A", amount=1, closed=date(2023, 11, 20)), "0"),
            (won(2, account="A", amount=1, closed=date(2024, 2, 10)), "1"),
            (lost(2, account="A", amount=1, closed=date(2024, 2, 10)), "0"),
            (won(3, account="B", amount=1, closed=date(2024, 2, 10)), "0"),
            (MERGED_B, "1"),
        ],
        period="2024-Q1",
    ),
    "a deal becomes an upsell, by edit and by merge of its account": Life(
        "upsell_rate",
        [
            (won(1, account="A"), "0"),
            (won(2, account="B", kind="upsell"), "0.5"),
            (won(1, account="A", kind="new"), "0.5"),
            (MERGED_B, "1"),
            (won(2, account="B", kind="upsell").ref, "0"),
        ],
    ),
    "a move out of a closed stage was a mistake of the history": Life(
        "reopened_count",
        [
            (entered(1, "lost", NOON), None),
            (entered(1, "offer", NOON + timedelta(days=1)), "1"),
            (stage("lost", is_closed=False), "0"),
            (stage("lost", is_closed=True), "1"),
            (entered(1, "lost", NOON).ref, "0"),
        ],
        before=[stage("offer"), stage("lost", is_closed=True), still_open(1, stage="offer")],
    ),
    "a deal reaches a later stage, whose place is then changed": Life(
        "stage_conversion",
        [
            (entered(1, "first", NOON), "0"),
            (entered(1, "second", NOON + timedelta(days=1)), "1"),
            (stage("second", position=0), "0"),
            (won(1, stage="second"), "1"),
        ],
        before=[stage("first", position=1), stage("second", position=2), still_open(1)],
        by="stage",
        key="crm:first",
    ),
}


@pytest.mark.parametrize("life", LIVES.values(), ids=list(LIVES))
def test_a_value_follows_its_records_through_their_lives(sqlite_database: str, life: Life) -> None:
    books = Books(
        sqlite_database,
        KpiSettings(company=BERLIN, use=(life.kpi,), own={life.kpi: life.own}),
    )
    books.commit(*life.before)
    books.publish()
    for place, (change, expected) in enumerate(life.steps):
        if isinstance(change, RecordRef):
            books.commit(deleted=[change])
        else:
            books.commit(change)
        books.publish()
        found = books.value(life.kpi, life.period, life.by, life.key)
        value = None if found is None or found.value is None else str(found.value.normalize())
        assert value == (None if expected is None else str(Decimal(expected).normalize())), place
    books.check()
    books.close()


LATE = datetime(2024, 3, 31, 22, 30, tzinfo=UTC)
"""In March or April, as the zone has it; in Berlin on the day the clocks went forward."""


@pytest.mark.parametrize(
    ("zone", "month"),
    [("Europe/Berlin", "2024-04"), ("America/Los_Angeles", "2024-03"), ("Asia/Tokyo", "2024-04")],
)
def test_instants_of_every_kind_fall_on_the_companys_day(
    sqlite_database: str, zone: str, month: str
) -> None:
    kpis = ("tickets_created", "tickets_closed", "first_response_hours", "leads_created", "nps")
    settings = KpiSettings(
        company=Company(ZoneInfo(zone), "EUR"),
        use=(*kpis, "lead_velocity_rate", "stage_visits", "reopen_rate"),
        periods=("month",),
    )
    books = Books(sqlite_database, settings)
    books.now = datetime(2024, 6, 1, tzinfo=UTC)
    books.commit(
        ticket(1, created=LATE, closed=LATE, replied=LATE),
        replace(lead(1), created_at=LATE, qualified_at=LATE),
        replace(answer(1, "9"), submitted_at=LATE),
        stage("offer"),
        stage("won", is_closed=True),
        still_open(1, stage="won"),
        entered(1, "offer", LATE - timedelta(days=3)),
        entered(1, "won", LATE),
    )
    books.publish()

    months = {place[:2] for place in books.current() if place[1] not in {"all", "now"}}
    assert {kpi for kpi, period in months if period == month} >= {
        *kpis,
        *("lead_velocity_rate", "stage_visits", "reopen_rate"),
    }
    assert {period for kpi, period in months if kpi in kpis} == {month}
    books.check()
    books.close()
