"""Promises of bad data: one record is set aside with its reason, the others live."""

from __future__ import annotations

import pytest

from connectors.base import Connector, FieldSource, StreamSettings
from connectors.contract.copies import Copy
from connectors.contract.org import Ability, Org
from connectors.contract.part import Part, needs
from connectors.errors import StreamPaused
from connectors.registry import connect
from store.canonical import Deal


class Records(Part):
    """Values, fields and stages that are not what they should be."""

    @needs(Ability.OWN_FIELDS)
    def test_a_value_that_cannot_be_read_rejects_its_record_and_no_other(self, org: Org) -> None:
        good, bad, infinite = org.add_deals(3)
        org.add_text_to_deals("amount_text__c", {good: "12.50", bad: "abc", infinite: "1e400"})
        mapping = {"amount": FieldSource("amount_text__c", "money")}
        connector = connect(org.settings(streams={"deals": StreamSettings(fields=mapping)}))
        copy = Copy()

        copy.pull(connector, "deals")

        assert set(copy.of(Deal)) == {good}
        assert set(copy.rejected) == {bad, infinite}
        fault = copy.rejected[bad]
        assert (fault.field, fault.code, fault.raw) == ("amount", "not_a_number", "abc")
        assert "amount_text__c" in fault.reason
        assert "Correct" in fault.reason

    @needs(Ability.OWN_FIELDS)
    def test_own_fields_are_read_by_their_type(self, org: Org) -> None:
        (deal_id,) = org.add_deals(1)
        org.add_text_to_deals("note__c", {deal_id: "77"})
        mapping = {
            "note": FieldSource("note__c"),
            "score": FieldSource("note__c", "integer"),
            "region": FieldSource("note__c", values={"77": "South"}),
        }
        connector = connect(org.settings(streams={"deals": StreamSettings(fields=mapping)}))
        copy = Copy()

        copy.pull(connector, "deals")

        deal = copy.of(Deal)[deal_id]
        assert dict(deal.extra) == {"note": "77", "score": 77}
        assert deal.region == "South"

    @needs(Ability.LOOSE_STAGES)
    def test_a_stage_nobody_knows_is_named_and_its_deal_lives(
        self, org: Org, connector: Connector
    ) -> None:
        (deal_id,) = org.add_deals(1)
        stage = org.to_unknown_stage(deal_id)
        copy = Copy()

        copy.pull(connector, "deals")

        assert deal_id in copy.records
        assert len([text for text in copy.warnings if stage in text]) == 1

    @needs(Ability.FIELD_RIGHTS)
    def test_a_missing_required_field_pauses_the_stream_and_is_named(
        self, org: Org, connector: Connector
    ) -> None:
        org.add_deals(1)
        name = org.hide_amounts()

        with pytest.raises(StreamPaused, match=name):
            Copy().pull(connector, "deals")

    @needs(Ability.OWN_FIELDS)
    def test_a_missing_own_field_is_a_warning_told_once(self, org: Org) -> None:
        ids = org.add_deals(3)
        mapping = {"note": FieldSource("no_such_field__c")}
        connector = connect(org.settings(streams={"deals": StreamSettings(fields=mapping)}))
        copy = Copy()

        copy.pull(connector, "deals")

        assert set(copy.of(Deal)) == set(ids)
        assert len([text for text in copy.warnings if "no_such_field__c" in text]) == 1
