"""The edges of service, marketing and customer KPIs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from metrics.definition import KpiSettings, OwnSettings, WorkingHours
from store.canonical import (
    Account,
    Campaign,
    CampaignMember,
    Company,
    Contact,
    Cost,
    Lead,
    SurveyResponse,
    Ticket,
)
from tests.pipeline.metrics.books import BERLIN, Books, ref, won

OPENED = datetime(2024, 1, 8, 8, tzinfo=UTC)


@pytest.fixture
def books(sqlite_database: str) -> Iterator[Books]:
    made = Books(sqlite_database, KpiSettings(company=BERLIN, use=("service", "marketing", "cac")))
    yield made
    made.check()
    made.close()


def ticket(name: str, **fields: object) -> Ticket:
    """A ticket that was opened on a Monday."""
    return Ticket(ref=ref("tickets", name), **{"created_at": OPENED, **fields})  # type: ignore[arg-type]  # fields of a ticket


def closed(name: str, at: datetime, **fields: object) -> Ticket:
    """A closed ticket."""
    return ticket(name, is_closed=True, closed_at=at, **fields)


# ---------------------------------------------------------------- hours of work

HOURS = WorkingHours(
    weekdays=frozenset(range(5)),
    opens=time(9),
    closes=time(17),
    holidays=frozenset({date(2024, 4, 1)}),
)


@pytest.mark.parametrize(
    ("zone", "opened", "ended", "hours"),
    [
        # Friday 16:00 to Tuesday 10:00 local, over the clock change and a holiday on Monday.
        (
            "Europe/Berlin",
            datetime(2024, 3, 29, 15, tzinfo=UTC),
            datetime(2024, 4, 2, 8, tzinfo=UTC),
            2,
        ),
        # Friday 16:00 to Monday 10:00 local; the clock goes forward on Sunday.
        (
            "America/New_York",
            datetime(2024, 3, 8, 21, tzinfo=UTC),
            datetime(2024, 3, 11, 14, tzinfo=UTC),
            2,
        ),
        # No clock change: Friday 08:00 to Friday 20:00 local is one working day.
        (
            "Asia/Tokyo",
            datetime(2024, 3, 7, 23, tzinfo=UTC),
            datetime(2024, 3, 8, 11, tzinfo=UTC),
            8,
        ),
    ],
)
def test_business_hours_count_work_alone(
    sqlite_database: str, zone: str, opened: datetime, ended: datetime, hours: int
) -> None:
    settings = KpiSettings(
        company=Company(ZoneInfo(zone), "EUR"),
        use=("resolution_hours", "resolution_hours_median", "resolution_hours_p90"),
        own={"resolution_hours": OwnSettings(clock="business_hours")},
        working_hours=HOURS,
    )
    books = Books(sqlite_database, settings)
    books.commit(closed("T1", ended, created_at=opened))
    books.publish()

    for kpi in ("resolution_hours", "resolution_hours_median", "resolution_hours_p90"):
        assert books.number(kpi) == hours
    books.check()
    books.close()


# ---------------------------------------------------------------- tickets


def test_a_ticket_closed_before_it_was_opened_is_counted_apart(books: Books) -> None:
    books.commit(closed("T1", OPENED - timedelta(hours=1)), closed("T2", OPENED))
    books.publish()

    found = books.value("resolution_hours")
    assert found is not None
    assert (found.value, found.n, found.left_out) == (0, 1, {"negative_duration": 1})


def test_a_reopened_ticket_is_out_until_it_is_closed_again_and_then_with_the_whole_span(
    books: Books,
) -> None:
    books.commit(closed("T1", OPENED + timedelta(hours=2)))
    books.publish()
    first = books.number("resolution_hours")
    books.commit(ticket("T1"))
    books.publish()
    reopened = books.number("resolution_hours"), books.number("tickets_backlog", "now")
    books.commit(closed("T1", OPENED + timedelta(hours=30)))
    books.publish()

    assert (first, reopened, books.number("resolution_hours")) == (2, (None, 1), 30)


def test_a_ticket_that_changes_hands_takes_its_past_along(books: Books) -> None:
    books.commit(closed("T1", OPENED + timedelta(hours=2), owner="crm:ana"))
    books.publish()
    books.commit(closed("T1", OPENED + timedelta(hours=2), owner="crm:ben"))
    books.publish()

    assert books.number("tickets_closed", dimension="owner", key="crm:ana") == 0
    assert books.number("resolution_hours", dimension="owner", key="crm:ana") is None
    assert books.number("resolution_hours", "2024-01", "owner", "crm:ben") == 2


def test_tickets_recur_within_thirty_days_and_through_a_merge(books: Books) -> None:
    books.commit(
        ticket("T1", account="crm:A", category="billing"),
        ticket("T2", account="crm:B", category="billing", created_at=OPENED + timedelta(days=30)),
        ticket(
            "T3",
            account="crm:B",
            category="billing",
            created_at=OPENED + timedelta(days=60, microseconds=1),
        ),
    )
    books.publish()
    apart = books.value("ticket_recurrence_rate")
    books.commit(Account(ref=ref("accounts", "B"), merged_into="crm:A"))
    books.publish()

    assert apart is not None
    assert apart.numerator == 0
    merged = books.value("ticket_recurrence_rate")
    assert merged is not None
    assert merged.numerator == 1, "30 days are recent, a microsecond more is not"


def test_nobody_asked_means_no_score(books: Books) -> None:
    books.commit(ticket("T1"))
    books.publish()

    assert books.value("nps") is None
    assert books.number("completion_rate") == 0


def test_scores_that_are_none_are_counted_apart_and_latest_answers_alone_count(
    sqlite_database: str,
) -> None:
    def answer(name: str, score: str, day: int, contact: str | None = "crm:P") -> SurveyResponse:
        return SurveyResponse(
            ref=ref("survey_responses", name),
            score=Decimal(score),
            submitted_at=datetime(2024, 1, day, tzinfo=UTC),
            contact=contact,
        )

    latest = {"nps": OwnSettings(answers="latest")}
    books = Books(sqlite_database, KpiSettings(company=BERLIN, use=("nps",), own=latest))
    books.commit(
        answer("S1", "2", 1),
        answer("S2", "9", 2),
        answer("S3", "11", 3),
        answer("S4", "9.5", 4),
        answer("S5", "0", 5, contact=None),
    )
    books.publish()

    found = books.value("nps")
    assert found is not None
    assert (found.value, found.n, found.left_out) == (0, 2, {"invalid": 2})
    books.check()
    books.close()


# ---------------------------------------------------------------- campaigns


def member(name: str, contact: str, campaign: str, at: datetime) -> CampaignMember:
    """A touch."""
    return CampaignMember(
        ref=ref("campaign_members", name),
        campaign=f"crm:{campaign}",
        contact=f"crm:{contact}",
        at=at,
    )


def test_all_campaigns_and_none_make_the_revenue_whatever_the_model(sqlite_database: str) -> None:
    models = OwnSettings(models=("first", "last", "linear", "primary"))
    settings = KpiSettings(
        company=BERLIN, use=("marketing", "revenue"), own={"campaign_revenue": models}
    )
    books = Books(sqlite_database, settings)
    noon = datetime(2024, 3, 1, 12, tzinfo=UTC)
    books.commit(
        Contact(ref=ref("contacts", "P"), account="crm:A"),
        member("M1", "P", "mail", noon),
        member("M2", "P", "fair", noon + timedelta(days=1)),
        member("M3", "P", "mail", noon + timedelta(days=9, hours=10, minutes=59)),
        member("M4", "P", "fair", noon + timedelta(days=10)),
        won("D1", date(2024, 3, 10), account="A", amount=100),
        won("D2", date(2024, 3, 10), account="B", amount=7),
    )
    books.publish()

    def credited(model: str, key: str) -> Decimal | None:
        return books.number(f"campaign_revenue_{model}", "all", "campaign", key)

    assert books.number("revenue") == 107
    for model in models.models:
        assert books.number(f"campaign_revenue_{model}") == 107
        assert credited(model, "(none)") == (107 if model == "primary" else 7)
    assert (credited("first", "crm:mail"), credited("last", "crm:mail")) == (100, 100)
    linear = credited("linear", "crm:fair"), credited("linear", "crm:mail")
    assert [round(share or 0, 2) for share in linear] == [Decimal("33.33"), Decimal("66.67")]
    books.commit(Contact(ref=ref("contacts", "P"), account="crm:B"))
    books.publish()
    assert credited("first", "crm:mail") == 7
    books.check()
    books.close()


def test_a_person_who_is_a_customer_is_folded_into_the_account_and_touched_all_the_same(
    sqlite_database: str,
) -> None:
    settings = KpiSettings(
        company=BERLIN,
        use=("marketing", "revenue"),
        own={"campaign_revenue": OwnSettings(models=("first",))},
    )
    books = Books(sqlite_database, settings)
    shadow = Contact(ref=ref("contacts", "P"), account="crm:A", deleted=True, merged_into="crm:A")
    gone = Contact(ref=ref("contacts", "Q"), account="crm:B", deleted=True)
    books.commit(
        shadow,
        gone,
        member("M1", "P", "mail", datetime(2024, 3, 1, 12, tzinfo=UTC)),
        member("M2", "Q", "mail", datetime(2024, 3, 1, 12, tzinfo=UTC)),
        won("D1", date(2024, 3, 10), account="A", amount=100),
        won("D2", date(2024, 3, 10), account="B", amount=7),
    )
    books.publish()

    assert books.number("campaign_revenue_first", "all", "campaign", "crm:mail") == 100
    books.check()
    books.close()


def test_dated_costs_replace_the_field_and_a_missing_rate_is_told(books: Books) -> None:
    fair = Campaign(
        ref=ref("campaigns", "fair"), cost=Decimal(50), start_date=date(2024, 1, 1), channel="x"
    )
    cost = Cost(
        ref=ref("costs", "K1"), campaign="crm:fair", date=date(2024, 2, 1), amount=Decimal(8)
    )
    books.commit(fair)
    books.publish()
    field = books.number("campaign_cost", "all", "campaign", "crm:fair")
    books.commit(cost, replace(cost, ref=ref("costs", "K2"), currency="XTS"))
    books.publish()
    dated = books.value("campaign_cost", "all", "campaign", "crm:fair")
    books.commit(deleted=[ref("costs", "K1"), ref("costs", "K2")])
    books.publish()

    assert dated is not None
    assert (field, dated.value, dated.left_out) == (50, 8, {"no_rate": 1})
    assert books.number("campaign_cost", "2024-01", "campaign", "crm:fair") == 50


def test_costs_without_new_customers_have_no_value_and_the_reverse_is_nothing(books: Books) -> None:
    spent = Cost(ref=ref("costs", "K1"), date=date(2024, 1, 9), amount=Decimal(10))
    books.commit(spent, won("D1", date(2024, 2, 9)))
    books.publish()

    assert books.number("cac", "2024-01") is None
    assert books.number("cac", "2024-02") == 0
    assert books.number("cac", "2024") == 10


def test_a_lead_becomes_a_customer_when_its_account_buys_on_its_day_or_later(books: Books) -> None:
    lead = Lead(
        ref=ref("leads", "L1"),
        created_at=datetime(2024, 1, 9, 23, 30, tzinfo=UTC),
        converted_account="crm:A",
    )
    books.commit(lead, won("D1", date(2024, 1, 9), account="A"))
    books.publish()
    day_before = books.number("lead_to_customer_rate", "2024-01")
    books.commit(won("D2", date(2024, 1, 10), account="B"))
    books.commit(Account(ref=ref("accounts", "B"), merged_into="crm:A"))
    books.publish()

    assert day_before == 0, "the lead's local day is the tenth"
    assert books.number("lead_to_customer_rate", "2024-01") == 1


# ---------------------------------------------------------------- customers


def test_the_anchors_of_customer_lifetime_value_and_of_what_a_customer_costs(
    sqlite_database: str,
) -> None:
    names = (
        *("revenue", "purchases", "buyers", "avg_purchase_value", "purchase_frequency"),
        *("customer_value", "customer_lifespan_days", "cltv", "cac", "ltv_cac"),
    )
    books = Books(sqlite_database, KpiSettings(company=BERLIN, use=names, periods=("year",)))
    day = date(2024, 6, 1)
    deals = [
        won(f"D{account}-{place}", day, account=f"A{account}", amount=3_000)
        for account in range(100)
        for place in range(4)
    ]
    # Thirty are new; the others' first purchases lie so far back that the mean is four years.
    before = [
        won(f"E{n}", day - timedelta(days=2_087 + (n < 10)), account=f"A{n}", amount=1)
        for n in range(70)
    ]
    spent = Cost(ref=ref("costs", "K"), date=date(2024, 1, 1), amount=Decimal(90_000))
    books.commit(*deals, *before, spent)
    books.publish()

    assert {name: books.number(name, "2024") for name in names} == {
        "revenue": 1_200_000,
        "purchases": 400,
        "buyers": 100,
        "avg_purchase_value": 3_000,
        "purchase_frequency": 4,
        "customer_value": 12_000,
        "customer_lifespan_days": 1_461,
        "cltv": 48_000,
        "cac": 3_000,
        "ltv_cac": 16,
    }
    books.check()
    books.close()


def test_one_time_buyers_have_a_lifespan_of_no_days(sqlite_database: str) -> None:
    names = ("customer_lifespan_days", "cltv")
    books = Books(sqlite_database, KpiSettings(company=BERLIN, use=names, periods=("year",)))
    books.commit(won("D1", date(2020, 12, 31), account="A"), won("D2", None, account="B"))
    books.publish()

    assert books.number("customer_lifespan_days", "2020") == 0
    assert books.number("cltv", "2020") == 0
    assert books.value("cltv", "2021") is None
    books.check()
    books.close()


def test_week_53_and_the_fiscal_year_hold_for_what_comes_and_goes(sqlite_database: str) -> None:
    settings = KpiSettings(
        company=BERLIN,
        use=("customers_end", "retention_rate"),
        periods=("week", "fiscal_year"),
        fiscal_year_starts=2,
        own={"retention_rate": OwnSettings(window=7)},
    )
    books = Books(sqlite_database, settings)
    books.now = datetime(2021, 3, 1, tzinfo=UTC)
    books.commit(won("D1", date(2020, 12, 28), account="A"))
    books.publish()

    assert books.number("customers_end", "2020-W53") == 1
    assert books.number("retention_rate", "2021-W01") == 0
    assert books.value("customers_end", "FY2021") is None, "who came and went is nobody"
    books.check()
    books.close()


def test_a_median_counts_equal_worth_in_different_currencies(sqlite_database: str) -> None:
    settings = KpiSettings(
        company=BERLIN,
        use=("avg_deal_value_median",),
        rates={"USD": Decimal("0.5"), "GBP": Decimal("0.5")},
    )
    books = Books(sqlite_database, settings)
    books.commit(
        won("D1", amount=Decimal(100), currency="USD"),
        won("D2", amount=Decimal(100), currency="GBP"),
        won("D3", amount=Decimal(10), currency="EUR"),
    )
    books.publish()

    median = books.value("avg_deal_value_median")
    assert median is not None
    assert (median.value, median.n) == (50, 3)
    books.check()
    books.close()
