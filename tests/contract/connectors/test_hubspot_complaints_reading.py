"""What others complained of when reading from HubSpot; each is named after its symptom.

The docstring of each test says what it takes to see it fail. Sources: the issue trackers of
Airbyte, Supaglue, Nango, dlt, Airweave, Pipedream and of HubSpot's own client libraries.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import pytest

from connectors.base import FieldSource, Page, StreamSettings, Tuning
from connectors.errors import CrmUnavailable, MalformedAnswer
from store.canonical import Account, CanonicalRecord, Contact, Deal, RecordRef
from tests.contract.connectors.hubspot_portal import (
    QUICK,
    Pulled,
    fresh,
    paths,
    portal,
    pull,
    stream_of,
)
from tests.fixtures.sandboxes import Crm, Sandbox, start_sandbox

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
NEVER = replace(QUICK, sweep=timedelta(days=3650))


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with start_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def crm(shared: Sandbox) -> Crm:
    return fresh(shared.hubspot)


def deal_of(pulled: Pulled, native_id: str) -> Deal:
    deal = pulled.one("deals", native_id)
    assert isinstance(deal, Deal)
    return deal


def answered(crm: Crm, path: str) -> Counter[int]:
    """How often which status was answered."""
    return Counter(int(str(one["status"])) for one in crm.requests() if path in str(one["path"]))


# ---------------------------------------------------------------- 1, 2, and the cost in calls

CHANGED = 12_000


@dataclass(frozen=True)
class BigWindow:
    """One increment over more deals than a search may show, all with one modified date."""

    ids: Sequence[str]
    company: str
    contact: str
    pulled: Pulled
    requests: Sequence[Mapping[str, object]]
    made: int
    minimum: int


@pytest.fixture(scope="module")
def big_window(shared: Sandbox) -> BigWindow:
    crm = fresh(shared.hubspot)
    crm.clock(fix="2026-11-22T05:00:00+00:00")
    company = crm.create("companies", {"name": "Account 0001"})
    contact = crm.create("contacts", {"email": "p@x.example"})
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    with portal(crm, tuning=NEVER) as connector:
        cursor = pull(connector, "deals").cursor
        crm.clock(advance=3600)
        ids = crm.create_many("deals", [{"dealname": f"D{n}"} for n in range(CHANGED)])
        crm.associate("companies", company, "deals", ids, primary=True)
        crm.associate("contacts", contact, "deals", ids)
        crm.clock(advance=3600)
        crm.forget()
        made, minimum = connector.calls.made, connector.calls.minimum
        pulled = pull(connector, "deals", cursor)
        return BigWindow(
            ids,
            company,
            contact,
            pulled,
            crm.requests(),
            connector.calls.made - made,
            connector.calls.minimum - minimum,
        )


def test_more_than_10000_results_400(big_window: BigWindow) -> None:
    """Fails when the walk follows the `after` of the search."""
    assert big_window.pulled.ids("deals") == set(big_window.ids)
    assert {deal_of(big_window.pulled, one).account for one in big_window.ids} == {
        f"web:{big_window.company}"
    }
    assert len(big_window.pulled.ids("deal_contacts")) == CHANGED
    assert 400 not in {one["status"] for one in big_window.requests}


def test_endless_loop_when_a_bulk_job_stamps_12000_records_alike(big_window: BigWindow) -> None:
    """Fails when the next page asks for what was modified after the last record."""
    stamps = {deal_of(big_window.pulled, one).modified_at for one in big_window.ids}
    searches = [one for one in big_window.requests if "deals/search" in str(one["path"])]

    assert len(stamps) == 1
    assert big_window.pulled.ids("deals") == set(big_window.ids)
    assert len(searches) == CHANGED // 200


def test_ten_thousand_changed_deals_cost_hardly_more_calls_than_they_must(
    big_window: BigWindow,
) -> None:
    """Fails when pages of the search, batches or link reads are not filled."""
    searches = -(-CHANGED // 200)
    values = -(-CHANGED // 50)  # with the history of their stage
    links = 2 * -(-CHANGED // 1000)  # to companies and to contacts
    least = searches + values + links

    assert big_window.made == len(big_window.requests)
    assert big_window.made <= 1.15 * least
    assert least <= big_window.minimum <= big_window.made
    assert big_window.made <= 1.15 * big_window.minimum


# ---------------------------------------------------------------- 3


def test_records_missing_after_an_incremental_run(crm: Crm) -> None:
    """Fails when the next window begins where the last one ended."""
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    with portal(crm) as connector:
        first = pull(connector, "deals")
        crm.clock(advance=3600)
        crm.lag(300)
        late = crm.create("deals", {"dealname": "D"})
        crm.clock(advance=60)
        second = pull(connector, "deals", first.cursor)
        crm.clock(advance=400)
        third = pull(connector, "deals", second.cursor)

    assert (second.ids("deals"), third.ids("deals")) == (set(), {late})


def test_the_overlap_for_a_lagging_index_is_configured(crm: Crm) -> None:
    """Fails when `index_lag` is not looked at."""
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    slow = replace(QUICK, lookback=timedelta(seconds=1), index_lag=timedelta(hours=2))
    with portal(crm, tuning=slow) as connector:
        first = pull(connector, "deals")
        crm.clock(advance=60)
        crm.lag(3600)
        late = crm.create("deals", {"dealname": "D"})
        crm.clock(advance=60)
        second = pull(connector, "deals", first.cursor)
        crm.clock(advance=4000)
        third = pull(connector, "deals", second.cursor)

    assert (second.ids("deals"), third.ids("deals")) == (set(), {late})


# ---------------------------------------------------------------- 4


def test_deleted_deals_never_leave(crm: Crm) -> None:
    """Fails when the archive's list is not read."""
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    kept, gone = crm.create_many("deals", [{"dealname": f"D{n}"} for n in range(2)])
    with portal(crm) as connector:
        first = pull(connector, "deals")
        crm.clock(advance=3600)
        crm.delete("deals", gone)
        second = pull(connector, "deals", first.cursor)

    assert first.ids("deals") == {kept, gone}
    assert not first.deleted
    assert second.deleted_ids == [gone]


def test_a_long_archive_is_read_as_often_as_its_cost_allows(crm: Crm) -> None:
    """Fails when a long archive is read with every pull, or never again."""
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    ids = crm.create_many("companies", [{"name": f"Account {n:04}"} for n in range(1_101)])
    crm.delete("companies", ids[:-1])
    with portal(crm) as connector:
        first = pull(connector, "accounts")
        crm.delete("companies", ids[-1])
        crm.forget()
        crm.clock(advance=30)
        second = pull(connector, "accounts", first.cursor)
        reads_of_second = paths(crm, "archived=true")
        crm.clock(advance=60)
        third = pull(connector, "accounts", second.cursor)

    assert len(first.deleted_ids) == 1_100
    assert not reads_of_second
    assert third.deleted_ids == [ids[-1]]


def test_an_erased_record_leaves_no_trace_and_is_missing_among_the_ids(crm: Crm) -> None:
    """Fails when the comparison of ids leaves out a page, or explains what nobody deleted."""
    ids = crm.create_many("companies", [{"name": f"Account {n:04}"} for n in range(250)])
    archived, erased, *kept = ids
    crm.delete("companies", archived)
    crm.erase("companies", erased)

    with portal(crm) as connector:
        stream = stream_of(connector, "accounts")
        pages = list(connector.ids(stream) or ())
        page = connector.fetch(stream, [RecordRef("web", "accounts", one) for one in ids[:4]])

    assert {ref.native_id for one in pages for ref in one.refs} == set(kept)
    assert {ref.native_id for one in pages for ref in one.explained} == {archived}
    assert {record.ref.native_id for record in page.records} == set(ids[2:4])
    assert not page.deleted


def test_a_count_is_told_only_while_the_index_is_surely_up_to_date(crm: Crm) -> None:
    """Fails when the index's total is believed while it lags."""
    crm.clock(fix="2026-11-22T05:00:00+00:00")
    crm.create_many("companies", [{"name": f"Account {n}"} for n in range(7)])
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    with portal(crm) as connector:
        stream = stream_of(connector, "accounts")
        quiet = pull(connector, "accounts").pages[-1].complete_until
        assert quiet is not None
        told = connector.count(stream, quiet)
        crm.lag(300)
        crm.create("companies", {"name": "Account 8"})
        until = pull(connector, "accounts").pages[-1].complete_until
        assert until is not None
        while_lagging = connector.count(stream, until)

    assert (told, while_lagging) == (7, None)


# ---------------------------------------------------------------- 5, 6, 7


def test_only_100_associations(crm: Crm) -> None:
    """Fails when the pages of one record's links are not followed."""
    contacts = crm.create_many("contacts", [{"email": f"p{n}@x.example"} for n in range(350)])
    deal_id, other = crm.create_many("deals", [{"dealname": f"D{n}"} for n in range(2)])
    crm.associate("deals", deal_id, "contacts", contacts)
    crm.associate("deals", other, "contacts", contacts[:3])

    with portal(crm) as connector:
        pulled = pull(connector, "deals")

    assert len(pulled.ids("deal_contacts")) == 350 + 3


def test_no_associations_in_incremental_mode(crm: Crm) -> None:
    """Fails when an increment reads no links, or when nothing sweeps them."""
    crm.clock(fix="2026-11-20T06:00:00+00:00")
    one, two = crm.create_many("companies", [{"name": f"Account {n}"} for n in range(2)])
    changed, untouched = crm.create_many("deals", [{"dealname": f"D{n}"} for n in range(2)])
    crm.clock(fix="2026-11-21T06:00:00+00:00")
    with portal(crm) as connector:
        first = pull(connector, "deals")
        crm.clock(advance=3600)
        crm.associate("deals", changed, "companies", [one], primary=True)
        crm.associate("deals", untouched, "companies", [two], primary=True)
        crm.edit("deals", changed, {"amount": "5"})
        increment = pull(connector, "deals", first.cursor)
        crm.clock(advance=86_400)
        sweep = pull(connector, "deals", increment.cursor)
        crm.clock(advance=3600)
        after = pull(connector, "deals", sweep.cursor)

    assert increment.ids("deals") == {changed}
    assert deal_of(increment, changed).account == f"web:{one}"
    assert deal_of(sweep, untouched).account == f"web:{two}"
    assert not after.records


def test_207_taken_as_a_failure_or_its_errors_as_none(crm: Crm) -> None:
    """Fails when "no associations" keeps a link, or another error cuts one."""
    crm.clock(fix="2026-11-22T05:00:00+00:00")
    company_id = crm.create("companies", {"name": "Account 0001"})
    cut, unknown = crm.create_many("deals", [{"dealname": f"D{n}"} for n in range(2)])
    for deal_id in (cut, unknown):
        crm.associate("deals", deal_id, "companies", [company_id])
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    with portal(crm) as connector:
        first = pull(connector, "deals")
        crm.clock(advance=3600)
        crm.associate("deals", cut, "companies", [company_id], remove=True)
        crm.fault("INTERNAL_ERROR", record=unknown, on="associations", times=3, message="Sorry.")
        crm.edit("deals", [cut, unknown], {"amount": "5"})
        second = pull(connector, "deals", first.cursor)
        crm.clock(advance=3600)
        third = pull(connector, "deals", second.cursor)

    assert deal_of(first, cut).account == deal_of(first, unknown).account == f"web:{company_id}"
    assert deal_of(second, cut).account is None
    assert second.ids("deals") == {cut}
    assert ["Sorry." in one.reason for one in second.rejected] == [True]
    assert deal_of(third, unknown).account == f"web:{company_id}"


# ---------------------------------------------------------------- 8, 12


@pytest.fixture(scope="module")
def wide(shared: Sandbox) -> Sequence[str]:
    """Names of 900 properties that deals have."""
    names = [f"a_property_with_quite_a_long_name_{n:03}" for n in range(900)]
    for name in names:
        shared.hubspot.add_field("deals", name, "text")
    return names


@pytest.mark.parametrize("since", [None, LONG_AGO])
def test_414_with_900_properties(crm: Crm, wide: Sequence[str], since: datetime | None) -> None:
    """Fails when the names go into the address."""
    deal_id = crm.create("deals", {"dealname": "D", **dict.fromkeys(wide, "v")})

    with portal(crm, fields={f"x_{n}": FieldSource(n) for n in wide}) as connector:
        deal = deal_of(pull(connector, "deals", since), deal_id)

    assert len(deal.extra) == 900
    assert set(deal.extra.values()) == {"v"}
    assert 414 not in answered(crm, "/crm/")


@pytest.mark.parametrize("since", [None, LONG_AGO])
def test_property_history_400_above_50(crm: Crm, since: datetime | None) -> None:
    """Fails when history is asked for with a batch or a page of 100."""
    ids = crm.create_many("deals", [{"dealstage": "qualifiedtobuy"}] * 120)
    crm.edit("deals", ids, {"dealstage": "closedwon"})

    with portal(crm) as connector:
        pulled = pull(connector, "deals", since)

    assert len(pulled.ids("deal_stage_changes")) == 240
    assert answered(crm, "/crm/").keys() <= {200, 207}


def test_history_that_hubspot_forgot_stays(crm: Crm) -> None:
    """Fails when the id of a change depends on how many of them HubSpot still shows."""
    crm.clock(fix="2026-11-22T05:00:00+00:00")
    deal_id = crm.create("deals", {"dealstage": "qualifiedtobuy"})
    copy: dict[RecordRef, CanonicalRecord] = {}
    with portal(crm) as connector:
        first = pull(connector, "deals")
        copy.update(first.records)
        for minute in range(25):
            stage = ("closedlost", "qualifiedtobuy")[minute % 2]
            crm.edit(
                "deals", deal_id, {"dealstage": stage}, at=f"2026-11-22T05:{minute + 1:02}:00Z"
            )
        crm.clock(advance=7200)
        second = pull(connector, "deals", first.cursor)
        copy.update(second.records)

    seen = {ref.native_id for ref in copy if ref.stream == "deal_stage_changes"}
    assert len(second.ids("deal_stage_changes")) < 26
    assert first.ids("deal_stage_changes") == {min(seen)}
    assert min(seen) not in second.ids("deal_stage_changes")


# ---------------------------------------------------------------- 11


@pytest.mark.parametrize("keeps_winner", [True, False])
def test_merged_records_counted_twice(crm: Crm, *, keeps_winner: bool) -> None:
    """Fails when the old ids are not marked, or a link goes on naming one of them."""
    crm.settings(merge_keeps_winner=keeps_winner)
    crm.clock(fix="2026-11-22T05:00:00+00:00")
    one, two = crm.create_many("companies", [{"name": f"Account {n}"} for n in range(2)])
    deals = crm.create_many("deals", [{"dealname": f"D{n}"} for n in range(3)])
    crm.associate("companies", one, "deals", deals[:1], primary=True)
    crm.associate("companies", two, "deals", deals[1:2], primary=True)
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    with portal(crm, tuning=NEVER) as connector:
        accounts, before = pull(connector, "accounts"), pull(connector, "deals")
        crm.clock(advance=3600)
        winner = crm.merge("companies", one, [two])
        crm.clock(advance=60)
        after_accounts = pull(connector, "accounts", accounts.cursor)
        after = pull(connector, "deals", before.cursor)
        crm.clock(advance=3600)
        again = pull(connector, "deals", after.cursor)
        crm.clock(advance=3600)
        later = pull(connector, "deals", again.cursor)
    crm.settings(merge_keeps_winner=False)

    copy = {**accounts.records, **after_accounts.records}
    live = {ref.native_id for ref, record in copy.items() if not record.deleted}
    gone = {one, two} - {winner}
    assert live == {winner}
    assert {copy[RecordRef("web", "accounts", old)].merged_into for old in gone} == {
        f"web:{winner}"
    }
    named = {**before.records, **after.records}
    accounts_of_deals = [named[RecordRef("web", "deals", deal)] for deal in deals]
    assert [one.account for one in accounts_of_deals if isinstance(one, Deal)] == [
        f"web:{winner}", f"web:{winner}", None,
    ]  # fmt: skip
    assert not later.records


def test_a_merge_while_paging_loses_and_doubles_nothing(crm: Crm) -> None:
    """Fails when the winner, which comes last, does not mark the ids that were read before."""
    ids = crm.create_many("companies", [{"name": f"Account {n}"} for n in range(30)])
    with portal(crm, tuning=replace(NEVER, page_size=10)) as connector:
        pages = connector.pull(stream_of(connector, "accounts"), LONG_AGO)
        pulled = Pulled()
        pulled.add(next(pages))
        winner = crm.merge("companies", ids[25], [ids[2]])
        for page in pages:
            pulled.add(page)
        for page in pull(connector, "accounts", pulled.cursor).pages:
            pulled.add(page)

    live = {ref.native_id for ref, record in pulled.records.items() if not record.deleted}
    assert live - {ref.native_id for ref in pulled.deleted} == {
        *(one for one in ids if one not in {ids[25], ids[2]}), winner,
    }  # fmt: skip


# ---------------------------------------------------------------- 13, 15


def test_a_token_that_dies_during_a_long_run(crm: Crm) -> None:
    """Fails when a 401 in the midst of a run ends it."""
    crm.settings(refresh_tokens=["refresh-of-reading"], token_seconds=1800, oauth_burst=100_000)
    auth = {
        "flow": "refresh_token",
        "client_id": "sandbox-app",
        "client_secret": "sandbox-app-secret",
        "refresh_token": "refresh-of-reading",
    }
    ids = crm.create_many("companies", [{"name": f"Account {n}"} for n in range(30)])
    body = {"status": "error", "category": "EXPIRED_AUTHENTICATION", "message": "expired"}
    with portal(crm, auth=auth, tuning=replace(QUICK, page_size=10)) as connector:
        pages = connector.pull(stream_of(connector, "accounts"), None)
        pulled = Pulled()
        pulled.add(next(pages))
        crm.fault("status", status=401, body=body, path="/objects/companies", times=1)
        for page in pages:
            pulled.add(page)

    assert pulled.ids("accounts") == set(ids)
    assert len(paths(crm, "/oauth/")) == 2


@pytest.mark.parametrize(
    ("zone", "days"),
    [
        ("US/Pacific", [date(2026, 2, 28), date(2026, 3, 1)]),
        ("Asia/Tokyo", [date(2026, 3, 1), date(2026, 3, 2)]),
    ],
)
def test_dates_a_day_off(crm: Crm, zone: str, days: list[date]) -> None:
    """Fails when an instant's day is taken in UTC, or a calendar day is shifted by a zone."""
    crm.settings(time_zone=zone)
    name = f"renewal_{zone.split('/')[1].lower()}"
    crm.add_field("companies", name, "date")
    instants = ("2026-03-01T07:59:59Z", "2026-03-01T15:00:00Z")
    deals = crm.create_many("deals", [{"closedate": one} for one in instants])
    # A calendar day comes as text, or as the milliseconds of its midnight in UTC.
    companies = crm.create_many(
        "companies", [{name: "2026-03-01"}, {name: "1772323200000"}], raw=True
    )
    streams = {
        "accounts": StreamSettings(fields={"contract_end": FieldSource(name)}),
        "deals": StreamSettings(),
    }

    with portal(crm, zone=zone, streams=streams) as connector:
        pulled, accounts = pull(connector, "deals"), pull(connector, "accounts")

    assert [deal_of(pulled, one).close_date for one in deals] == days
    ends = [accounts.one("accounts", one) for one in companies]
    assert [one.contract_end for one in ends if isinstance(one, Account)] == [date(2026, 3, 1)] * 2


# ---------------------------------------------------------------- answers that are none


@pytest.mark.parametrize("kind", ["html", "cut_json", "empty"])
@pytest.mark.parametrize(
    "path",
    [
        "/objects/contacts?", "archived=true", "contacts/search", "contacts/batch/read",
        "associations/contacts", "properties/contacts",
    ],
)  # fmt: skip
def test_html_with_200_and_cut_json_are_asked_for_again(crm: Crm, kind: str, path: str) -> None:
    """Fails when such an answer is taken for an empty page."""
    crm.clock(fix="2026-11-22T05:00:00+00:00")
    ids = crm.create_many("contacts", [{"email": f"p{n}@x.example"} for n in range(3)])
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    with portal(crm, streams={"contacts": StreamSettings()}) as connector:
        crm.fault(kind, status=200, path=path, times=1)
        full = pull(connector, "contacts")
        crm.clock(advance=3600)
        crm.edit("contacts", ids[0], {"lastname": "0001"})
        crm.fault(kind, status=200, path=path, times=1)
        increment = pull(connector, "contacts", full.cursor)

    assert full.ids("contacts") == set(ids)
    assert increment.ids("contacts") == {ids[0]}
    contact = increment.one("contacts", ids[0])
    assert isinstance(contact, Contact)
    assert contact.name == "0001"


@pytest.mark.parametrize("path", ["/owners", "/objects/deals?", "archived=true"])
def test_a_cursor_that_comes_again_is_asked_for_again_and_only_then_a_fault(
    crm: Crm, path: str
) -> None:
    """Fails when such a page ends the stream at once, or is followed for ever."""
    stream = "owners" if path == "/owners" else "deals"
    page = '{"results": [], "paging": {"next": {"after": "7"}}}'
    with portal(crm) as connector:
        crm.fault("status", path=path, status=200, body=page, times=2)
        passing = pull(connector, stream)
        crm.fault("status", path=path, status=200, body=page, times="forever")
        with pytest.raises(MalformedAnswer, match="in a circle"):
            pull(connector, stream)

    assert passing.pages[-1].complete_until is not None


def test_pages_of_links_that_go_in_a_circle_are_a_fault(crm: Crm) -> None:
    """Fails when the pages of a record's links are followed for ever."""
    deal_id = crm.create("deals", {"dealname": "D"})
    link = '{"toObjectId": 5, "associationTypes": []}'
    row = (
        f'{{"from": {{"id": "{deal_id}"}}, "to": [{link}], "paging": {{"next": {{"after": "5"}}}}}}'
    )
    with portal(crm) as connector:
        pull(connector, "deals")
        crm.fault(
            "status", path="deals/companies", status=200, body=f'{{"results": [{row}]}}',
            times="forever",
        )  # fmt: skip
        with pytest.raises(MalformedAnswer, match="in a circle"):
            pull(connector, "deals")


def test_a_hung_connection_is_given_up_in_time_and_the_pull_goes_on_later(crm: Crm) -> None:
    """Fails when a call has no deadline."""
    ids = crm.create_many("companies", [{"name": f"Account {n}"} for n in range(30)])
    short = replace(
        QUICK,
        page_size=10,
        read_timeout=timedelta(milliseconds=300),
        total_timeout=timedelta(seconds=1),
    )
    pulled = Pulled()
    with portal(crm, tuning=short) as connector:
        pages = connector.pull(stream_of(connector, "accounts"), None)
        pulled.add(next(pages))
        crm.fault("hang", path="/crm/", seconds=20, times="forever")
        started = time.monotonic()
        with pytest.raises(CrmUnavailable, match="in time"):
            next(pages)
        waited = time.monotonic() - started
        crm.clear_faults()
        for page in pull(connector, "accounts", pulled.cursor).pages:
            pulled.add(page)

    assert waited < 3
    assert pulled.ids("accounts") == set(ids)


# ---------------------------------------------------------------- a kill at any page


def stored(pages: Sequence[Page]) -> dict[RecordRef, CanonicalRecord]:
    """What a store holds after these pages."""
    held: dict[RecordRef, CanonicalRecord] = {}
    for page in pages:
        for family in page.whole:
            named = {record.ref for record in page.records}
            held = {
                ref: record
                for ref, record in held.items()
                if ref.stream != family.stream
                or getattr(record, family.link) not in family.parents
                or ref in named
            }
        held.update({record.ref: record for record in page.records})
        for ref in page.deleted:
            held.pop(ref, None)
    return held


def busy_day(crm: Crm, deals: list[str], companies: list[str], contact: str) -> None:
    """Everything that a pull of deals has to notice."""
    crm.associate("deals", deals[6], "contacts", [contact])
    crm.associate("deals", deals[0], "contacts", [contact], remove=True)
    crm.edit("deals", deals[:7], {"amount": "7"})
    crm.delete("deals", deals[7])
    crm.undelete("deals", deals[8])
    crm.merge("companies", companies[0], [companies[1]])


def after_interruption(
    crm: Crm, tuning: Tuning, before: Sequence[Page], pages: Sequence[Page]
) -> dict[RecordRef, CanonicalRecord]:
    """The store after a kill behind the last of `pages` and a second run in another process."""
    with portal(crm, tuning=tuning) as connector:
        resumed = pull(connector, "deals", pages[-1].resume_at).pages
    return stored([*before, *pages, *resumed])


@pytest.mark.parametrize(
    "sweep",
    [pytest.param(timedelta(days=1), marks=pytest.mark.slow), timedelta(days=3650)],
    ids=["with a sweep", "without"],
)
def test_killed_at_any_page_a_second_run_ends_like_an_undisturbed_one(
    crm: Crm, sweep: timedelta
) -> None:
    """Fails when a cursor leads past what was not yet committed."""
    tuning = replace(QUICK, page_size=4, sweep=sweep)
    crm.clock(fix="2026-11-21T06:00:00+00:00")
    companies = crm.create_many("companies", [{"name": f"Account {n}"} for n in range(2)])
    contact = crm.create("contacts", {"email": "p@x.example"})
    deals = crm.create_many("deals", [{"dealname": f"D{n:02}"} for n in range(12)])
    crm.associate("companies", companies[1], "deals", deals[9:11], primary=True)
    crm.associate("contacts", contact, "deals", deals[:1])
    crm.delete("deals", deals[8])
    crm.clock(fix="2026-11-21T12:00:00+00:00")
    with portal(crm, tuning=tuning) as connector:
        first = pull(connector, "deals").pages
        crm.clock(advance=86_400)
        busy_day(crm, deals, companies, contact)
        crm.clock(advance=600)
        second = pull(connector, "deals", first[-1].resume_at).pages
        undisturbed = stored([*first, *second])

    for stop in range(1, len(first)):
        assert after_interruption(crm, tuning, [], first[:stop]) == undisturbed, stop
    for stop in range(1, len(second)):
        assert after_interruption(crm, tuning, first, second[:stop]) == undisturbed, stop
    assert len(second) > 3
    live = {ref.native_id for ref in undisturbed if ref.stream == "deals"}
    assert live == {one for one in deals if one != deals[7]}
