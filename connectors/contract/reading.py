"""Promises of reading everything: each record once, resumable after any page."""

from __future__ import annotations

from decimal import Decimal

import pytest

from connectors.base import Connector
from connectors.contract.copies import Copy, stream_of
from connectors.contract.org import Ability, Org
from connectors.contract.part import Part, needs
from connectors.registry import connect
from store.canonical import Deal, StageChange


class Reading(Part):
    """Pulls of everything."""

    def test_streams_come_before_those_that_point_to_them(self, connector: Connector) -> None:
        names = [stream.name for stream in connector.streams()]

        order = ["owners", "stages", "accounts", "deals"]
        assert [name for name in names if name in order] == [one for one in order if one in names]
        assert {"accounts", "deals"} <= set(names)
        assert all(stream.yields[0] == stream.name for stream in connector.streams())

    def test_what_can_be_done_is_not_said_to_be_lacking(
        self, org: Org, connector: Connector
    ) -> None:
        can_write = {"fields", "read", "create"} <= set(dir(connector))

        assert can_write == (Ability.WRITING not in org.lacks)
        assert can_write == bool(connector.capabilities.object_streams)
        assert all(reason.strip() for reason in org.lacks.values())

    def test_a_full_pull_brings_every_record_once(self, org: Org, connector: Connector) -> None:
        names = [f"Account {number:04}" for number in range(450)]
        org.add_accounts(names)

        pages = list(connector.pull(stream_of(connector, "accounts"), None))

        read = [getattr(record, "name", "") for page in pages for record in page.records]
        assert sorted(read) == names
        assert [page.complete_until is not None for page in pages] == (
            [False] * (len(pages) - 1) + [True]
        )

    def test_keys_name_the_connection_and_the_crms_own_id(
        self, org: Org, connector: Connector
    ) -> None:
        (account,) = org.add_accounts(["Account 0001"])
        copy = Copy()

        copy.pull(connector, "accounts")

        (record,) = copy.records.values()
        assert record.ref.key == f"{org.name}:{account}"
        assert record.ref.stream == "accounts"

    def test_an_empty_stream_is_complete_too(self, connector: Connector) -> None:
        copy = Copy()

        copy.pull(connector, "deals")

        assert copy.records == {}
        assert copy.complete_until is not None

    def test_a_won_deal_has_its_stage_amount_and_day(self, org: Org, connector: Connector) -> None:
        (account,) = org.add_accounts(["Account 0001"])
        (deal_id,) = org.add_deals(1, amount=99.5, account=account)
        org.win(deal_id)
        deals = Copy()

        deals.pull(connector, "deals")

        deal = deals.records[deal_id]
        assert isinstance(deal, Deal)
        assert (deal.is_closed, deal.is_won, deal.amount) == (True, True, Decimal("99.5"))
        assert deal.account == f"{org.name}:{account}"
        assert deal.close_date is not None

    @needs(Ability.STAGES)
    def test_the_stage_of_a_deal_is_one_of_the_list(self, org: Org, connector: Connector) -> None:
        (deal_id,) = org.add_deals(1)
        deals, stages = Copy(), Copy()

        deals.pull(connector, "deals")
        stages.pull(connector, "stages")

        deal = deals.of(Deal)[deal_id]
        assert deal.stage in {record.ref.key for record in stages.records.values()}

    @needs(Ability.STAGE_HISTORY)
    def test_a_deal_has_the_history_of_its_stages(self, org: Org, connector: Connector) -> None:
        (deal_id,) = org.add_deals(1)
        org.win(deal_id)
        deals, changes = Copy(), Copy()

        deals.pull(connector, "deals")
        for stream in connector.streams():
            if "deal_stage_changes" in stream.yields:
                for page in connector.pull(stream, None):
                    changes.take(page)

        visited = [
            record.stage
            for record in changes.of(StageChange).values()
            if record.deal == f"{org.name}:{deal_id}"
        ]
        assert deals.of(Deal)[deal_id].stage in visited
        assert len(set(visited)) == 2

    @pytest.mark.parametrize("stop_after", [1, 2])
    def test_a_pull_goes_on_after_its_last_committed_page(self, org: Org, stop_after: int) -> None:
        names = {f"Account {number:04}" for number in range(450)}
        org.add_accounts(sorted(names))
        copy = Copy()
        copy.pull(connect(org.settings()), "accounts", pages=stop_after)
        before = len(copy.records)

        copy.pull(connect(org.settings()), "accounts")

        assert 0 < before < 450
        assert copy.names() == names
        assert copy.complete_until is not None

    @needs(Ability.IMPORTS)
    def test_more_rows_of_one_instant_than_a_page_come_once_each(
        self, org: Org, connector: Connector
    ) -> None:
        names = [f"Account {number:04}" for number in range(450)]
        org.import_accounts(names)

        pages = list(connector.pull(stream_of(connector, "accounts"), None))

        read = [getattr(record, "name", "") for page in pages for record in page.records]
        assert sorted(read) == names
        assert connector.calls.made < 20
