"""What people say of identities, told among the reasons why a value is another one now."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from metrics.cells import commit_decision
from metrics.definition import KpiSettings
from metrics.explain.reasons import Worth
from store import decisions
from store.engine import writing
from store.identity_rules import IdentityRules, MatchRule, StreamRules
from tests.pipeline.metrics.books import BERLIN, Books, account, won
from tests.pipeline.metrics.test_reasons import assert_adds_up, why

RULES = IdentityRules(
    {
        "accounts": StreamRules(
            (MatchRule("key", "key vat", (("*", "vat"),)),), connections=("crm", "hub")
        )
    }
)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    settings = KpiSettings(company=BERLIN, use=("buyers", "purchase_frequency"), matching=RULES)
    made = Books(f"sqlite:///{tmp_path}/store.db", settings)
    made.commit(
        account("A"),
        account("hub:A"),
        won("D1", date(2024, 3, 1), account="A", amount=70),
        won("D2", date(2024, 3, 2), account="hub:A", amount=30),
    )
    made.publish()
    yield made
    made.check()
    made.close()


def _say(books: Books, *, is_same: bool | None) -> None:
    pair, at = ("crm:A", "hub:A"), books.now + timedelta(seconds=1)
    with writing(books.engine) as conn:
        if is_same is None:
            assert decisions.forget(conn, "accounts", *pair, at=at)
        else:
            decisions.decide(conn, "accounts", *pair, is_same=is_same, at=at)
        commit_decision(conn, books.catalog, "accounts", pair)
    books.publish()


def test_a_decision_is_named_with_what_it_did_and_so_is_its_end(books: Books) -> None:
    first = books.number("buyers")
    _say(books, is_same=True)
    linked = books.number("buyers")
    _say(books, is_same=None)
    _say(books, is_same=True)

    told = why(books, "buyers")
    assert (first, linked, books.number("buyers")) == (2, 1, 1)
    assert told.is_complete
    assert [(one.kind, one.delta.value, one.words) for one in told.reasons] == [
        ("decision", -1, "a person said that crm:A and hub:A are one"),
        ("decision", 1, "what a person said of crm:A and hub:A was taken back"),
        ("decision", -1, "a person said that crm:A and hub:A are one"),
    ]


def test_records_that_change_beside_decisions_keep_lines_of_their_own(books: Books) -> None:
    books.commit(won("D3", date(2024, 3, 3), account="A", amount=5))
    _say(books, is_same=True)

    told = why(books, "purchase_frequency")
    assert [(one.kind, one.key) for one in told.reasons] == [
        ("late_arrival", "crm:D3"),
        ("decision", "crm:A"),
    ]
    assert told.is_complete
    assert_adds_up(told)
    assert told.reasons[-1].after == Worth(Decimal(3), Decimal(3), Decimal(1), 3)
