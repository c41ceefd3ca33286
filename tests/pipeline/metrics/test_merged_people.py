"""People that their CRM merges are one person, with no rule of identity at all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from metrics.definition import KpiSettings, OwnSettings
from store.canonical import CampaignMember, Contact, DealContact, SurveyResponse
from tests.pipeline.metrics.books import BERLIN, Books, ref, won

ASKED = datetime(2024, 2, 1, 12, tzinfo=UTC)


@pytest.fixture
def books(sqlite_database: str) -> Iterator[Books]:
    settings = KpiSettings(
        company=BERLIN,
        use=("nps", "nps_responses", "campaign_revenue_first", "won_count"),
        own={
            "nps": OwnSettings(answers="latest"),
            "campaign_revenue": OwnSettings(models=("first",)),
        },
        by={"nps": (("contact",),), "won_count": (("decision_makers",),)},
    )
    made = Books(sqlite_database, settings)
    made.commit(
        _person("P1", account="A"),
        _person("P2", account="B"),
        _person("P3", account=None),
        _answer("S1", "P1", score=0),
        _answer("S2", "P2", score=10, later=timedelta(days=1)),
        CampaignMember(
            ref=ref("campaign_members", "M1"),
            campaign="crm:fair",
            contact="crm:P1",
            at=datetime(2024, 1, 5, tzinfo=UTC),
        ),
        won("D1", date(2024, 3, 1), account="A", amount=70),
        won("D2", date(2024, 3, 1), account="B", amount=30),
        DealContact(ref=ref("deal_contacts", "R1"), deal="crm:D2", contact="crm:P1"),
        DealContact(ref=ref("deal_contacts", "R2"), deal="crm:D2", contact="crm:P2"),
    )
    made.publish()
    yield made
    made.check()
    made.close()


def _person(name: str, *, account: str | None, merged_into: str | None = None) -> Contact:
    return Contact(
        ref=ref("contacts", name),
        account=None if account is None else f"crm:{account}",
        deleted=merged_into is not None,
        merged_into=None if merged_into is None else f"crm:{merged_into}",
    )


def _answer(
    name: str, person: str, *, score: int, later: timedelta = timedelta(0)
) -> SurveyResponse:
    return SurveyResponse(
        ref=ref("survey_responses", name),
        kind="nps",
        contact=f"crm:{person}",
        score=Decimal(score),
        submitted_at=ASKED + later,
    )


def test_answers_touches_and_parts_of_a_loser_are_the_winners(books: Books) -> None:
    before = (
        books.number("nps"),
        books.number("campaign_revenue_first", "all", "campaign", "crm:fair"),
        books.number("won_count", "all", "decision_makers", "2"),
    )
    books.commit(_person("P1", account="A", merged_into="P2"))
    books.publish()

    assert before == (0, 70, 1)
    assert books.number("nps") == 100, "one person, whose last answer counts"
    assert books.number("nps", "all", "contact", "crm:P2") == 100
    assert books.number("nps", "all", "contact", "crm:P1") is None
    assert books.number("campaign_revenue_first", "all", "campaign", "crm:fair") == 30
    assert books.number("won_count", "all", "decision_makers", "2") == 0
    assert books.number("won_count", "all", "decision_makers", "1") == 1


def test_a_chain_of_merges_ends_with_its_last_winner_and_comes_undone_with_an_undelete(
    books: Books,
) -> None:
    books.commit(_person("P1", account="A", merged_into="P3"))
    books.commit(_person("P3", account=None, merged_into="P2"))
    books.publish()
    merged = books.number("nps"), books.number("nps_responses", "2024-02")
    books.commit(_person("P1", account="A"), _person("P3", account=None))
    books.publish()

    assert merged == (100, 1)
    assert (books.number("nps"), books.number("nps_responses", "2024-02")) == (0, 2)
    assert books.number("campaign_revenue_first", "all", "campaign", "crm:fair") == 70
