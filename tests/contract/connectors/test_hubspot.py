"""HubSpot keeps what every connector promises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectors.contract.org import Org
from connectors.contract.suite import ConnectorContract
from tests.contract.connectors.hubspot_org import HubSpotOrg
from tests.contract.connectors.hubspot_portal import fresh
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
