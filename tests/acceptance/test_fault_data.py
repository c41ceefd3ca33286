"""What a CRM's database may hold that hurts, each kind once in each CRM, read over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from metrics import values
from store.canonical import Deal
from store.deadletters import DeadLetter
from store.engine import reading
from tests.acceptance.proxies import behind_proxies, hurting
from tests.fixtures.sandboxes import start_sandbox
from tests.pipeline.worker.site import Site
from worker.results import State

FIELDS = {
    "salesforce": {
        "name": "Name",
        "amount": "Amount",
        "day": "CloseDate",
        "created": "CreatedDate",
        "stage": "StageName",
        "owner": "OwnerId",
        "currency": "CurrencyIsoCode",
    },
    "hubspot": {
        "name": "dealname",
        "amount": "amount",
        "day": "closedate",
        "created": "createdate",
        "stage": "dealstage",
        "owner": "hubspot_owner_id",
        "currency": "deal_currency_code",
    },
}
WOUNDS = {
    "zero byte": ("name", r'"a\u0000b"'),
    "half a character": ("name", r'"a\ud800b"'),
    "10 MB": ("name", '"' + "x" * 10_000_000 + '"'),
    "NaN": ("amount", "NaN"),
    "Infinity": ("amount", "-Infinity"),
    "1e400": ("amount", "1e400"),
    "5,000 digits": ("amount", "9" * 5000),
    "depth 20,000": ("amount", "[" * 20_000 + "]" * 20_000),
    "year 1700": ("day", '"1700-02-03"'),
    "year 9999": ("day", '"9999-06-30"'),
    "out of range": ("created", '"9999-12-31T23:59:59.000Z"'),
    ":60": ("created", '"2016-12-31T23:59:60.000Z"'),
    "unknown stage": ("stage", '"Stage that nobody knows"'),
    "unknown owner": ("owner", '"005000000000404AAA"'),
    "unknown currency": ("currency", '"XTS"'),
}
LOST = {"NaN", "Infinity", "1e400", "5,000 digits", "depth 20,000", "out of range"}
UNHURT = 5
AMOUNT = 100


@dataclass(frozen=True)
class Read:
    """What was made of it: by CRM and kind of wound."""

    site: Site
    deals: dict[tuple[str, str], Deal]
    letters: dict[tuple[str, str], DeadLetter]
    warnings: dict[str, tuple[str, ...]]


@pytest.fixture(scope="module", params=["salesforce", "hubspot"])
def crm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Read]:
    folder: Path = tmp_path_factory.mktemp("data")
    whole: dict[str, dict[str, str | int]] = {
        "salesforce": {"StageName": "Closed Won", "CloseDate": "2026-03-05", "Amount": AMOUNT},
        "hubspot": {
            "dealstage": "closedwon",
            "pipeline": "default",
            "amount": str(AMOUNT),
            "closedate": "2026-03-05T12:00:00Z",
        },
    }
    named: dict[str, tuple[str, str]] = {}
    warnings: dict[str, tuple[str, ...]] = {}
    with (
        start_sandbox("--seed", "1", "--size", "1", "--today", "2026-06-30") as sandbox,
        behind_proxies(sandbox) as (seen, proxies),
    ):
        sandbox.salesforce.settings(multi_currency={"corporate": "USD", "rates": {"EUR": 0.8}})
        site = Site(folder, seen, f"sqlite:///{folder}/kpisync.db")
        for name, one, table in (
            ("salesforce", sandbox.salesforce, "Opportunity"),
            ("hubspot", sandbox.hubspot, "deals"),
        ):
            label = FIELDS[name]["name"]
            kinds = [*WOUNDS, *(f"unhurt {n}" for n in range(UNHURT))]
            ids = one.create_many(table, [{label: kind, **whole[name]} for kind in kinds])
            named |= {native: (name, kind) for native, kind in zip(ids, kinds, strict=True)}
            proxies[name].rewrite = hurting(
                {
                    native: {FIELDS[name][field]: raw}
                    for native, (field, raw) in zip(ids, WOUNDS.values(), strict=False)
                }
            )
            for stream in ("stages", "owners", "accounts", "deals"):
                run = site.pull(name, stream)
                assert run.state is State.OK, run.error
                warnings[name] = (*warnings.get(name, ()), *run.warnings)
        site.compute()
        yield Read(
            site,
            {
                named[one.ref.native_id]: one
                for one in site.stored()["deals"]
                if isinstance(one, Deal) and one.ref.native_id in named
            },
            {named[one.ref.split(":")[1]]: one for one in site.dead_letters()},
            warnings,
        )


def test_each_is_kept_or_named_and_the_rest_of_its_page_is_there(read: Read, crm: str) -> None:
    for kind in WOUNDS:
        place = (crm, kind)
        assert (place in read.deals) != (place in read.letters), place
        assert (place in read.letters) == (kind in LOST), place
    assert sum(name == crm and kind.startswith("unhurt") for name, kind in read.deals) == UNHURT


@pytest.mark.parametrize("kind", sorted(LOST))
def test_a_number_or_an_instant_that_is_none_is_a_dead_letter(
    read: Read, crm: str, kind: str
) -> None:
    letter = read.letters[crm, kind]

    assert letter.reason
    assert len(letter.reason) < 500
    assert len(letter.raw or "") < 500


def test_text_is_marked_where_it_could_not_be_kept(read: Read, crm: str) -> None:
    assert read.deals[crm, "zero byte"].name == "a\ufffdb"
    assert read.deals[crm, "half a character"].name == "a\ufffdb"
    kept = read.deals[crm, "10 MB"].name
    assert kept is not None
    assert 60_000 < len(kept) <= 65_536
    assert not kept.endswith("x")


def test_far_years_are_kept_and_a_leap_second_is_the_next(read: Read, crm: str) -> None:
    assert read.deals[crm, "year 1700"].close_date == date(1700, 2, 3)
    assert read.deals[crm, "year 9999"].close_date == date(9999, 6, 30)
    assert read.deals[crm, ":60"].created_at == datetime(2017, 1, 1, tzinfo=UTC)


def test_an_unknown_stage_is_told_and_its_deal_lives(read: Read, crm: str) -> None:
    stage = read.deals[crm, "unknown stage"].stage

    assert stage is not None
    assert "Stage that nobody knows" in str(stage)
    assert any("Stage that nobody knows" in text for text in read.warnings[crm])


def test_an_unknown_owner_and_an_unknown_currency_are_counted_as_what_they_are(read: Read) -> None:
    with read.site.runtime() as runtime, reading(runtime.engine) as conn:
        (whole,) = values.current(
            conn, runtime.catalog, kpi="revenue", period="2026", dimension="all"
        )
        owners = values.current(
            conn, runtime.catalog, kpi="revenue", period="2026", dimension="owner"
        )

    strangers = {one.key: one.value for one in owners if "005000000000404AAA" in one.key}
    assert whole.left_out == {"no_rate": 2}
    assert strangers == {
        "salesforce:005000000000404AAA": Decimal(AMOUNT),
        "hubspot:005000000000404AAA": Decimal(AMOUNT),
    }
