"""Records of several CRMs become one entity: the same by pages, at once, and by plain looking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from metrics.verify.joining import joined
from store import decisions, identity, records
from store.canonical import Account, CanonicalRecord, Contact
from store.identity_rules import IdentityRules, MatchRule, StreamRules
from store.tables import IDENTITY, IDENTITY_KEYS
from tests.pipeline.metrics.books import BERLIN, Books, ref

LINKED_BY_ID = MatchRule(
    "same", "same hub.sf_id = crm.Id", (("hub", "sf_id"), ("crm", "")), has_salesforce_ids=True
)
DOMAIN = MatchRule("domain", "domain website", (("*", "domain"),), frozenset({"ignored.org"}))
VAT = MatchRule("key", "key vat", (("*", "vat"),))
EMAIL = MatchRule("email", "email email", (("*", "email"),))

RULES = IdentityRules(
    {
        "accounts": StreamRules((LINKED_BY_ID, VAT, DOMAIN), ("crm", "hub", "shop")),
        "contacts": StreamRules((EMAIL,), ("hub", "crm", "shop")),
    }
)

NAMES = ["A", "B", "C", "hub:1", "hub:2", "hub:3", "shop:9"]


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    made = Books(database_url)
    yield made
    made.close()


def account(
    name: str,
    *,
    label: str | None = None,
    domain: str | None = None,
    sf_id: str | None = None,
    vat: str | None = None,
    created: int | None = None,
    deleted: bool = False,
    merged_into: str | None = None,
) -> Account:
    extra = {"sf_id": sf_id, "vat": vat}
    return Account(
        ref=ref("accounts", name),
        name=label,
        domain=domain,
        created_at=None if created is None else datetime(2024, 1, created, tzinfo=UTC),
        deleted=deleted,
        merged_into=None if merged_into is None else ref("accounts", merged_into).key,
        extra={name: value for name, value in extra.items() if value is not None},
    )


def contact(
    name: str, email: str | None, label: str | None, merged_into: str | None, deleted: bool
) -> Contact:
    return Contact(
        ref=ref("contacts", name),
        name=label,
        email=email,
        account="crm:A",
        deleted=deleted,
        merged_into=None if merged_into is None else ref("contacts", merged_into).key,
    )


rarely = st.sampled_from([*[False] * 9, True])
labels = st.sampled_from([None, "Acme Pumps", "Acme Inc.", "Zebra AG", "ACME GmbH"])
accounts = st.builds(
    account,
    st.sampled_from(NAMES),
    label=labels,
    domain=st.sampled_from(
        [None, "acme.com", "https://www.acme.com/x", "zebra.co.uk", "gmail.com"]
    ),
    sf_id=st.sampled_from([None, None, "A", "B", " A "]),
    vat=st.sampled_from([None, None, None, "DE 1", "de1"]),
    created=st.sampled_from([None, 1, 2]),
    deleted=rarely,
    merged_into=st.sampled_from([*[None] * 20, *NAMES, "gone"]),
)
contacts = st.builds(
    contact,
    st.sampled_from(NAMES),
    st.sampled_from([None, "a@acme.com", " A@acme.com", "info@acme.com", "no"]),
    labels,
    st.sampled_from([*[None] * 20, *NAMES]),
    rarely,
)
said = st.tuples(
    st.sampled_from(["accounts", "contacts"]),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.sampled_from([True, False, None]),
)
pages = st.lists(
    st.one_of(st.lists(st.one_of(accounts, contacts), min_size=1, max_size=5), said), max_size=10
)


def apply(conn: Connection, page: Sequence[CanonicalRecord]) -> None:
    staged = records.stage(conn, page, [], BERLIN)
    resolution = identity.resolve_page(conn, staged.streams, RULES)
    records.apply(conn, staged)
    identity.save(conn, resolution)


def say(conn: Connection, stream: str, one: str, other: str, is_same: bool | None) -> None:
    keys = ref(stream, one).key, ref(stream, other).key
    if is_same is None:
        decisions.forget(conn, stream, *keys)
    elif one != other:
        decisions.decide(conn, stream, *keys, is_same=is_same)
    identity.save(conn, identity.resolve_around(conn, stream, keys, RULES))


def stands_for(conn: Connection) -> set[tuple[str, str, str | None]]:
    return {tuple(row) for row in conn.execute(select(IDENTITY))}  # type: ignore[misc]  # three texts


def held(conn: Connection) -> set[tuple[object, ...]]:
    return {tuple(row) for row in conn.execute(select(IDENTITY_KEYS))}


def by_looking(conn: Connection) -> set[tuple[str, str, str | None]]:
    found: set[tuple[str, str, str | None]] = set()
    for stream in ("accounts", "contacts"):
        everybody = list(records.iterate(conn, stream, BERLIN))
        together = joined(everybody, RULES.of(stream), decisions.every(conn, stream))
        gone = {one.ref.key for one in everybody if one.deleted and one.merged_into is None}
        found |= {(stream, key, first) for key, first in together.items()}
        if stream == "accounts":
            found = {(a, key, None if first in gone else first) for a, key, first in found}
            found |= {(stream, key, None) for key in gone}
    return found


def entities(conn: Connection) -> dict[str, str | None]:
    return {ref: canonical for _, ref, canonical in stands_for(conn)}


def test_two_records_of_one_crm_with_one_domain_are_a_question_until_one_of_them_leaves(
    books: Books,
) -> None:
    with books.engine.connect() as conn, conn.begin() as transaction:
        apply(conn, [account(name, label="Acme", domain="acme.com") for name in ("A", "hub:1")])
        alone = entities(conn)
        apply(conn, [account("B", label="Acme", domain="www.acme.com")])
        crowded, asked = entities(conn), identity.doubts(conn, "accounts", RULES.of("accounts"))
        apply(conn, [account("A", label="Acme", domain="zebra.de")])
        left = entities(conn)
        transaction.rollback()

    assert alone == {"hub:1": "crm:A"}
    assert crowded == {}
    assert {(one.one, one.other, one.value, one.holders) for one in asked} == {
        ("crm:A", "hub:1", "acme.com", 3),
        ("crm:B", "hub:1", "acme.com", 3),
    }
    assert left == {"hub:1": "crm:B"}


def test_an_id_that_names_a_merged_record_means_its_winner(books: Books) -> None:
    with books.engine.connect() as conn, conn.begin() as transaction:
        apply(conn, [account("A"), account("B"), account("hub:1", sf_id="A")])
        before = entities(conn)
        apply(conn, [account("A", deleted=True, merged_into="B")])
        merged = entities(conn)
        apply(conn, [account("B", deleted=True)])
        deleted = entities(conn)
        transaction.rollback()

    assert before == {"hub:1": "crm:A"}
    assert merged == {"crm:A": "crm:B", "hub:1": "crm:B"}
    assert deleted == {"crm:A": None, "crm:B": None}


def test_the_oldest_record_of_the_preferred_crm_stands_for_all_and_keeps_doing_so(
    books: Books,
) -> None:
    with books.engine.connect() as conn, conn.begin() as transaction:
        apply(conn, [account("hub:1", sf_id="B", created=1), account("B", created=2)])
        apply(conn, [account("hub:2", sf_id="B"), account("shop:9", vat="1", created=1)])
        apply(conn, [account("A", vat="1", created=5), account("hub:1", sf_id="B", vat="1")])
        found = entities(conn)
        transaction.rollback()

    assert found == dict.fromkeys(("hub:1", "hub:2", "crm:A", "shop:9"), "crm:B")


def test_a_value_that_more_than_twenty_records_hold_joins_nobody(books: Books) -> None:
    crowd = [account(f"crm{n}:1", label="Acme", domain="acme.com") for n in range(20)]
    with books.engine.connect() as conn, conn.begin() as transaction:
        apply(conn, crowd)
        twenty = len(entities(conn))
        apply(conn, [account("hub:1", label="Acme", domain="acme.com")])
        more = entities(conn), identity.doubts(conn, "accounts", RULES.of("accounts"))
        apply(conn, [account("crm3:1", label="Acme")])
        again = len(entities(conn))
        transaction.rollback()

    assert (twenty, more[0], again) == (19, {}, 19)
    assert [one.holders for one in more[1]] == [21]


AT_EASE: Final = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

History: TypeAlias = list[list[CanonicalRecord] | tuple[str, str, str, bool | None]]


@settings(max_examples=30, deadline=None, suppress_health_check=AT_EASE)
@given(history=pages)
def test_pages_and_decisions_in_any_order_lead_to_what_all_records_together_say(
    books: Books, history: History
) -> None:
    check_history(books, history)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=500, deadline=None, suppress_health_check=AT_EASE)
@given(history=pages)
def test_many_pages_and_decisions_lead_to_what_all_records_together_say(
    books: Books, history: History
) -> None:
    check_history(books, history)


def check_history(books: Books, history: History) -> None:
    with books.engine.connect() as conn, conn.begin() as transaction:
        for step in history:
            if isinstance(step, tuple):
                say(conn, *step)
            else:
                apply(conn, step)
        by_pages = stands_for(conn), held(conn)
        plain = by_looking(conn)
        identity.rebuild(conn, RULES)
        at_once = stands_for(conn), held(conn)
        transaction.rollback()

    assert by_pages == at_once
    assert at_once[0] == plain


@settings(max_examples=15, deadline=None, suppress_health_check=AT_EASE)
@given(page=st.lists(accounts, max_size=8, unique_by=lambda one: one.ref), seed=st.randoms())
def test_neither_the_order_nor_a_second_delivery_of_records_matters(
    books: Books, page: list[Account], seed: object
) -> None:
    shuffled = sorted(page, key=lambda _: seed.random())  # type: ignore[attr-defined]  # a Random
    with books.engine.connect() as conn, conn.begin() as transaction:
        apply(conn, page)
        together = stands_for(conn)
        transaction.rollback()
    with books.engine.connect() as conn, conn.begin() as transaction:
        for one in shuffled:
            apply(conn, [one])
        apply(conn, [replace(one, modified_at=datetime(2024, 5, 1, tzinfo=UTC)) for one in page])
        one_by_one = stands_for(conn)
        transaction.rollback()

    assert together == one_by_one
