"""Salesforce keeps what every connector promises."""

from __future__ import annotations

import pytest

from connectors.contract.org import Org
from connectors.contract.suite import ConnectorContract
from tests.contract.connectors.salesforce_org import SalesforceOrg
from tests.fixtures.sandboxes import Sandbox


class TestSalesforce(ConnectorContract):
    """The suite, over the fake Salesforce org."""

    @pytest.fixture
    def org(self, sandbox: Sandbox) -> Org:
        return SalesforceOrg(sandbox.salesforce)
