"""Whose value of a field counts for a customer, person or deal that several CRMs know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from metrics.definition import KpiSettings
from metrics.explain import explain
from metrics.expression.definition import Written
from metrics.rebuild import rebuild
from store.canonical import Account, CanonicalRecord, Contact, Contract, Deal, Owner, Scalar
from store.engine import reading, writing
from store.identity_rules import IdentityRules, MatchRule, StreamRules
from store.identity_tables import FALLBACKS
from store.kpis import Place
from store.tables import CELLS, DIRTY_KEYS, FAMILIES, KPI_VALUES, RECORD_TABLES
from tests.pipeline.metrics.books import BERLIN, Books, ref

OWN: Final = (("score", "integer"), ("arr", "money"), ("tier", "text"))


def same(stream: str, preferred: dict[str, str]) -> StreamRules:
    by_id = MatchRule("same", "same hub.twin = crm.Id", (("hub", "twin"), ("crm", "")))
    by_mail = MatchRule("email", "email email", (("*", "email"),))
    rules = (by_id, by_mail) if stream == "contacts" else (by_id,)
    return StreamRules(
        rules,
        ("crm", "hub", "shop"),
        preferred=tuple(sorted(preferred.items())),
        mapped=frozenset({"score", "arr", "tier"}),
        money=frozenset({"arr"}),
        currency="EUR",
    )


def rules(
    accounts: dict[str, str] | None = None,
    contacts: dict[str, str] | None = None,
    deals: dict[str, str] | None = None,
) -> IdentityRules:
    wanted = {"accounts": accounts, "contacts": contacts, "deals": deals}
    return IdentityRules({stream: same(stream, some or {}) for stream, some in wanted.items()})


def custom(name: str, of: str, value: str, *by: str) -> Written:
    return Written(
        name=name,
        label=name,
        of=of,
        numerator=value,
        by=tuple((one,) for one in by),
        own=OWN,
    )


SETTINGS = KpiSettings(
    company=BERLIN,
    use=("contract_retention_rate", "won_count"),
    periods=("month",),
    by={
        "contract_retention_rate": (("account",), ("region",), ("segment",), ("owner",)),
        "won_count": (("region",), ("account",), ("tier",)),
    },
    fields={"deals": ("tier",)},
    rates={"USD": Decimal("0.5")},
    custom=(
        custom("staff", "accounts", "sum(employees)", "region", "owner", "account", "tier"),
        custom("yearly", "accounts", "sum(annual_revenue where annual_revenue > 60)", "segment"),
        custom("recurring", "accounts", "sum(arr)", "tier"),
        custom("ending", "accounts", "count(where contract_end < today + 30d)", "parent"),
        custom("happy", "contacts", "mean(nps_score where score > 1)", "source", "contact"),
        custom("worth", "deals", "sum(amount)", "product", "tier"),
    ),
)


def account(
    name: str,
    *,
    label: str | None = None,
    twin: str | None = None,
    owner: str | None = None,
    parent: str | None = None,
    region: str | None = None,
    segment: str | None = None,
    employees: int | None = None,
    revenue: int | None = None,
    currency: str | None = None,
    contract_end: date | None = None,
    deleted: bool = False,
    merged_into: str | None = None,
    **own: Scalar,
) -> Account:
    return Account(
        ref=ref("accounts", name),
        name=label,
        owner=None if owner is None else ref("owners", owner).key,
        parent=None if parent is None else ref("accounts", parent).key,
        region=region,
        segment=segment,
        employees=employees,
        annual_revenue=None if revenue is None else Decimal(revenue),
        currency=currency,
        contract_end=contract_end,
        deleted=deleted,
        merged_into=None if merged_into is None else ref("accounts", merged_into).key,
        extra=_said(twin=twin, **own),
    )


def _said(**own: Scalar) -> dict[str, Scalar]:
    return {name: value for name, value in own.items() if value is not None}


def contract(name: str, of: str) -> Contract:
    return Contract(
        ref=ref("contracts", name),
        account=ref("accounts", of).key,
        start_date=date(2024, 1, 1),
        end_date=date(2024, 5, 20),
    )


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    made = Books(database_url, replace(SETTINGS, matching=rules()))
    yield made
    made.check()
    made.close()


def prefer(books: Books, matching: IdentityRules) -> None:
    books.configure(replace(SETTINGS, matching=matching))
    books.rebuild()


def staff(books: Books, dimension: str, key: str) -> Decimal | None:
    value = books.value("staff", "now", dimension, key)
    return None if value is None else value.value


def test_where_the_preferred_account_says_nothing_its_copy_does(books: Books) -> None:
    books.commit(
        contract("K1", "A"),
        account("A", region="North", employees=10),
        account("hub:1", twin="A", region="South", segment="Large", employees=7, tier="gold"),
    )
    books.publish()

    assert books.number("contract_retention_rate", "2024-02", "segment", "Large") == 1
    assert books.number("contract_retention_rate", "2024-02", "region", "North") == 1
    assert books.value("contract_retention_rate", "2024-02", "region", "South") is None
    assert staff(books, "tier", "gold") == 10


def test_a_field_comes_first_from_the_connection_that_the_configuration_names(
    books: Books,
) -> None:
    prefer(books, rules({"region": "hub", "employees": "hub", "tier": "crm"}))

    books.commit(
        contract("K1", "A"),
        account("A", region="North", employees=10, tier="iron"),
        account("hub:1", twin="A", region="South", tier="gold"),
    )
    books.publish()

    assert books.number("contract_retention_rate", "2024-02", "region", "South") == 1
    assert staff(books, "region", "South") == 10, "what hub does not know comes from crm"
    assert staff(books, "tier", "iron") == 10


def test_another_preference_moves_what_it_concerns_and_back_again(books: Books) -> None:
    books.commit(
        account("A", label="Acme", region="North", employees=10),
        account("hub:1", label="ACME Europe", twin="A", region="South", employees=7),
    )
    books.publish()
    before = books.current()

    prefer(books, rules({"region": "hub", "name": "hub"}))
    books.publish()
    label = books.current()["staff", "now", "account", "crm:A"].label
    moved = staff(books, "region", "South"), staff(books, "region", "North")
    books.verify()
    prefer(books, rules())
    books.publish()

    assert label == "ACME Europe"
    assert moved == (Decimal(10), Decimal(0))
    assert books.current()["staff", "now", "account", "crm:A"].label == "Acme"
    assert books.number("staff", "now", "region", "North") == 10
    assert before["staff", "now", "region", "North"].value == 10


def test_an_edit_of_the_copy_alone_moves_the_customer_in_its_transaction(books: Books) -> None:
    books.commit(
        contract("K1", "A"), account("A", employees=10), account("hub:1", twin="A", region="South")
    )
    books.publish()

    books.commit(account("hub:1", twin="A", region="West", label="Acme"))
    books.publish()

    assert staff(books, "region", "West") == 10
    assert staff(books, "region", "South") == 0
    assert books.number("contract_retention_rate", "2024-02", "region", "West") == 1
    assert books.current()["staff", "now", "account", "crm:A"].label == "Acme"


def test_what_the_record_says_itself_counts_from_then_on_and_no_longer_than_it_says_so(
    books: Books,
) -> None:
    books.commit(account("A", employees=10), account("hub:1", twin="A", region="South"))
    books.commit(account("A", employees=10, region="North"))
    books.publish()
    own = staff(books, "region", "North"), staff(books, "region", "South")
    books.commit(account("A", employees=10))
    books.publish()

    assert own == (Decimal(10), None)
    assert staff(books, "region", "South") == 10
    assert staff(books, "region", "North") == 0


def test_what_a_copy_said_is_gone_with_the_link_with_the_copy_and_with_its_deletion(
    books: Books,
) -> None:
    alone = account("A", employees=10)
    for end in (
        account("hub:1", region="South"),
        account("hub:1", twin="A", region="South", deleted=True),
        account("hub:1", twin="A", region="South", merged_into="hub:2"),
    ):
        books.commit(alone, account("hub:1", twin="A", region="South"), account("hub:2"))
        books.publish()
        assert staff(books, "region", "South") == 10

        books.commit(end)
        books.publish()
        assert staff(books, "region", "South") in {0, None}
        books.check()


def test_money_brings_its_currency_and_own_amounts_of_another_one_stay_out(
    books: Books,
) -> None:
    books.commit(
        account("A", currency="EUR", arr=Decimal(9), tier="mixed"),
        account("hub:1", twin="A", currency="USD", revenue=200, segment="Large", arr=Decimal(40)),
        account("B", currency="EUR", tier="apart"),
        account("hub:2", twin="B", currency="USD", arr=Decimal(40)),
    )
    books.publish()

    assert books.number("yearly", "now", "segment", "Large") == 100, "200 USD at 0.5"
    assert books.number("recurring", "now", "tier", "mixed") == 20, "all amounts are USD"
    apart = books.value("recurring", "now", "tier", "apart")
    assert apart is not None
    assert apart.value == 0
    assert dict(apart.left_out) == {"no_amount": 1}


def test_a_person_and_a_deal_follow_the_same_rule(books: Books) -> None:
    prefer(books, rules(contacts={"nps_score": "hub"}, deals={"tier": "hub"}))
    person = Contact(ref=ref("contacts", "P"), name="Person 1", email="p@x.org", nps_score=3)
    copy = replace(person, ref=ref("contacts", "hub:9"), nps_score=9, source="Web")
    sale = Deal(
        ref=ref("deals", "D"),
        is_closed=True,
        is_won=True,
        close_date=date(2024, 3, 1),
        extra={"tier": "iron"},
    )
    sold = replace(
        sale,
        ref=ref("deals", "hub:D"),
        amount=Decimal(70),
        product="pump",
        region="South",
        extra={"twin": "D", "tier": "gold"},
    )

    books.commit(replace(person, extra={"score": 2}), copy, sale, sold)
    books.publish()

    assert books.number("happy", "now", "contact", "crm:P") == 9
    assert books.number("happy", "now", "source", "Web") == 9
    assert books.number("worth", "now", "product", "pump") == 70
    assert books.number("won_count", "all", "tier", "gold") == 1
    assert books.value("won_count", "all", "tier", "iron") is None
    with reading(books.engine) as conn:
        explained = explain(conn, books.catalog, Place("worth", "product", "pump", "now"))
    assert explained.is_proven


# ---------------------------------------------------------------- whatever happens

CONNECTIONS = ("crm", "hub", "shop")
ACCOUNTS = ("A", "B", "hub:1", "hub:2", "shop:1")
maybe_text = st.sampled_from([None, None, "x", "y"])
owns = st.fixed_dictionaries(
    {
        "twin": st.sampled_from([None, "A", "A", "B"]),
        "score": st.sampled_from([None, 1, 2, 5]),
        "arr": st.sampled_from([None, Decimal(10), Decimal("20.5")]),
        "tier": maybe_text,
    }
)
rarely = st.sampled_from([*[False] * 9, True])
accounts = st.builds(
    lambda own, **fields: account(**fields, **own),
    owns,
    name=st.sampled_from(ACCOUNTS),
    label=maybe_text,
    owner=st.sampled_from([None, "ana", "hub:ben"]),
    parent=st.sampled_from([None, "B"]),
    region=maybe_text,
    segment=maybe_text,
    employees=st.sampled_from([None, 1, 20]),
    revenue=st.sampled_from([None, 50, 100]),
    currency=st.sampled_from([None, "EUR", "USD"]),
    contract_end=st.sampled_from([None, date(2024, 6, 2), date(2025, 1, 1)]),
    deleted=rarely,
    merged_into=st.sampled_from([*[None] * 15, "A", "hub:1"]),
)
contacts = st.builds(
    lambda place, email, own, **fields: Contact(
        ref=ref("contacts", place), email=email, extra=_said(**own), **fields
    ),
    st.sampled_from(["P", "hub:8", "shop:7"]),
    st.sampled_from([None, "p@x.org", "p@x.org"]),
    owns,
    name=maybe_text,
    source=maybe_text,
    nps_score=st.sampled_from([None, 3, 9]),
    deleted=rarely,
)
deals = st.builds(
    lambda place, own, **fields: Deal(
        ref=ref("deals", place),
        account="crm:A",
        is_closed=True,
        is_won=True,
        close_date=date(2024, 3, 1),
        extra=_said(**own),
        **fields,
    ),
    st.sampled_from(["A", "B", "hub:d", "hub:e"]),
    owns,
    amount=st.sampled_from([None, Decimal(5), Decimal(80)]),
    currency=st.sampled_from([None, "USD"]),
    product=maybe_text,
    region=maybe_text,
    deleted=rarely,
)
others = st.sampled_from(
    [
        contract("K1", "A"),
        contract("K2", "hub:1"),
        contract("K3", "hub:2"),
        Owner(ref=ref("owners", "ana"), email="a@x.org", team="one"),
        Owner(ref=ref("owners", "hub:ben"), email="a@x.org", team="two"),
        Owner(ref=ref("owners", "hub:ben"), email="b@x.org", team="two"),
    ]
)
pages = st.lists(
    st.lists(st.one_of(accounts, accounts, contacts, deals, others), min_size=1, max_size=5),
    min_size=2,
    max_size=6,
)


def preferences(*names: str) -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(st.sampled_from(names), st.sampled_from(CONNECTIONS), max_size=4)


def fallbacks(conn: Connection) -> set[tuple[object, ...]]:
    return {
        (stream, *row) for stream, table in FALLBACKS.items() for row in conn.execute(select(table))
    }


_PUBLISHED: Final = (KPI_VALUES, DIRTY_KEYS, CELLS, FAMILIES)


def check_history(
    books: Books, history: list[list[CanonicalRecord]], matching: IdentityRules
) -> None:
    with writing(books.engine) as conn:
        for table in (*RECORD_TABLES.values(), *FALLBACKS.values(), *_PUBLISHED):
            conn.execute(table.delete())
    books.configure(replace(SETTINGS, matching=matching, match_owners_by_email=True))
    with writing(books.engine) as conn:
        rebuild(conn, books.catalog, at=books.now)
    books.publish()
    for place, page in enumerate(history):
        stamp = datetime(2024, 1, 1, place, tzinfo=UTC)
        books.commit(*(replace(one, modified_at=stamp) for one in page))
        if place % 2:
            books.publish()
    books.publish()
    books.check()
    with books.engine.connect() as conn, conn.begin() as transaction:
        by_pages = fallbacks(conn)
        rebuild(conn, books.catalog)
        at_once = fallbacks(conn)
        transaction.rollback()
    assert by_pages == at_once
    labels = {key: one.label for key, one in books.current().items() if key[2] == "account"}
    books.engine.dispose()
    assert labels == {key: _label(books, key[3]) for key in labels}


def _label(books: Books, key: str) -> str:
    kept, table = FALLBACKS["accounts"], RECORD_TABLES["accounts"]
    with reading(books.engine) as conn:
        for source in (kept, table):
            name = conn.execute(select(source.c.name).where(source.c.ref == key)).scalar()
            if name is not None:
                return str(name)
    return key


ANY_RULES = st.builds(
    rules,
    preferences("name", "owner", "parent", "region", "employees", "annual_revenue", "arr", "tier"),
    preferences("source", "nps_score", "score"),
    preferences("amount", "product", "region", "tier"),
)
AT_EASE: Final = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=8, deadline=None, suppress_health_check=AT_EASE)
@given(history=pages, matching=ANY_RULES)
def test_any_history_under_any_preferences_counts_as_a_rebuild_and_a_plain_look_do(
    books: Books, history: list[list[CanonicalRecord]], matching: IdentityRules
) -> None:
    check_history(books, history, matching)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=300, deadline=None, suppress_health_check=AT_EASE)
@given(history=pages, matching=ANY_RULES)
def test_many_histories_under_any_preferences_count_as_a_rebuild_and_a_plain_look_do(
    books: Books, history: list[list[CanonicalRecord]], matching: IdentityRules
) -> None:
    check_history(books, history, matching)
