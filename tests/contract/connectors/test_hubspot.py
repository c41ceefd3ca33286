"""HubSpot keeps what every connector promises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectors.base import Connector, FieldSource, StreamSettings
from connectors.registry import connect
from store.canonical import Deal
from tests.contract.connectors.hubspot_org import HubSpotOrg
from tests.contract.connectors.hubspot_portal import fresh
from tests.contract.connectors.suite import ConnectorContract, Copy, Org
from tests.fixtures.sandboxes import Sandbox, start_sandbox


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with start_sandbox() as sandbox:
        yield sandbox


@pytest.mark.parametrize("api_version", [None, "2026-09"], ids=["v3-v4", "dated"])
class TestHubSpot(ConnectorContract):
    """The suite, over the fake HubSpot portal, on either kind of path."""

    @pytest.fixture
    def org(self, shared: Sandbox, api_version: str | None) -> Org:
        return HubSpotOrg(fresh(shared.hubspot), api_version=api_version)

    def test_a_record_deleted_for_good_is_told(self, org: Org, connector: Connector) -> None:
        """HubSpot keeps no trace of it: only a pull of everything can tell."""
        kept, erased = org.add_accounts(["kept", "erased"])
        before, after = Copy(), Copy()
        before.pull(connector, "accounts")
        org.crm.erase(org.account_object, erased)

        after.pull(connector, "accounts")

        assert set(before.live) == {kept, erased}
        assert set(after.live) == {kept}

    # HubSpot's pages of deals carry the changes of their stages, too: these two tests of the
    # suite count deals only.

    def test_a_value_that_cannot_be_read_rejects_its_record_and_no_other(self, org: Org) -> None:
        good, bad, infinite = org.add_deals(3)
        org.add_text_to_deals("amount_text", {good: "12.50", bad: "abc", infinite: "1e400"})
        mapping = {"amount": FieldSource("amount_text", "money")}
        connector = connect(org.settings(streams={"deals": StreamSettings(fields=mapping)}))
        copy = Copy()

        copy.pull(connector, "deals")

        assert deals_of(copy) == {good}
        assert set(copy.rejected) == {bad, infinite}
        fault = copy.rejected[bad]
        assert (fault.field, fault.code, fault.raw) == ("amount", "not_a_number", "abc")
        assert "amount_text" in fault.reason
        assert "Correct" in fault.reason

    def test_a_missing_own_field_is_a_warning_told_once(self, org: Org) -> None:
        ids = org.add_deals(3)
        mapping = {"note": FieldSource("no_such_field")}
        connector = connect(org.settings(streams={"deals": StreamSettings(fields=mapping)}))
        copy = Copy()

        copy.pull(connector, "deals")

        assert deals_of(copy) == set(ids)
        assert len([text for text in copy.warnings if "no_such_field" in text]) == 1


def deals_of(copy: Copy) -> set[str]:
    return {key for key, record in copy.records.items() if isinstance(record, Deal)}
