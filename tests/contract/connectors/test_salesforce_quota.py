"""Salesforce's daily calls: counted for all, kept below the share, with a reserve for writing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine

from connectors.base import DailyCalls, Purpose, PushOutcome, Tuning
from connectors.contract.copies import Copy, kpi_field, outcomes, writer
from connectors.contract.org import QUICK
from connectors.errors import QuotaExhausted
from connectors.registry import connect
from connectors.salesforce.quota import CallBudget, OwnLedger, spending_on
from tests.contract.connectors.salesforce_org import SalesforceOrg
from tests.fixtures.sandboxes import Sandbox, launch


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    started = launch()
    org = SalesforceOrg(started.salesforce)
    org.add_accounts([f"Account {number:05}" for number in range(6000)])
    yield started
    started.end()


@pytest.fixture
def org(running: Sandbox) -> SalesforceOrg:
    org = SalesforceOrg(running.salesforce)
    org.crm.clear_faults()
    org.crm.settings(daily_calls_max=100_000, daily_calls_used=0)
    return org


def calls_of(org: SalesforceOrg) -> int:
    return len(org.crm.requests())


def test_at_the_configured_share_reading_pauses_with_its_cursor_and_writing_goes_on(
    org: SalesforceOrg,
) -> None:
    ledger = OwnLedger()
    settings = replace(org.settings(), daily_calls=DailyCalls(calls=200), ledger=ledger)
    connector = connect(settings)
    writer(connector).create("Account", [kpi_field(org)], dry_run=False)
    copy = Copy()
    ledger.add(170 - ledger.used() - 8, Purpose.READ)
    org.crm.forget()

    with pytest.raises(QuotaExhausted, match=r"limits\.daily_calls") as caught:
        copy.pull(connector, "accounts")

    assert ledger.used() == 170  # 85 % of 200
    assert calls_of(org) == 8
    assert 0 < len(copy.records) < 6000
    assert copy.cursor is not None
    left_until = caught.value.until - datetime.now(UTC)
    assert timedelta(hours=23) < left_until <= timedelta(hours=24, minutes=2)
    account = next(iter(copy.records))
    assert outcomes(connector.push([org.update(account, Decimal(7))])) == [PushOutcome.WRITTEN]

    with time_machine.travel(caught.value.until + timedelta(seconds=1), tick=True):
        copy.pull(connector, "accounts")

    assert len(copy.records) == 6000


def test_all_processes_of_a_connection_share_its_calls(org: SalesforceOrg) -> None:
    ledger = OwnLedger()
    settings = replace(org.settings(), daily_calls=DailyCalls(calls=30), ledger=ledger)
    first, second = connect(settings), connect(settings)
    Copy().pull(first, "accounts", pages=8)
    ledger.add(26 - ledger.used(), Purpose.WRITE)

    with pytest.raises(QuotaExhausted):
        Copy().pull(second, "accounts", pages=1)


def test_a_share_is_one_of_the_orgs_own_limit(org: SalesforceOrg) -> None:
    org.crm.settings(daily_calls_max=200, daily_calls_used=10)
    settings = replace(org.settings(), daily_calls=DailyCalls(share=Decimal("0.1")))
    connector = connect(settings)

    with pytest.raises(QuotaExhausted, match=r"of the 20 API calls"):
        Copy().pull(connector, "accounts")

    assert connector.calls.made == 17


@pytest.mark.parametrize(
    ("used", "may_read", "may_write"), [(80, True, True), (91, False, True), (96, False, False)]
)
def test_of_the_orgs_calls_reading_leaves_more_to_others_than_writing(
    org: SalesforceOrg, used: int, *, may_read: bool, may_write: bool
) -> None:
    connector = connect(org.settings(tuning=replace(QUICK, page_size=2000)))
    Copy().pull(connector, "accounts", pages=1)
    org.crm.settings(daily_calls_max=1000, daily_calls_used=used * 10)
    with suppress(QuotaExhausted):
        Copy().pull(connector, "accounts", pages=1)
    made = connector.calls.made

    def allowed(purpose: Purpose) -> bool:
        try:
            with spending_on(purpose):
                connector._client.get("limits")  # type: ignore[attr-defined]
        except QuotaExhausted:
            return False
        return True

    assert (allowed(Purpose.READ), allowed(Purpose.WRITE)) == (may_read, may_write)
    assert connector.calls.made == made + may_read + may_write


def test_the_limit_of_the_app_itself_is_kept_too(org: SalesforceOrg) -> None:
    budget = CallBudget(org.settings())

    budget.note(
        {"Sforce-Limit-Info": "per-app-api-usage=240/250(appName=kpisync); api-usage=18/5000"}
    )

    with pytest.raises(QuotaExhausted, match="240 of this app's 250"):
        budget.ensure_left()


def test_an_orgs_used_up_quota_is_looked_at_again_after_a_quarter_of_an_hour(
    org: SalesforceOrg,
) -> None:
    budget = CallBudget(org.settings())
    now = datetime.now(UTC)

    with time_machine.travel(now, tick=False) as clock:
        budget.note({"Sforce-Limit-Info": "api-usage=95/100"})
        with pytest.raises(QuotaExhausted) as caught:
            budget.ensure_left()
        assert abs(caught.value.until - now - timedelta(minutes=15)) < timedelta(seconds=5)
        clock.shift(timedelta(minutes=16))
        budget.ensure_left()


def test_the_pause_may_be_shorter_where_that_is_configured(org: SalesforceOrg) -> None:
    settings = org.settings(tuning=Tuning(pause_min=timedelta(seconds=2)))
    used_up = [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests Limit exceeded."}]
    org.crm.fault("status", status=403, path="query", body=json.dumps(used_up), times=1)
    connector = connect(settings)
    accounts = next(stream for stream in connector.streams() if stream.name == "accounts")

    with pytest.raises(QuotaExhausted) as caught:
        list(connector.pull(accounts, None))

    assert caught.value.until - datetime.now(UTC) < timedelta(seconds=3)
    assert CallBudget(settings).pause == timedelta(seconds=2)


def test_calls_leave_the_window_after_a_day() -> None:
    ledger = OwnLedger()
    start = datetime(2026, 5, 4, 10, 0, 30, tzinfo=UTC)

    with time_machine.travel(start, tick=False) as clock:
        ledger.add(30, Purpose.READ)
        clock.shift(timedelta(hours=2))
        ledger.add(12, Purpose.WRITE)
        assert ledger.used() == 42
        free_at = ledger.free_at(5)
        assert ledger.free_at(43) is None
        clock.shift(timedelta(hours=21, minutes=59))
        assert ledger.used() == 42
        assert free_at == datetime(2026, 5, 5, 10, 1, tzinfo=UTC)
        clock.move_to(free_at)
        assert ledger.used() == 12
