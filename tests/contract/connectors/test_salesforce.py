"""Salesforce keeps what every connector promises."""

from __future__ import annotations

import pytest

from tests.contract.connectors.salesforce_org import SalesforceOrg
from tests.contract.connectors.suite import ConnectorContract, Org
from tests.fixtures.sandboxes import Sandbox


class TestSalesforce(ConnectorContract):
    """The suite, over the fake Salesforce org."""

    @pytest.fixture
    def org(self, sandbox: Sandbox) -> Org:
        return SalesforceOrg(sandbox.salesforce)
