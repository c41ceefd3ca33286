"""What a page's linking reads is found by keys: its time may not grow with what is linked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from metrics.cells import commit_page
from metrics.definition import KpiSettings
from store.canonical import Account, Deal
from store.engine import writing
from store.identity_rules import IdentityRules, MatchRule, StreamRules
from tests.pipeline.metrics.books import BERLIN, Books, deal, ref
from tests.pipeline.metrics.test_plans import plans_of, scans

MATCHING: Final = IdentityRules(
    {
        "accounts": StreamRules(
            (
                MatchRule("same", "same hub.twin = crm.Id", (("hub", "twin"), ("crm", ""))),
                MatchRule("domain", "domain website", (("*", "domain"),)),
            ),
            ("crm", "hub"),
            preferred=(("region", "hub"),),
        ),
        "deals": StreamRules(
            (MatchRule("same", "same hub.twin = crm.Id", (("hub", "twin"), ("crm", ""))),),
            ("crm", "hub"),
        ),
    }
)
OF_LINKING: Final = re.compile(
    r"INDEX (ix_identity_canonical|sqlite_autoindex_identity_1)\b|SEARCH identity_keys\b"
)
BY_KEY: Final = re.compile(r"\b(ref|canonical|value)=\?")


def test_a_page_finds_whom_it_links_by_keys(sqlite_database: str) -> None:
    books = Books(
        sqlite_database, KpiSettings(company=BERLIN, use=("won_value",), matching=MATCHING)
    )
    books.commit(*_accounts(), *_deals())
    moved = [replace(one, domain="elsewhere.org") for one in _accounts()[:10]]
    plain = [replace(one, region="north") for one in _accounts()[10:]]

    with writing(books.engine) as conn:
        steps = plans_of(books.engine, conn)
        commit_page(conn, books.catalog, [*moved, *plain, *_deals(amount=7)], [_accounts()[30].ref])
    books.close()

    linking = [(step, statement) for step, statement in steps if OF_LINKING.search(step)]
    assert len(linking) > 10
    assert [one for one in linking if not BY_KEY.search(one[0])] == []
    assert scans(steps) == []


def _accounts() -> Sequence[Account]:
    return [
        Account(
            ref=ref("accounts", f"{crm}:{number}"),
            name=f"Account {number}",
            domain=f"account-{number}.com",
            extra={"twin": str(number)} if crm == "hub" and number % 2 else {},
        )
        for number in range(30)
        for crm in ("crm", "hub")
    ]


def _deals(amount: int = 5) -> Sequence[Deal]:
    return [
        replace(
            deal(f"{crm}:{number}", account=f"{crm}:{number % 30}", amount=amount),
            extra={"twin": str(number)} if crm == "hub" else {},
        )
        for number in range(40)
        for crm in ("crm", "hub")
    ]
