from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from metrics.definition import KpiSettings
from metrics.explain import Unexplained, explain
from metrics.explain.changes import Step, changes, difference
from metrics.explain.document import to_document
from metrics.values import current as published
from store.canonical import (
    Campaign,
    CampaignMember,
    CanonicalRecord,
    Contact,
    Contract,
    Cost,
    EmailStatistics,
    Lead,
    SurveyResponse,
    Ticket,
    TicketStatusChange,
)
from store.engine import reading
from store.kpis import Place
from tests.pipeline.metrics.books import (
    BERLIN,
    Books,
    account,
    deal,
    entered,
    key,
    lost,
    owner,
    ref,
    stage,
    won,
)
from tests.pipeline.metrics.histories import Page, pages
from tests.pipeline.metrics.test_incremental import EVERYTHING
from tests.pipeline.metrics.test_incremental import _empty as emptied

PUBLISHED = Context(prec=28, rounding=ROUND_HALF_UP)


def seeded_company(seed: int, deals: int = 80) -> list[CanonicalRecord]:
    """Records of every stream, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    start = datetime(2023, 1, 2, 9, tzinfo=UTC)

    def instant() -> datetime:
        return start + timedelta(minutes=chance.randrange(760_000))

    def name(prefix: str, count: int) -> str:
        return f"{prefix}{chance.randrange(count)}"

    def maybe(value: str) -> str | None:
        return value if chance.random() < 0.9 else None

    made: list[CanonicalRecord] = [
        *(account(f"A{number}") for number in range(20)),
        account("A20", merged_into="A0"),
        *(owner(f"rep{number}") for number in range(4)),
        *(
            replace(stage(f"s{number}"), position=number, probability=Decimal("0.5"))
            for number in range(4)
        ),
        stage("done", is_closed=True),
        *(
            Contact(ref=ref("contacts", f"P{number}"), account=key(name("A", 21)))
            for number in range(25)
        ),
        *(
            Campaign(
                ref=ref("campaigns", f"camp{number}"),
                name=f"Campaign {number}",
                channel=chance.choice(["events", "email"]),
                start_date=instant().date(),
                cost=Decimal(chance.randrange(1, 9_999)) / 100,
            )
            for number in range(4)
        ),
    ]
    for number in range(deals):
        created = instant()
        closed = created.date() + timedelta(days=chance.randrange(-3, 90))
        outcome = chance.choice(["won", "won", "lost", "open"])
        made.append(
            deal(
                f"D{number}",
                is_closed=outcome != "open",
                is_won=outcome == "won",
                account=maybe(name("A", 21)),
                owner=maybe(name("rep", 4)),
                amount=None if chance.random() < 0.1 else str(chance.randrange(1, 999_999) / 100),
                currency=chance.choice(["EUR", "EUR", "USD", "JPY", "XTS"]),
                created=created,
                close_date=closed,
                probability=chance.choice([None, "0.1", "0.5", "0.333333"]),
                product=chance.choice(["pump", "valve"]),
                kind=chance.choice(["upsell", "new"]),
                campaign=maybe(name("camp", 4)),
                lost_reason="price",
                stage=name("s", 4) if outcome == "open" else "done",
            )
        )
        at = created
        for _ in range(chance.randrange(4)):
            made.append(entered(f"D{number}", chance.choice(["s0", "s1", "s2", "s3", "done"]), at))
            at += timedelta(hours=chance.randrange(1, 700))
        if outcome != "open":
            made.append(entered(f"D{number}", "done", at))
    for number in range(60):
        contact, submitted = key(name("P", 25)), instant()
        made += [
            CampaignMember(
                ref=ref("campaign_members", f"M{number}"),
                campaign=key(name("camp", 4)) or "",
                contact=contact,
                at=instant(),
            ),
            SurveyResponse(
                ref=ref("survey_responses", f"R{number}"),
                kind="nps",
                score=Decimal(chance.randrange(12)),
                submitted_at=submitted,
                contact=contact,
                account=key(name("A", 21)),
            ),
            Ticket(
                ref=ref("tickets", f"T{number}"),
                subject=f"Ticket {number}",
                created_at=submitted,
                account=key(name("A", 21)),
                owner=key(name("rep", 4)),
                category=chance.choice(["billing", "login"]),
                is_closed=chance.random() < 0.7,
                closed_at=submitted + timedelta(hours=chance.randrange(-5, 400)),
                first_response_at=submitted + timedelta(minutes=chance.randrange(400)),
            ),
            TicketStatusChange(
                ref=ref("ticket_status_changes", f"X{number}"),
                ticket=key(name("T", 60)) or "",
                status="any",
                is_closed=chance.random() < 0.6,
                at=instant(),
            ),
            Lead(
                ref=ref("leads", f"L{number}"),
                name=f"Lead {number}",
                created_at=submitted,
                owner=key(name("rep", 4)),
                source=chance.choice(["web", "fair"]),
                qualified_at=instant() if chance.random() < 0.6 else None,
                converted_at=instant() if chance.random() < 0.4 else None,
                converted_account=key(maybe(name("A", 21))),
            ),
            Cost(
                ref=ref("costs", f"K{number}"),
                campaign=key(maybe(name("camp", 2))),
                source=chance.choice(["ads", "agency"]),
                date=instant().date(),
                amount=Decimal(chance.randrange(1, 99_999)) / 100,
                currency=chance.choice(["EUR", "JPY", "XTS"]),
            ),
        ]
    for number in range(15):
        begins = instant().date()
        made.append(
            Contract(
                ref=ref("contracts", f"V{number}"),
                account=key(name("A", 21)),
                start_date=begins,
                end_date=begins + timedelta(days=chance.randrange(20, 500)),
            )
        )
    for number in range(12):
        made.append(
            EmailStatistics(
                ref=ref("email_statistics", f"E{number}"),
                email=f"Newsletter {number % 5}",
                campaign=key(name("camp", 4)),
                date=instant().date(),
                delivered=chance.randrange(50, 900),
                opens=chance.randrange(50),
                clicks=chance.choice([None, 1, 7]),
                unsubscribes=chance.randrange(3),
                bounces=chance.randrange(5),
            )
        )
    return made


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    books = Books(f"sqlite:///{tmp_path_factory.mktemp('company')}/store.db", EVERYTHING)
    books.commit(*seeded_company(7))
    books.publish()
    yield books
    books.close()


def explained(books: Books, place: Sequence[str]) -> dict[str, Any]:
    kpi, period, dimension, group = place
    with reading(books.engine) as conn:
        return to_document(explain(conn, books.catalog, Place(kpi, dimension, group, period)))


# ---- an adding machine of the tests' own: it knows the document and nothing else


def added_up(document: dict[str, Any]) -> Fraction | None:
    """The value, from the listed records alone."""
    if document["parts"]:
        return None
    if "of all `values`" in document["how"]:
        values = sorted(Fraction(v) for line in document["records"] for v in line["values"])
        if not values:
            return None
        count = len(values)
        if document["how"].startswith("median"):
            found = (values[(count - 1) // 2] + values[count // 2]) / 2
        else:
            percent = int(document["how"].split()[2])
            found = values[-(-count * percent // 100) - 1]
        return found / int(document["divisor"])
    above = sum((Fraction(line["numerator"]) for line in document["records"]), Fraction(0))
    if "denominator" not in document["how"]:
        return above / int(document["divisor"])
    below = sum((Fraction(line["denominator"]) for line in document["records"]), Fraction(0))
    return above * int(document["factor"]) / below / int(document["divisor"]) if below else None


def rounded(number: Fraction | None) -> Decimal | None:
    if number is None:
        return None
    return PUBLISHED.divide(Decimal(number.numerator), Decimal(number.denominator))


def assert_adds_up(document: dict[str, Any]) -> None:
    assert document["proven"], document["kpi"]
    check_listing(document)


def check_listing(document: dict[str, Any]) -> None:
    assert document["complete"], document["kpi"]
    if document["parts"]:
        for part in document["parts"]:
            check_listing(part)
        return
    if document["kpi"] == "bottleneck":
        return
    value = document["value"]
    found = rounded(added_up(document))
    assert found == (None if value is None else Decimal(value)), document["kpi"]
    assert document["n"] == sum(line["n"] for line in document["records"])
    left_out: dict[str, int] = {}
    for line in document["records_left_out"]:
        for reason, count in line["reasons"].items():
            left_out[reason] = left_out.get(reason, 0) + count
    assert document["left_out"] == left_out


def test_the_records_of_random_values_of_every_kpi_give_the_values_again(company: Books) -> None:
    places = sorted(company.current())
    chance = random.Random(1)  # noqa: S311 - no secret
    by_kpi: dict[str, list[tuple[str, ...]]] = {}
    for place in places:
        by_kpi.setdefault(place[0], []).append(place)
    chosen = [chance.choice(found) for _, found in sorted(by_kpi.items()) for _ in range(3)]

    documents = [explained(company, place) for place in chosen]

    assert by_kpi.keys() == {kpi.name for kpi in company.catalog.kpis}
    for document in documents:
        assert_adds_up(document)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_the_records_of_a_thousand_random_values_give_them_again(company: Books) -> None:
    chance = random.Random(2)  # noqa: S311 - no secret
    chosen = chance.sample(sorted(company.current()), 1_000)

    for place in chosen:
        assert_adds_up(explained(company, place))


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(history=st.lists(pages, min_size=3, max_size=7), seed=st.integers(0, 1_000))
def test_after_any_history_the_records_of_a_value_give_it_again(
    everything: Books, history: list[Page], seed: int
) -> None:
    emptied(everything)
    for page in history:
        everything.commit(*page[0], deleted=page[1])
        if seed % 2:
            everything.publish(later=timedelta(days=31))
    everything.publish()
    places = sorted(everything.current())

    for place in random.Random(seed).sample(places, min(60, len(places))):  # noqa: S311 - no secret
        assert_adds_up(explained(everything, place))


SETTINGS = KpiSettings(company=BERLIN, rates={"USD": Decimal("0.9")})


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    made = Books(f"sqlite:///{tmp_path}/store.db", SETTINGS)
    yield made
    made.close()


@pytest.fixture
def everything(tmp_path: Path) -> Iterator[Books]:
    made = Books(f"sqlite:///{tmp_path}/store.db", EVERYTHING)
    yield made
    made.close()


@pytest.fixture
def stored_books(database_url: str) -> Iterator[Books]:
    """On each of the databases."""
    made = Books(database_url, SETTINGS)
    yield made
    made.close()


def refs(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {line["ref"]: line for line in lines}


def test_a_sum_lists_its_deals_with_the_rates_used_and_those_left_out_with_the_reason(
    stored_books: Books,
) -> None:
    stored_books.commit(
        won("euros", amount="10.50"),
        won("dollars", amount="100", currency="USD"),
        won("unpriced", amount=None),
        won("foreign", amount="7", currency="XTS"),
        lost("lost"),
        won("later", date(2024, 4, 1)),
    )
    stored_books.publish()

    document = explained(stored_books, ("won_value", "2024-Q1", "all", "*"))

    counted, left_out = refs(document["records"]), refs(document["records_left_out"])
    assert document["value"] == "100.5"
    assert counted.keys() == {"crm:euros", "crm:dollars"}
    dollars = counted["crm:dollars"]
    assert (dollars["amount"], dollars["currency"], dollars["rate"]) == ("100", "USD", "0.9")
    assert (dollars["converted"], dollars["numerator"]) == ("90", "90")
    assert (dollars["day"], dollars["rate_day"]) == ("2024-03-10", "2024-03-10")
    assert {ref: line["reasons"] for ref, line in left_out.items()} == {
        "crm:unpriced": {"no_amount": 1},
        "crm:foreign": {"no_rate": 1},
    }
    assert_adds_up(document)


def test_the_window_has_its_bounds_in_local_days_and_in_utc_on_both_sides_of_daylight_saving(
    books: Books,
) -> None:
    books.commit(won("D"))
    books.publish()

    window = explained(books, ("won_value", "2024-03", "all", "*"))["window"]

    assert (window["from"], window["until"]) == ("2024-03-01", "2024-04-01")
    assert window["timezone"] == "Europe/Berlin"
    assert window["from_utc"] == "2024-02-29T23:00:00Z"
    assert window["until_utc"] == "2024-03-31T22:00:00Z"


def test_a_group_lists_its_own_records_alone_and_an_account_the_deals_behind_it(
    books: Books,
) -> None:
    books.commit(won("D1", owner="ana"), won("D2", owner="ben"), won("D3", owner="ana"))
    books.publish()

    of_ana = explained(books, ("win_rate", "all", "owner", "crm:ana"))
    buyers = explained(books, ("buyers", "all", "owner", "crm:ana"))

    assert refs(of_ana["records"]).keys() == {"crm:D1", "crm:D3"}
    (line,) = buyers["records"]
    assert (line["stream"], line["ref"], line["numerator"]) == ("accounts", "crm:A", "1")
    assert refs(line["behind"]).keys() == {"crm:D1", "crm:D3"}


def test_records_that_came_in_since_make_the_explanation_doubt_the_value(books: Books) -> None:
    books.commit(won("D1"))
    books.publish()
    books.commit(won("D2"))

    document = explained(books, ("won_count", "all", "all", "*"))

    assert document["value"] == "1"
    assert not document["agrees"]
    assert not document["proven"]


def test_a_value_that_is_not_published_is_not_explained(books: Books) -> None:
    books.publish()

    with pytest.raises(Unexplained, match="no value of won_count is published"):
        explained(books, ("won_count", "2031", "all", "*"))


def test_a_composed_value_shows_its_parts_and_each_part_its_records(books: Books) -> None:
    books.commit(won("D1", amount=100), won("D2", amount=200, account="B"))
    books.publish()

    document = explained(books, ("customer_value", "all", "all", "*"))

    assert [part["kpi"] for part in document["parts"]] == [
        "avg_purchase_value",
        "purchase_frequency",
    ]
    assert [part["value"] for part in document["parts"]] == ["150", "1"]
    assert refs(document["parts"][0]["records"]).keys() == {"crm:D1", "crm:D2"}
    assert_adds_up(document)


def test_the_steps_of_a_value_add_up_to_how_far_it_moved(stored_books: Books) -> None:
    place = Place("won_value", "all", "*", "all")
    for amount in (100, 250, 40):
        stored_books.commit(won("D1", amount=amount))
        stored_books.publish()
    stored_books.commit(won("D2", amount=5))
    stored_books.publish()

    with reading(stored_books.engine) as conn:
        whole = changes(conn, place)
        later = changes(conn, place, since=whole.steps[0].at)

    assert [step.delta("value") for step in whole.steps] == [None, 150, -210, 5]
    assert later.first == whole.steps[0].new
    assert sum(step.delta("value") or 0 for step in later.steps) == -55
    assert difference(later.first, later.last, "value") == -55
    assert [step.delta("n") for step in later.steps] == [0, 0, 1]
    assert all(step.run == "run" and not step.is_redefined for step in later.steps)


def test_a_step_to_another_formula_is_marked_and_a_value_that_ended_has_no_difference(
    books: Books,
) -> None:
    books.commit(won("D1"))
    books.publish()
    value = books.value("won_value")
    assert value is not None

    redefined = Step(books.now, "run", replace(value, definition="won_value@0"), value)
    ended = Step(books.now, None, value, None)

    assert redefined.is_redefined
    assert not ended.is_redefined
    assert ended.delta("value") is None


def test_values_as_of_an_instant_are_those_that_were_believed_then(stored_books: Books) -> None:
    stored_books.commit(won("D1", amount=100))
    stored_books.publish()
    then = stored_books.now
    stored_books.commit(won("D1", amount=300))
    stored_books.publish()

    with reading(stored_books.engine) as conn:
        before, now = (
            published(
                conn, stored_books.catalog, kpi="won_value", period="all", dimension="all", at=at
            )
            for at in (then, None)
        )
        never = published(conn, stored_books.catalog, at=then - timedelta(days=1))

    assert [row.value for row in before] == [100]
    assert [row.value for row in now] == [300]
    assert never == []
