"""Deals without a close day, deals that are gone, and deals whose age is no question any more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from metrics.definition import KpiSettings, OwnSettings
from store.canonical import CampaignMember, Contact, Lead
from tests.pipeline.metrics.books import BERLIN, Books, deal, entered, ref, stage, won

CREATED = datetime(2024, 1, 5, 12, tzinfo=UTC)
CLOSED = datetime(2024, 2, 9, 12, tzinfo=UTC)


@pytest.fixture
def books(sqlite_database: str) -> Iterator[Books]:
    settings = KpiSettings(
        company=BERLIN,
        use=("lead_to_customer_rate", "campaign_revenue_last", "stage_age_days", "is_stalled"),
        own={"campaign_revenue": OwnSettings(models=("last",))},
    )
    made = Books(sqlite_database, settings)
    yield made
    made.check()
    made.close()


def _lead(**fields: str) -> Lead:
    return Lead(
        ref=ref("leads", "L1"),
        created_at=CREATED,
        converted_at=CREATED,
        converted_account="crm:A",
        **fields,  # type: ignore[arg-type]  # keys of records
    )


def test_a_lead_whose_converted_deal_is_gone_became_what_its_account_became(books: Books) -> None:
    books.commit(
        _lead(converted_deal="crm:D1"),
        won("D2", date(2024, 2, 1), account="A"),
        deal("D1", account="A"),
    )
    books.publish()
    still_open = books.number("lead_to_customer_rate", "2024-01")
    books.commit(deleted=[ref("deals", "D1")])
    books.publish()
    gone = books.number("lead_to_customer_rate", "2024-01")
    books.commit(deal("D1", account="A"))
    books.publish()

    assert (still_open, gone) == (0, 1)
    assert books.number("lead_to_customer_rate", "2024-01") == 0


def test_a_purchase_that_only_its_history_dates_makes_a_customer_of_the_lead(books: Books) -> None:
    books.commit(
        _lead(),
        stage("offer"),
        stage("done", is_closed=True),
        won("D1", None, account="A"),
        entered("D1", "offer", datetime(2024, 1, 1, tzinfo=UTC)),
    )
    books.publish()
    undated = books.number("lead_to_customer_rate", "2024-01")
    books.commit(entered("D1", "done", CLOSED))
    books.publish()

    assert (undated, books.number("lead_to_customer_rate", "2024-01")) == (0, 1)


def test_a_touch_on_the_closing_day_after_the_closing_instant_earns_nothing(books: Books) -> None:
    def touched(name: str, campaign: str, at: datetime) -> CampaignMember:
        return CampaignMember(
            ref=ref("campaign_members", name), campaign=f"crm:{campaign}", contact="crm:P", at=at
        )

    books.commit(
        Contact(ref=ref("contacts", "P"), account="crm:A"),
        stage("done", is_closed=True),
        won("D1", None, account="A", amount=80),
        entered("D1", "done", CLOSED),
        touched("M1", "fair", CLOSED),
        touched("M2", "mail", CLOSED.replace(hour=13)),
    )
    books.publish()

    assert books.number("campaign_revenue_last", "all", "campaign", "crm:fair") == 80
    assert books.value("campaign_revenue_last", "all", "campaign", "crm:mail") is None


def test_the_age_of_a_deal_that_is_closed_is_no_value_and_not_nothing(books: Books) -> None:
    books.commit(deal("D1", created=CREATED))
    books.publish()
    age = books.number("stage_age_days", "now", "deal", "crm:D1")
    books.commit(won("D1", date(2024, 3, 1)))
    books.publish()

    assert age == Decimal(148)
    assert books.number("stage_age_days", "now", "deal", "crm:D1") is None
    assert books.number("is_stalled", "now", "deal", "crm:D1") == 0


def test_who_bought_on_an_unknown_day_is_among_all_that_ever_bought(database_url: str) -> None:
    own = {"upsell_rate": OwnSettings(of="customers")}
    books = Books(database_url, KpiSettings(company=BERLIN, use=("upsell_rate",), own=own))
    books.commit(
        won("D1", None, account="A", kind="upsell"),
        won("D2", date(2024, 2, 1), account="A", owner="ben"),
        won("D3", None, account="B", owner="ben"),
        won("D4", None, account=None),
    )
    books.publish()
    rates = [books.number("upsell_rate"), books.number("upsell_rate", "all", "owner", "crm:ana")]
    books.check()
    books.commit(won("D3", date(2024, 2, 2), account="B", kind="upsell"))
    books.publish()

    assert rates == [Decimal("0.5"), 1]
    assert books.number("upsell_rate") == 1
    assert books.number("upsell_rate", "2024-02") == Decimal("0.5")
    books.check()
    books.close()
