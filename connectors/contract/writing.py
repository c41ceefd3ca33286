"""Promises of writing: one result for each update, told as the CRM answered it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from connectors.base import Connector, FieldType, PushOutcome
from connectors.contract.copies import kpi_field, outcomes, writer
from connectors.contract.org import Ability, Calls, Fault, Org
from connectors.contract.part import Part, needs
from connectors.errors import CrmUnavailable
from connectors.registry import connect


class Writing(Part):
    """``push``, ``read``, ``fields`` and ``create``."""

    @needs(Ability.WRITING)
    def test_values_are_written_and_read_back(self, org: Org, writable: Connector) -> None:
        first, second = org.add_accounts(["Account 0001", "Account 0002"])

        results = writable.push(
            [org.update(first, Decimal("41.5")), org.update(second, Decimal("0.1"))]
        )

        assert outcomes(results) == [PushOutcome.WRITTEN] * 2
        live = writer(writable).read(org.account_object, [second, first], [org.kpi_field])
        assert {record.asked_id: record.values[org.kpi_field] for record in live} == {
            first: Decimal("41.5"),
            second: Decimal("0.1"),
        }

    @needs(Ability.WRITING)
    def test_writing_the_same_again_leaves_the_same(self, org: Org, writable: Connector) -> None:
        (account,) = org.add_accounts(["Account 0001"])
        update = org.update(account, Decimal("41.5"))

        results = [*writable.push([update]), *writable.push([update])]

        assert outcomes(results) == [PushOutcome.WRITTEN] * 2
        (live,) = writer(writable).read(org.account_object, [account], [org.kpi_field])
        assert live.values == {org.kpi_field: Decimal("41.5")}

    @needs(Ability.WRITING)
    def test_nothing_to_write_costs_no_call(self, org: Org, writable: Connector) -> None:
        before = writable.calls.made

        assert list(writable.push([])) == []
        assert writable.calls.made == before
        assert org.account_object in writable.capabilities.object_streams

    @needs(Ability.WRITING)
    def test_none_clears_a_field(self, org: Org, writable: Connector) -> None:
        (account,) = org.add_accounts(["Account 0001"])
        writable.push([org.update(account, Decimal("41.5"))])

        results = writable.push([org.update(account, None)])

        assert outcomes(results) == [PushOutcome.WRITTEN]
        (live,) = writer(writable).read(org.account_object, [account], [org.kpi_field])
        assert live.values == {org.kpi_field: None}

    @needs(Ability.WRITING, Ability.REFUSALS)
    def test_one_refused_record_of_many_is_one_failure(self, org: Org, writable: Connector) -> None:
        ids = org.add_accounts([f"Account {number:04}" for number in range(250)])
        org.refuse_writes_of(ids[120])
        updates = [org.update(account, Decimal(1)) for account in ids]

        results = writable.push(updates)

        assert [result.update for result in results] == updates
        (failed,) = [each for each in results if each.outcome is not PushOutcome.WRITTEN]
        assert failed.outcome is PushOutcome.FAILED
        assert failed.update.record_id == ids[120]
        assert failed.message
        assert failed.code

    @needs(Ability.WRITING, Ability.LOCKS)
    def test_a_passing_refusal_is_to_be_sent_again(self, org: Org, writable: Connector) -> None:
        locked, free = org.add_accounts(["Account 0001", "Account 0002"])
        org.lock(locked)

        first = writable.push([org.update(locked, Decimal(1)), org.update(free, Decimal(1))])
        second = writable.push([first[0].update])

        assert outcomes(first) == [PushOutcome.RETRY, PushOutcome.WRITTEN]
        assert outcomes(second) == [PushOutcome.WRITTEN]

    @needs(Ability.WRITING, Ability.DELETIONS)
    def test_a_record_that_is_gone_is_told_beside_those_that_live(
        self, org: Org, writable: Connector
    ) -> None:
        gone, lives = org.add_accounts(["Account 0001", "Account 0002"])
        org.delete_account(gone)

        results = writable.push([org.update(gone, Decimal(1)), org.update(lives, Decimal(1))])

        assert outcomes(results) == [PushOutcome.GONE, PushOutcome.WRITTEN]

    @needs(Ability.WRITING, Ability.FAULTS)
    def test_a_lost_answer_leaves_its_updates_unknown(self, org: Org, writable: Connector) -> None:
        (account,) = org.add_accounts(["Account 0001"])
        org.spoil(Fault.LOST, Calls.WRITES)

        results = writable.push([org.update(account, Decimal("41.5"))])

        assert outcomes(results) == [PushOutcome.UNKNOWN]
        (live,) = writer(writable).read(org.account_object, [account], [org.kpi_field])
        assert live.values == {org.kpi_field: Decimal("41.5")}

    @needs(Ability.WRITING, Ability.FAULTS)
    def test_a_cut_answer_to_a_write_leaves_its_updates_unknown(
        self, org: Org, writable: Connector
    ) -> None:
        (account,) = org.add_accounts(["Account 0001"])
        org.spoil(Fault.CUT, Calls.WRITES)

        results = writable.push([org.update(account, Decimal("41.5"))])

        assert outcomes(results) == [PushOutcome.UNKNOWN]

    @needs(Ability.WRITING, Ability.REFUSALS)
    def test_several_fields_of_a_record_share_its_fate(self, org: Org, writable: Connector) -> None:
        (account,) = org.add_accounts(["Account 0001"])
        other = replace(kpi_field(org), name=org.kpi_field.replace("test", "other"))
        writer(writable).create(org.account_object, [other], dry_run=False)
        org.refuse_writes_of(account)

        results = writable.push(
            [org.update(account, Decimal(1)), org.update(account, Decimal(2), other.name)]
        )

        assert outcomes(results) == [PushOutcome.FAILED] * 2

    @needs(Ability.WRITING, Ability.ADDRESS)
    def test_nothing_is_pushed_into_a_crm_that_is_down(self, org: Org) -> None:
        connector = connect(org.dead())

        with pytest.raises(CrmUnavailable):
            connector.push([org.update("1", Decimal(1))])

    @needs(Ability.WRITING, Ability.DELETIONS, Ability.MERGES)
    def test_a_deleted_record_is_left_out_and_a_merged_one_shows_its_winner(
        self, org: Org, writable: Connector
    ) -> None:
        deleted, merged, winner = org.add_accounts(["deleted", "merged", "winner"])
        writable.push([org.update(winner, Decimal(7))])
        org.delete_account(deleted)
        lives_on = org.merge_accounts(winner, [merged])

        live = writer(writable).read(org.account_object, [deleted, merged], [org.kpi_field])

        assert [(record.asked_id, record.record_id) for record in live] == [(merged, lives_on)]

    @needs(Ability.WRITING)
    def test_fields_are_created_once(self, org: Org, connector: Connector) -> None:
        target = writer(connector)

        rehearsed = target.create(org.account_object, [kpi_field(org)], dry_run=True)
        seen_before = org.kpi_field in target.fields(org.account_object)
        first = target.create(org.account_object, [kpi_field(org)], dry_run=False)
        second = target.create(org.account_object, [kpi_field(org)], dry_run=False)

        assert [result.outcome for result in rehearsed] == ["would_create"]
        assert not seen_before
        assert [result.outcome for result in first] == ["created"]
        assert [result.outcome for result in second] == ["present"]
        created = target.fields(org.account_object)[org.kpi_field]
        assert created.writable
        assert created.type is FieldType.NUMBER
