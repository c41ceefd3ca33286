"""Salesforce alone: Collections, its headers and refusals, fields and permissions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from connectors.base import Connector, FieldType, NewField, PushOutcome
from connectors.contract.copies import kpi_field, outcomes, writer
from connectors.errors import CrmUnavailable
from connectors.registry import connect
from tests.contract.connectors.salesforce_org import SalesforceOrg
from tests.fixtures.sandboxes import Sandbox, launch


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    """One sandbox: every test writes into accounts of its own."""
    started = launch()
    yield started
    started.end()


@pytest.fixture
def org(running: Sandbox) -> SalesforceOrg:
    org = SalesforceOrg(running.salesforce)
    org.crm.clear_faults()
    org.crm.settings(assignment_owner=None, may_customize=True)
    return org


@pytest.fixture
def connector(org: SalesforceOrg) -> Connector:
    """A connector to an org whose accounts have the KPI field."""
    connector = connect(org.settings())
    writer(connector).create("Account", [kpi_field(org)], dry_run=False)
    return connector


def test_a_write_does_not_hand_records_to_other_owners_even_after_a_new_login(
    org: SalesforceOrg, connector: Connector
) -> None:
    (account,) = org.add_accounts(["Account 0001"])
    other = org.crm.create(
        "User", {"LastName": "Rep 07", "Email": "rep07@sandbox.example", "IsActive": True}
    )
    org.crm.settings(assignment_owner=other)
    owner = org.stored(account, "OwnerId")
    org.crm.settings(revoke_tokens=True)

    connector.push([org.update(account, Decimal(1))])

    assert org.stored(account, "OwnerId") == owner != other
    assert org.stored(account, org.kpi_field) == 1


def test_what_was_written_is_told_even_if_the_rest_fails(
    org: SalesforceOrg, connector: Connector
) -> None:
    ids = org.add_accounts([f"Account {number:04}" for number in range(450)])
    org.crm.fault("status", status=503, path=org.writing, after=1, times="forever")

    results = connector.push([org.update(account, Decimal(1)) for account in ids])

    assert outcomes(results).count(PushOutcome.WRITTEN) == 200
    assert outcomes(results).count(PushOutcome.RETRY) == 250


def test_a_busy_salesforce_is_asked_again_before_giving_up(
    org: SalesforceOrg, connector: Connector
) -> None:
    (account,) = org.add_accounts(["Account 0001"])
    org.crm.fault("status", status=503, path=org.writing, times=2)

    assert outcomes(connector.push([org.update(account, Decimal(1))])) == [PushOutcome.WRITTEN]

    org.crm.fault("status", status=503, path=org.writing, times="forever")
    with pytest.raises(CrmUnavailable):
        connector.push([org.update(account, Decimal(2))])


def test_a_gateway_error_leaves_a_write_unknown(org: SalesforceOrg, connector: Connector) -> None:
    (account,) = org.add_accounts(["Account 0001"])
    org.crm.fault("html", status=504, path=org.writing)

    assert outcomes(connector.push([org.update(account, Decimal(1))])) == [PushOutcome.UNKNOWN]


def test_a_lock_hidden_in_a_triggers_words_is_a_passing_refusal(
    org: SalesforceOrg, connector: Connector
) -> None:
    (account,) = org.add_accounts(["Account 0001"])
    org.crm.fault(
        "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
        record=account,
        message="Trigger Rollup caused an exception: UNABLE_TO_LOCK_ROW",
    )

    assert outcomes(connector.push([org.update(account, Decimal(1))])) == [PushOutcome.RETRY]


def test_a_value_its_field_cannot_take_fails_alone(
    org: SalesforceOrg, connector: Connector
) -> None:
    ids = org.add_accounts([f"Account {number:04}" for number in range(9)])
    updates = [org.update(account, Decimal(1)) for account in ids]
    updates[4] = org.update(ids[4], "not a number")

    results = connector.push(updates)

    assert outcomes(results) == [
        *[PushOutcome.WRITTEN] * 4,
        PushOutcome.FAILED,
        *[PushOutcome.WRITTEN] * 4,
    ]


def test_an_answer_with_too_few_results_leaves_all_unknown(
    org: SalesforceOrg, connector: Connector
) -> None:
    ids = org.add_accounts(["Account 0001", "Account 0002"])
    org.crm.fault("status", status=200, path=org.writing, body='[{"success":true,"errors":[]}]')

    results = connector.push([org.update(account, Decimal(1)) for account in ids])

    assert outcomes(results) == [PushOutcome.UNKNOWN] * 2


def test_short_ids_and_exact_numbers_are_written(org: SalesforceOrg, connector: Connector) -> None:
    (account,) = org.add_accounts(["Account 0001"])
    exact = Decimal("12345678901.2345")

    results = connector.push([org.update(account[:15], exact)])

    assert outcomes(results) == [PushOutcome.WRITTEN]
    (live,) = writer(connector).read("Account", [account[:15]], [org.kpi_field])
    assert (live.record_id, live.values[org.kpi_field]) == (account, exact)


def test_a_percent_field_is_recognised(org: SalesforceOrg, connector: Connector) -> None:
    new = NewField(
        name="KPI_Share__c", label="Share", help_text="", type=FieldType.PERCENT, precision=7
    )
    stamp = NewField(name="KPI_Day__c", label="Day", help_text="", type=FieldType.DATE)
    writer(connector).create("Account", [new, stamp], dry_run=False)
    (account,) = org.add_accounts(["Account 0001"])
    connector.push([org.update(account, date(2026, 2, 28), "KPI_Day__c")])

    target = writer(connector).fields("Account")["KPI_Share__c"]

    assert (target.type, target.ratio_factor, target.scale) == (FieldType.PERCENT, 100, 2)
    (live,) = writer(connector).read("Account", [account], ["KPI_Day__c", "KPI_Share__c"])
    assert live.values == {"KPI_Day__c": date(2026, 2, 28), "KPI_Share__c": None}


def test_chains_of_merges_lead_to_the_last_winner(org: SalesforceOrg, connector: Connector) -> None:
    first, second, third = org.add_accounts(["first", "second", "third"])
    org.crm.merge("Account", second, [first])
    org.crm.merge("Account", third, [second])

    live = writer(connector).read("Account", [first], [org.kpi_field])

    assert [record.record_id for record in live] == [third]


def test_more_ids_than_a_request_line_holds_are_read_in_turns(
    org: SalesforceOrg, connector: Connector
) -> None:
    ids = org.add_accounts([f"Account {number:04}" for number in range(900)])

    live = writer(connector).read("Account", ids, [org.kpi_field])

    assert [record.record_id for record in live] == ids


def test_a_field_that_exists_but_is_hidden_is_granted(
    org: SalesforceOrg, connector: Connector
) -> None:
    org.crm.settings(hide_fields=[f"Account.{org.kpi_field}"])

    (result,) = writer(connector).create("Account", [kpi_field(org)], dry_run=False)

    assert result.outcome == "granted"
    assert writer(connector).fields("Account")[org.kpi_field].writable


def test_setup_without_the_right_to_customize_says_what_to_do(org: SalesforceOrg) -> None:
    org.crm.settings(may_customize=False)
    connector = connect(org.settings())
    wanted = replace(kpi_field(org), name="KPI_never__c")

    (result,) = writer(connector).create("Account", [wanted], dry_run=False)

    assert result.outcome == "manual"
    assert "Customize Application" in result.note
    assert wanted.name not in writer(connector).fields("Account")


def test_a_field_of_another_type_is_a_conflict(org: SalesforceOrg, connector: Connector) -> None:
    wanted = NewField(name=org.kpi_field, label="", help_text="", type=FieldType.TEXT)

    (result,) = writer(connector).create("Account", [wanted], dry_run=False)

    assert result.outcome == "conflict"


def test_a_hidden_field_of_another_scale_is_a_conflict_and_not_taken_for_ours(
    org: SalesforceOrg, connector: Connector
) -> None:
    org.crm.settings(hide_fields=[f"Account.{org.kpi_field}"])
    wanted = replace(kpi_field(org), scale=9)

    (result,) = writer(connector).create("Account", [wanted], dry_run=False)

    assert result.outcome == "conflict"
    assert "digits after the point" in result.note


def test_setup_says_what_a_person_must_still_do_and_does_nothing_twice(
    org: SalesforceOrg, connector: Connector
) -> None:
    wanted = NewField(
        name="KPI_Rank__c", label="Rank", help_text="Best is 1.", type=FieldType.NUMBER, scale=0
    )
    org.crm.forget()

    (dry,) = writer(connector).create("Account", [wanted], dry_run=True)
    assert dry.outcome == "would_create"
    assert all(request["method"] == "GET" for request in org.crm.requests())
    (made,) = writer(connector).create("Account", [wanted], dry_run=False)
    org.crm.forget()
    (again,) = writer(connector).create("Account", [wanted], dry_run=False)

    assert made.outcome == "created"
    assert "page layout" in made.note
    assert "kpisync_read" in made.note
    assert again.outcome == "present"
    assert all(request["method"] == "GET" for request in org.crm.requests())
