"""Random records of every stream: few names, so that they meet, and the days that hurt."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

from hypothesis import strategies as st

from store.canonical import (
    Account,
    Campaign,
    CampaignMember,
    CanonicalRecord,
    Contact,
    Contract,
    Cost,
    DealContact,
    DealLine,
    EmailStatistics,
    Lead,
    Owner,
    Rate,
    RecordRef,
    Stage,
    SurveyResponse,
    Ticket,
    TicketStatusChange,
)
from tests.pipeline.metrics.books import deal, entered, key, ref

DEAL_NAMES = [f"D{number}" for number in range(6)]
ACCOUNT_NAMES = ["A", "B", "C", "hub:A", "hub:D0"]
OWNER_NAMES = ["ana", "ben", "hub:ana"]
STAGE_NAMES = ["new", "offer", "won", "odd"]
CAMPAIGN_NAMES = ["fair", "mail"]
CONTACT_NAMES = ["P0", "P1", "P2"]
LEAD_NAMES = ["L0", "L1", "L2"]
TICKET_NAMES = ["T0", "T1", "T2", "T3"]

INSTANTS = [
    datetime(2023, 12, 31, 22, 59, tzinfo=UTC),
    datetime(2023, 12, 31, 23, 30, tzinfo=UTC),
    datetime(2024, 1, 31, 12, tzinfo=UTC),
    datetime(2024, 3, 31, 0, 30, tzinfo=UTC),
    datetime(2024, 3, 31, 1, 30, 0, 5, tzinfo=UTC),
    datetime(2024, 5, 2, 8, tzinfo=UTC),
]
DATES = [
    date(2023, 12, 31),
    date(2024, 1, 1),
    date(2024, 2, 29),
    date(2024, 3, 31),
    date(2024, 5, 30),
    date(2024, 6, 3),
]


def maybe(*values: object) -> st.SearchStrategy[object]:
    """One of these, or nothing."""
    return st.sampled_from([None, *values])


def one(*values: object) -> st.SearchStrategy[object]:
    """One of these."""
    return st.sampled_from(list(values))


rarely = st.integers(0, 3).map(lambda number: number == 0)


@st.composite
def deals(draw: st.DrawFn) -> CanonicalRecord:
    outcome = draw(one("open", "won", "won", "lost"))
    tier = draw(st.sampled_from([None, "gold", "", 7, Decimal("7.50"), True, date(2024, 1, 1)]))
    found = deal(
        draw(st.sampled_from(DEAL_NAMES)),
        account=draw(maybe(*ACCOUNT_NAMES)),  # type: ignore[arg-type]  # a name
        owner=draw(maybe(*OWNER_NAMES)),  # type: ignore[arg-type]  # a name
        stage=draw(maybe(*STAGE_NAMES)),  # type: ignore[arg-type]  # a name
        pipeline=draw(maybe("sales")),  # type: ignore[arg-type]  # a name
        is_closed=outcome != "open",
        is_won=outcome == "won",
        amount=draw(maybe(0, 1, 100, "12.34", -5, 20_000)),  # type: ignore[arg-type]  # an amount
        currency=draw(maybe("", "EUR", "USD", "JPY", "XTS")),  # type: ignore[arg-type]  # a code
        created=draw(maybe(*INSTANTS)),  # type: ignore[arg-type]  # an instant
        close_date=draw(maybe(*DATES)),  # type: ignore[arg-type]  # a day
        closed_at=draw(maybe(*INSTANTS)),  # type: ignore[arg-type]  # an instant
        probability=draw(maybe("0", "0.1", "0.333333")),  # type: ignore[arg-type]  # a ratio
        product=draw(maybe("pump", "a,b", "a\\,b")),  # type: ignore[arg-type]  # a text
        region=draw(maybe("EMEA", "")),  # type: ignore[arg-type]  # a text
        segment=draw(maybe("large")),  # type: ignore[arg-type]  # a text
        kind=draw(maybe("upsell", "new")),  # type: ignore[arg-type]  # a text
        campaign=draw(maybe(*CAMPAIGN_NAMES)),  # type: ignore[arg-type]  # a name
        lost_reason=draw(maybe("price")),  # type: ignore[arg-type]  # a text
        deleted=draw(rarely),
        merged_into=draw(st.sampled_from([None, None, None, None, "D5"])),
    )
    return replace(found, extra={} if tier is None else {"tier": tier})


@st.composite
def accounts(draw: st.DrawFn) -> CanonicalRecord:
    name = draw(st.sampled_from(ACCOUNT_NAMES))
    return Account(
        ref=ref("accounts", name),
        name=draw(st.sampled_from([f"Account {name}", "Renamed"])),
        owner=key(draw(st.sampled_from([None, *OWNER_NAMES]))),
        region=draw(st.sampled_from([None, "EMEA"])),
        deleted=draw(rarely),
        merged_into=key(draw(st.sampled_from([None, None, *ACCOUNT_NAMES, "gone"]))),
    )


@st.composite
def owners(draw: st.DrawFn) -> CanonicalRecord:
    name = draw(st.sampled_from(OWNER_NAMES))
    emails = [None, "ana@example.com", " ANA@example.com", "b@example.com"]
    return Owner(
        ref=ref("owners", name),
        name=f"Rep {name}",
        email=draw(st.sampled_from(emails)),
        team=draw(st.sampled_from([None, "north", "south"])),
    )


@st.composite
def changes(draw: st.DrawFn) -> CanonicalRecord:
    return entered(
        draw(st.sampled_from(DEAL_NAMES)),
        draw(st.sampled_from(STAGE_NAMES)),
        draw(st.sampled_from(INSTANTS)),
        name=f"C{draw(st.integers(0, 9))}",
        deleted=draw(rarely),
    )


@st.composite
def stages(draw: st.DrawFn) -> CanonicalRecord:
    name = draw(st.sampled_from(STAGE_NAMES[:3]))
    return Stage(
        ref=ref("stages", name),
        label=f"Stage {name}",
        pipeline=key(draw(st.sampled_from(["sales", "sales", "web", None]))),
        pipeline_label="Pipeline",
        position=draw(st.sampled_from([None, 1, 2, 3])),
        probability=draw(st.sampled_from([None, Decimal("0.1"), Decimal("0.9")])),
        is_closed=draw(st.booleans()),
        is_active=draw(st.booleans()),
        deleted=draw(rarely),
    )


@st.composite
def roles(draw: st.DrawFn) -> CanonicalRecord:
    return DealContact(
        ref=ref("deal_contacts", f"R{draw(st.integers(0, 3))}"),
        deal=key(draw(st.sampled_from(DEAL_NAMES))) or "",
        contact=key(draw(st.sampled_from(CONTACT_NAMES))) or "",
        deleted=draw(rarely),
    )


@st.composite
def contacts(draw: st.DrawFn) -> CanonicalRecord:
    return Contact(
        ref=ref("contacts", draw(st.sampled_from(CONTACT_NAMES))),
        account=key(draw(st.sampled_from([None, *ACCOUNT_NAMES]))),
        deleted=draw(rarely),
        # "A" is an account: a person who is a customer is folded into it.
        merged_into=key(draw(st.sampled_from([None, None, None, *CONTACT_NAMES, "gone", "A"]))),
    )


@st.composite
def leads(draw: st.DrawFn) -> CanonicalRecord:
    return Lead(
        ref=ref("leads", draw(st.sampled_from(LEAD_NAMES))),
        created_at=draw(st.sampled_from([None, *INSTANTS])),
        owner=key(draw(st.sampled_from([None, *OWNER_NAMES]))),
        source=draw(st.sampled_from([None, "web"])),
        qualified_at=draw(st.sampled_from([None, *INSTANTS])),
        converted_at=draw(st.sampled_from([None, *INSTANTS])),
        converted_account=key(draw(st.sampled_from([None, *ACCOUNT_NAMES]))),
        converted_contact=key(draw(st.sampled_from([None, *CONTACT_NAMES]))),
        converted_deal=key(draw(st.sampled_from([None, None, *DEAL_NAMES]))),
        deleted=draw(rarely),
    )


@st.composite
def campaigns(draw: st.DrawFn) -> CanonicalRecord:
    cost = draw(st.sampled_from([None, "10", "33.33"]))
    return Campaign(
        ref=ref("campaigns", draw(st.sampled_from(CAMPAIGN_NAMES))),
        channel=draw(st.sampled_from([None, "events", "email"])),
        start_date=draw(st.sampled_from([None, *DATES])),
        cost=None if cost is None else Decimal(cost),
        currency=draw(st.sampled_from([None, "USD", "XTS"])),
        deleted=draw(rarely),
    )


@st.composite
def members(draw: st.DrawFn) -> CanonicalRecord:
    return CampaignMember(
        ref=ref("campaign_members", f"M{draw(st.integers(0, 5))}"),
        campaign=key(draw(st.sampled_from(CAMPAIGN_NAMES))) or "",
        contact=key(draw(st.sampled_from([None, *CONTACT_NAMES]))),
        lead=key(draw(st.sampled_from([None, *LEAD_NAMES]))),
        at=draw(st.sampled_from(INSTANTS)),
        deleted=draw(rarely),
    )


@st.composite
def emails(draw: st.DrawFn) -> CanonicalRecord:
    counts = st.sampled_from([None, 0, 1, 40])
    return EmailStatistics(
        ref=ref("email_statistics", f"E{draw(st.integers(0, 3))}"),
        email=draw(st.sampled_from(["news", "a,b"])),
        campaign=key(draw(st.sampled_from([None, *CAMPAIGN_NAMES]))),
        date=draw(st.sampled_from(DATES)),
        delivered=draw(counts),
        opens=draw(counts),
        clicks=draw(counts),
        unsubscribes=draw(counts),
        bounces=draw(counts),
        deleted=draw(rarely),
    )


@st.composite
def costs(draw: st.DrawFn) -> CanonicalRecord:
    return Cost(
        ref=ref("costs", f"K{draw(st.integers(0, 3))}"),
        campaign=key(draw(st.sampled_from([None, *CAMPAIGN_NAMES]))),
        source=draw(st.sampled_from([None, "ads"])),
        date=draw(st.sampled_from(DATES)),
        amount=Decimal(draw(st.sampled_from(["0", "5", "7.01", "-1"]))),
        currency=draw(st.sampled_from([None, "USD", "XTS"])),
        deleted=draw(rarely),
    )


@st.composite
def tickets(draw: st.DrawFn) -> CanonicalRecord:
    return Ticket(
        ref=ref("tickets", draw(st.sampled_from(TICKET_NAMES))),
        created_at=draw(st.sampled_from([None, *INSTANTS])),
        account=key(draw(st.sampled_from([None, *ACCOUNT_NAMES]))),
        owner=key(draw(st.sampled_from([None, *OWNER_NAMES]))),
        category=draw(st.sampled_from([None, "billing", "login"])),
        priority=draw(st.sampled_from([None, "high"])),
        is_closed=draw(st.booleans()),
        closed_at=draw(st.sampled_from([None, *INSTANTS])),
        status=draw(st.sampled_from([None, "waiting"])),
        extra=draw(st.sampled_from([{}, {"line": "pumps"}, {"line": "x" * 130}])),
        first_response_at=draw(st.sampled_from([None, *INSTANTS])),
        deleted=draw(rarely),
    )


@st.composite
def ticket_changes(draw: st.DrawFn) -> CanonicalRecord:
    return TicketStatusChange(
        ref=ref("ticket_status_changes", f"X{draw(st.integers(0, 7))}"),
        ticket=key(draw(st.sampled_from(TICKET_NAMES))) or "",
        status="any",
        is_closed=draw(st.booleans()),
        at=draw(st.sampled_from(INSTANTS)),
        deleted=draw(rarely),
    )


@st.composite
def answers(draw: st.DrawFn) -> CanonicalRecord:
    score = draw(st.sampled_from([None, "0", "6", "7", "8", "9", "10", "11", "9.5", "-1"]))
    return SurveyResponse(
        ref=ref("survey_responses", f"S{draw(st.integers(0, 5))}"),
        kind=draw(st.sampled_from([None, "nps", "nps", "csat"])),
        score=None if score is None else Decimal(score),
        submitted_at=draw(st.sampled_from(INSTANTS)),
        account=key(draw(st.sampled_from([None, *ACCOUNT_NAMES]))),
        contact=key(draw(st.sampled_from([None, *CONTACT_NAMES]))),
        category=draw(st.sampled_from([None, "product"])),
        deleted=draw(rarely),
    )


@st.composite
def contracts(draw: st.DrawFn) -> CanonicalRecord:
    return Contract(
        ref=ref("contracts", f"V{draw(st.integers(0, 4))}"),
        account=key(draw(st.sampled_from([None, *ACCOUNT_NAMES]))),
        start_date=draw(st.sampled_from([None, *DATES])),
        end_date=draw(st.sampled_from([None, *DATES])),
        deleted=draw(rarely),
    )


@st.composite
def rates(draw: st.DrawFn) -> CanonicalRecord:
    return Rate(
        ref=ref("rates", f"F{draw(st.integers(0, 4))}"),
        currency=draw(st.sampled_from(["USD", "JPY"])),
        date=draw(st.sampled_from(DATES)),
        rate=Decimal(draw(st.sampled_from(["0.5", "0.921234567890123456789", "2"]))),
        deleted=draw(rarely),
    )


@st.composite
def lines(draw: st.DrawFn) -> CanonicalRecord:
    total = draw(st.sampled_from([None, "0", "12.5", "99"]))
    return DealLine(
        ref=ref("deal_lines", f"N{draw(st.integers(0, 3))}"),
        deal=key(draw(st.sampled_from(DEAL_NAMES))) or "",
        product=draw(st.sampled_from([None, "pump", "a,b"])),
        total=None if total is None else Decimal(total),
        currency=draw(st.sampled_from([None, "USD", "XTS"])),
        deleted=draw(rarely),
    )


records = st.one_of(
    *(deals(), deals(), deals(), deals()),
    *(changes(), changes(), accounts(), owners(), stages(), roles()),
    *(lines(), contacts(), leads(), campaigns(), members(), members(), emails(), costs(), rates()),
    *(tickets(), tickets(), ticket_changes(), answers(), contracts()),
)

_DELETABLE = {
    "deals": DEAL_NAMES,
    "accounts": ACCOUNT_NAMES,
    "deal_stage_changes": [f"C{number}" for number in range(10)],
    "contacts": CONTACT_NAMES,
    "leads": LEAD_NAMES,
    "campaigns": CAMPAIGN_NAMES,
    "tickets": TICKET_NAMES,
}
deletions = st.sampled_from(
    [ref(stream, name) for stream, names in _DELETABLE.items() for name in names]
)

Page = tuple[list[CanonicalRecord], list[RecordRef]]
pages = st.tuples(st.lists(records, max_size=10), st.lists(deletions, max_size=2))
