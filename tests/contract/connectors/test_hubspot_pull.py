"""Reading from HubSpot: complete, whatever the portal does meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from connectors.base import FieldSource, StreamSettings, Tuning
from connectors.errors import MisconfiguredConnection, StreamPaused
from store.canonical import Account, Deal, Owner, Stage, StageChange
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


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with start_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def crm(shared: Sandbox) -> Crm:
    return fresh(shared.hubspot)


def tuned(**changes: object) -> Tuning:
    values = {name: getattr(QUICK, name) for name in Tuning.__slots__}
    return Tuning(**{**values, **changes})


def deal_of(pulled: Pulled, native_id: str) -> Deal:
    deal = pulled.one("deals", native_id)
    assert isinstance(deal, Deal)
    return deal


# ---------------------------------------------------------------- the streams


def test_the_streams_come_in_the_order_in_which_records_link(crm: Crm) -> None:
    with portal(crm) as connector:
        streams = connector.streams()

    assert [stream.name for stream in streams] == [
        "owners", "stages", "accounts", "deals", "deal_lines",
    ]  # fmt: skip
    assert streams[3].yields == ("deals", "deal_stage_changes", "deal_contacts")


def test_owners_who_left_are_still_owners(crm: Crm) -> None:
    here = crm.create("owners", {"email": "rep07@x.example", "firstName": "Rep", "lastName": "07"})
    gone = crm.create("owners", {"email": "rep08@x.example", "firstName": "Rep", "lastName": "08"})
    crm.delete("owners", gone)

    with portal(crm) as connector:
        pulled = pull(connector, "owners")

    owners = {ref.native_id: one for ref, one in pulled.records.items() if isinstance(one, Owner)}
    assert owners.keys() == {here, gone}
    assert owners[here].name == "Rep 07"
    assert [owners[one].is_active for one in (here, gone)] == [True, False]
    assert pulled.pages[-1].complete_until is not None


def test_stages_are_keyed_as_deals_name_them(crm: Crm) -> None:
    deal_id = crm.create("deals", {"dealname": "D", "dealstage": "closedwon"})

    with portal(crm) as connector:
        stages = pull(connector, "stages")
        deal = deal_of(pull(connector, "deals"), deal_id)

    stage = stages.one("stages", "closedwon")
    assert isinstance(stage, Stage)
    assert stage.ref.key == deal.stage
    assert stage.pipeline == deal.pipeline
    assert (stage.is_closed, stage.is_won, stage.probability) == (True, True, Decimal(1))


def test_a_deal_arrives_with_company_stage_history_and_money(crm: Crm) -> None:
    company_id = crm.create("companies", {"name": "Account 0001", "domain": "a1.example"})
    deal_id = crm.create(
        "deals",
        {
            "dealname": "D",
            "amount": "1200.50",
            "dealstage": "qualifiedtobuy",
            "dealtype": "newbusiness",
        },
        at="2026-01-10T09:00:00+00:00",
    )
    crm.associate("deals", deal_id, "companies", [company_id], primary=True)
    crm.edit("deals", deal_id, {"dealstage": "closedwon"}, at="2026-02-01T10:30:00+00:00")

    with portal(crm) as connector:
        pulled = pull(connector, "deals")

    deal = deal_of(pulled, deal_id)
    assert deal.account == f"web:{company_id}"
    assert (deal.amount, deal.currency, deal.kind) == (Decimal("1200.50"), "USD", "new")
    assert (deal.is_closed, deal.is_won) == (True, True)
    assert (deal.close_date, deal.closed_at) == (
        date(2026, 2, 1),
        datetime(2026, 2, 1, 10, 30, tzinfo=UTC),
    )
    changes = [one for one in pulled.records.values() if isinstance(one, StageChange)]
    assert {(change.stage, change.at) for change in changes} == {
        ("web:qualifiedtobuy", datetime(2026, 1, 10, 9, tzinfo=UTC)),
        ("web:closedwon", datetime(2026, 2, 1, 10, 30, tzinfo=UTC)),
    }


def test_reading_twice_brings_the_same_records(crm: Crm) -> None:
    ids = crm.create_many("deals", [{"dealname": f"D{n}"} for n in range(5)])
    crm.edit("deals", ids, {"dealstage": "closedlost"})

    with portal(crm) as connector:
        first, second = pull(connector, "deals"), pull(connector, "deals")

    assert first.records == second.records


def test_dated_paths_bring_the_same_as_the_legacy_ones(crm: Crm) -> None:
    company_id = crm.create("companies", {"name": "Account 0001"})
    deal_id = crm.create("deals", {"dealname": "D"})
    crm.associate("deals", deal_id, "companies", [company_id])

    with portal(crm) as legacy, portal(crm, api_version="2026-09") as dated:
        for stream in legacy.streams():
            crm.forget()
            full = pull(dated, stream.name)
            increment = pull(dated, stream.name, full.cursor)
            assert not paths(crm, "/v3/")
            assert not paths(crm, "/v4/")

            assert pull(legacy, stream.name).records == full.records == increment.records
        assert dated.check().is_ok


# ---------------------------------------------------------------- completeness


def test_more_records_with_one_stamp_than_a_page_holds_come_through(crm: Crm) -> None:
    ids = crm.create_many("deals", [{"dealname": f"D{n}"} for n in range(450)])
    crm.edit("deals", ids, {"description": "bulk"})

    with portal(crm, tuning=tuned(page_size=100)) as connector:
        pulled = pull(connector, "deals", LONG_AGO)

    assert set(ids) == pulled.ids("deals")
    assert len(pulled.pages) == 6


def test_a_resumed_pull_goes_on_to_the_present(crm: Crm) -> None:
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    ids = crm.create_many("deals", [{"dealname": f"D{n:02}"} for n in range(23)])

    with portal(crm, tuning=tuned(page_size=10)) as connector:
        first_page = next(connector.pull(stream_of(connector, "deals"), None))
        crm.clock(advance=7200)
        crm.edit("deals", ids[0], {"amount": "5"})
        rest = pull(connector, "deals", first_page.resume_at)

    assert deal_of(rest, ids[0]).amount == 5
    assert rest.pages[-1].complete_until == datetime(2026, 11, 22, 8, tzinfo=UTC)


# ---------------------------------------------------------------- increments


def test_an_increment_brings_what_changed_and_no_more(crm: Crm) -> None:
    crm.clock(fix="2026-11-22T05:00:00+00:00")
    ids = crm.create_many("deals", [{"dealname": f"D{n}", "amount": "1"} for n in range(5)])
    crm.clock(fix="2026-11-22T06:00:00+00:00")

    with portal(crm) as connector:
        first = pull(connector, "deals")
        crm.clock(advance=3600)
        crm.edit("deals", ids[2], {"amount": "7"})
        second = pull(connector, "deals", first.cursor)

    assert second.ids("deals") == {ids[2]}
    assert deal_of(second, ids[2]).amount == 7
    assert second.pages[-1].complete_until == datetime(2026, 11, 22, 7, tzinfo=UTC)


def test_what_was_saved_in_the_second_of_the_pull_is_in_it(crm: Crm) -> None:
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    with portal(crm) as connector:
        first = pull(connector, "deals")
        crm.clock(fix="2026-11-22T07:00:00.900+00:00")
        late = crm.create("deals", {"dealname": "D"})
        second = pull(connector, "deals", first.cursor)

    assert second.ids("deals") == {late}
    assert second.pages[-1].complete_until == datetime(2026, 11, 22, 7, tzinfo=UTC)


def test_a_stale_search_result_does_not_bring_stale_values(crm: Crm) -> None:
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    deal_id = crm.create("deals", {"dealname": "D", "amount": "1"})
    crm.lag(120)
    crm.edit("deals", deal_id, {"amount": "2"})

    with portal(crm) as connector:
        pulled = pull(connector, "deals", LONG_AGO)

    assert deal_of(pulled, deal_id).amount == 2


def test_calculated_flags_that_search_leaves_out_are_read_by_id(crm: Crm) -> None:
    crm.settings(stale_calculated=True)
    deal_id = crm.create("deals", {"dealname": "D", "dealstage": "closedwon"})

    with portal(crm) as connector:
        pulled = pull(connector, "deals", LONG_AGO)

    assert deal_of(pulled, deal_id).is_won


def test_a_clock_set_back_loses_nothing(crm: Crm) -> None:
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    with portal(crm) as connector:
        first = pull(connector, "deals")
        crm.clock(fix="2026-11-22T05:00:00+00:00")
        deal_id = crm.create("deals", {"dealname": "D"})
        second = pull(connector, "deals", first.cursor)

    assert second.ids("deals") == {deal_id}


@pytest.mark.parametrize("stream", ["accounts", "deals"])
def test_nothing_changed_is_one_page_with_a_new_checkpoint(crm: Crm, stream: str) -> None:
    crm.clock(fix="2026-11-22T05:00:00+00:00")
    crm.create("deals", {"dealname": "D"})
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    with portal(crm) as connector:
        first = pull(connector, stream)
        crm.clock(advance=3600)
        second = pull(connector, stream, first.cursor)

    (page,) = second.pages
    assert not page.records
    assert not page.deleted
    assert page.complete_until == datetime(2026, 11, 22, 7, tzinfo=UTC)


# ---------------------------------------------------------------- deletions and merges


def test_an_archived_deal_is_reported_by_the_next_increment(crm: Crm) -> None:
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    kept, gone = crm.create_many("deals", [{"dealname": "D1"}, {"dealname": "D2"}])

    with portal(crm) as connector:
        first = pull(connector, "deals")
        crm.clock(advance=3600)
        crm.delete("deals", gone)
        second = pull(connector, "deals", first.cursor)
        third = pull(connector, "deals", second.cursor)
        everything = pull(connector, "deals")

    assert first.deleted_ids == []
    assert second.deleted_ids == [gone]
    assert third.deleted_ids == []
    assert everything.deleted_ids == [gone]
    assert everything.ids("deals") == {kept}


def test_a_restored_deal_comes_back_although_its_modified_date_does_not_move(crm: Crm) -> None:
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    deal_id = crm.create("deals", {"dealname": "D"})
    with portal(crm) as connector:
        crm.delete("deals", deal_id)
        crm.clock(advance=3600)
        first = pull(connector, "deals")
        crm.undelete("deals", deal_id)
        crm.clock(advance=3600)
        second = pull(connector, "deals", first.cursor)

    assert first.deleted_ids == [deal_id]
    assert second.ids("deals") == {deal_id}
    assert not deal_of(second, deal_id).deleted


def test_a_deal_that_came_back_and_went_again_between_two_pulls_of_the_archive_is_gone(
    crm: Crm,
) -> None:
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    deal_id = crm.create("deals", {"dealname": "D"})
    with portal(crm) as connector:
        crm.delete("deals", deal_id)
        crm.clock(advance=3600)
        first = pull(connector, "deals")
        crm.undelete("deals", deal_id)
        crm.clock(advance=60)
        crm.edit("deals", deal_id, {"dealname": "D again"})
        crm.clock(advance=3600)
        # It is read as alive, and is in the archive again when that is read.
        pages = connector.pull(stream_of(connector, "deals"), first.cursor)
        alive = next(pages)
        crm.delete("deals", deal_id)
        rest = list(pages)
        third = pull(connector, "deals", rest[-1].resume_at)

    assert [record.ref.native_id for record in alive.records] == [deal_id]
    assert [ref.native_id for page in rest for ref in page.deleted] == [deal_id]
    assert third.deleted_ids == []


def test_many_archived_deals_are_reported_page_by_page(crm: Crm) -> None:
    ids = crm.create_many("deals", [{"dealname": f"D{n}"} for n in range(130)])
    crm.delete("deals", ids)

    with portal(crm, tuning=tuned(page_size=50)) as connector:
        pulled = pull(connector, "deals")

    assert sorted(ids) == pulled.deleted_ids
    assert [len(page.deleted) for page in pulled.pages] == [50, 50, 30]


def test_a_server_that_ignores_the_archived_flag_deletes_nothing(crm: Crm) -> None:
    deal_id = crm.create("deals", {"dealname": "D"})
    live = f'{{"results": [{{"id": "{deal_id}", "properties": {{}}, "archived": false}}]}}'

    with portal(crm) as connector:
        pages = connector.pull(stream_of(connector, "deals"), None)
        next(pages)
        crm.fault("status", path="archived=true", status=200, body=live, times=1)
        rest = list(pages)

    assert [page.deleted for page in rest] == [()]


@pytest.mark.parametrize("shows_merged", [True, False])
def test_merged_companies_are_marked_and_count_once(crm: Crm, *, shows_merged: bool) -> None:
    crm.settings(archived_shows_merged=shows_merged)
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    one, two = crm.create_many("companies", [{"name": "Account 1"}, {"name": "Account 2"}])
    with portal(crm) as connector:
        first = pull(connector, "accounts")
        crm.clock(advance=3600)
        winner = crm.merge("companies", one, [two])
        second = pull(connector, "accounts", first.cursor)

    marks = {
        ref.native_id: (account.deleted, account.merged_into)
        for ref, account in second.records.items()
    }
    assert marks == {
        winner: (False, None),
        one: (True, f"web:{winner}"),
        two: (True, f"web:{winner}"),
    }
    assert isinstance(second.one("accounts", winner), Account)
    assert second.one("accounts", winner).name in {"Account 1", "Account 2"}  # type: ignore[attr-defined]  # see above


def test_a_merge_between_search_and_read_is_followed(crm: Crm) -> None:
    """The index still shows the old ids; batch reads leave them out without a word."""
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    one, two = crm.create_many("companies", [{"name": "Account 1"}, {"name": "Account 2"}])
    with portal(crm) as connector:
        stale = (
            '{"total": 2, "results": ['
            f'{{"id": "{one}", "properties": {{}}}}, {{"id": "{two}", "properties": {{}}}}]}}'
        )
        winner = crm.merge("companies", one, [two])
        crm.fault("status", path="companies/search", status=200, body=stale, times=1)
        pulled = pull(connector, "accounts", LONG_AGO)

    assert {
        ref.native_id: (account.deleted, account.merged_into)
        for ref, account in pulled.records.items()
    } == {winner: (False, None), one: (True, f"web:{winner}"), two: (True, f"web:{winner}")}


def test_a_deal_deleted_between_search_and_read_is_reported_as_deleted(crm: Crm) -> None:
    deal_id = crm.create("deals", {"dealname": "D"})
    stale = f'{{"total": 1, "results": [{{"id": "{deal_id}", "properties": {{}}}}]}}'
    crm.erase("deals", deal_id)
    crm.fault("status", path="deals/search", status=200, body=stale, times=1)

    with portal(crm) as connector:
        pulled = pull(connector, "deals", LONG_AGO)

    assert pulled.deleted_ids == [deal_id]


# ---------------------------------------------------------------- links


def test_pages_of_links_are_followed_for_each_deal(crm: Crm) -> None:
    crm.settings(association_page=2)
    companies = crm.create_many("companies", [{"name": f"Account {n}"} for n in range(7)])
    deal_id = crm.create("deals", {"dealname": "D"})
    crm.associate("deals", deal_id, "companies", companies[:6])
    crm.associate("deals", deal_id, "companies", companies[6:], primary=True)

    with portal(crm) as connector:
        pulled = pull(connector, "deals")

    assert deal_of(pulled, deal_id).account == f"web:{companies[6]}"
    assert len(paths(crm, "associations/deals/companies")) == 1 + 4


def test_without_a_primary_company_the_lowest_id_counts(crm: Crm) -> None:
    companies = crm.create_many("companies", [{"name": f"Account {n}"} for n in range(3)])
    deal_id = crm.create("deals", {"dealname": "D"})
    crm.associate("deals", deal_id, "companies", companies[::-1])

    with portal(crm) as connector:
        assert deal_of(pull(connector, "deals"), deal_id).account == f"web:{companies[0]}"


def test_a_removed_link_is_removed(crm: Crm) -> None:
    company_id = crm.create("companies", {"name": "Account 0001"})
    deal_id = crm.create("deals", {"dealname": "D"})
    crm.associate("deals", deal_id, "companies", [company_id])
    with portal(crm) as connector:
        first = pull(connector, "deals")
        crm.associate("deals", deal_id, "companies", [company_id], remove=True)
        second = pull(connector, "deals", first.cursor)

    assert deal_of(first, deal_id).account is not None
    assert deal_of(second, deal_id).account is None


def test_a_link_that_cannot_be_read_is_asked_for_again(crm: Crm) -> None:
    company_id = crm.create("companies", {"name": "Account 0001"})
    deal_id = crm.create("deals", {"dealname": "D"})
    crm.associate("deals", deal_id, "companies", [company_id])
    crm.fault("INTERNAL_ERROR", record=deal_id, on="associations", times=1)

    with portal(crm) as connector:
        pulled = pull(connector, "deals")

    assert deal_of(pulled, deal_id).account == f"web:{company_id}"


def test_a_link_that_stays_unknown_blanks_nothing_and_is_remembered(crm: Crm) -> None:
    crm.clock(fix="2026-11-22T05:00:00+00:00")
    company_id = crm.create("companies", {"name": "Account 0001"})
    deal_id, other_id = crm.create_many("deals", [{"dealname": "D1"}, {"dealname": "D2"}])
    crm.associate("deals", deal_id, "companies", [company_id])
    crm.fault("INTERNAL_ERROR", record=deal_id, on="associations", times=3, message="Sorry.")
    crm.clock(fix="2026-11-22T06:00:00+00:00")

    with portal(crm) as connector:
        first = pull(connector, "deals")
        crm.clock(advance=3600)
        second = pull(connector, "deals", first.cursor)
        third = pull(connector, "deals", second.cursor)

    assert first.ids("deals") == {other_id}
    (rejected,) = first.rejected
    assert rejected.ref.native_id == deal_id
    assert "Sorry." in rejected.reason
    assert deal_of(second, deal_id).account == f"web:{company_id}"
    assert not second.rejected
    assert not third.records


# ---------------------------------------------------------------- what is configured


def test_only_the_chosen_pipelines_are_read(crm: Crm) -> None:
    crm.admin(
        "pipeline",
        id="shop",
        label="Web shop",
        stages=[{"id": "shop-1", "label": "Basket", "probability": 0.5}],
    )
    crm.clock(fix="2026-11-22T05:00:00+00:00")
    here = crm.create("deals", {"dealname": "D1", "pipeline": "shop", "dealstage": "shop-1"})
    crm.create("deals", {"dealname": "D2"})
    crm.clock(fix="2026-11-22T06:00:00+00:00")

    streams = {"deals": StreamSettings(pipelines=("Web shop",))}
    with portal(crm, streams=streams) as connector:
        first = pull(connector, "deals")
        crm.clock(advance=3600)
        crm.edit("deals", here, {"pipeline": "default", "dealstage": "qualifiedtobuy"})
        second = pull(connector, "deals", first.cursor)

    assert first.ids("deals") == {here}
    assert second.ids("deals") == set()
    assert second.deleted_ids == [here]


def test_a_missing_required_property_pauses_the_stream_and_is_named(crm: Crm) -> None:
    fields = {"amount": FieldSource("betrag")}
    with (
        portal(crm, fields=fields) as connector,
        pytest.raises(StreamPaused, match=r"deals\.betrag.*deals\.amount"),
    ):
        pull(connector, "deals")


def test_a_missing_optional_property_is_a_warning(crm: Crm) -> None:
    crm.create("deals", {"dealname": "D"})
    with portal(crm, fields={"region": FieldSource("gegend")}) as connector:
        pulled = pull(connector, "deals")

    assert len(pulled.ids("deals")) == 1
    assert ["gegend" in warning for warning in pulled.warnings] == [True]


def test_a_bad_amount_is_a_dead_letter_and_its_neighbours_live(crm: Crm) -> None:
    good, bad = crm.create_many("deals", [{"amount": "1"}, {"amount": "abc"}])

    with portal(crm) as connector:
        pulled = pull(connector, "deals")

    assert pulled.ids("deals") == {good}
    (rejected,) = pulled.rejected
    assert (rejected.ref.native_id, rejected.raw, rejected.code) == (bad, "abc", "not_a_number")


def test_a_stage_nobody_knows_is_a_warning(crm: Crm) -> None:
    deal_id = crm.create("deals", {"dealname": "D", "dealstage": "vanished"})

    with portal(crm) as connector:
        pulled = pull(connector, "deals")

    assert deal_of(pulled, deal_id).stage == "web:vanished"
    assert "vanished" in pulled.warnings[0]


def test_amounts_without_a_currency_are_in_the_portals(crm: Crm) -> None:
    crm.settings(company_currency="EUR")
    deal_id = crm.create("deals", {"amount": "1", "deal_currency_code": None})

    with portal(crm) as connector:
        assert deal_of(pull(connector, "deals"), deal_id).currency == "EUR"


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("costs", StreamSettings(), "Name an object whose records are costs"),
        ("campaign_members", StreamSettings(), "which contacts a campaign touched, but not when"),
        ("costs", StreamSettings(object="tickets"), "date is mapped from no property"),
        ("deals", StreamSettings(where="amount > 5"), "no filter language"),
        ("accounts", StreamSettings(pipelines=("x",)), "only deals and tickets are in pipelines"),
        ("deals", StreamSettings(pipelines=("Shop",)), 'no pipeline "Shop"'),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(
    crm: Crm, name: str, settings: StreamSettings, words: str
) -> None:
    with (
        portal(crm, streams={name: settings}) as connector,
        pytest.raises(MisconfiguredConnection, match=words),
    ):
        pull(connector, name)


def test_the_next_window_overlaps_by_the_configured_lookback(crm: Crm) -> None:
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    early, late = (
        crm.create("deals", {"dealname": "D"}, at=f"2026-11-22T05:5{minute}:00+00:00")
        for minute in (4, 8)
    )
    with portal(crm, tuning=tuned(lookback=timedelta(minutes=5))) as connector:
        first = pull(connector, "deals")
        second = pull(connector, "deals", first.cursor)

    assert first.ids("deals") == {early, late}
    assert second.ids("deals") == {late}
