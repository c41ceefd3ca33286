"""What the parts of the suite have in common: the org, connectors to it, and honest skips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import pytest

from connectors.base import Connector
from connectors.contract.copies import kpi_field, writer
from connectors.contract.org import Ability, Org
from connectors.registry import connect

F = TypeVar("F", bound=Callable[..., None])

NOT_SHOWN: Final = "not shown, for lack of "
"""How the reason of every skip of the suite begins; the plugin lists them."""

_NEEDS: Final = "kpisync_needs"


def needs(*abilities: Ability) -> Callable[[F], F]:
    """Mark a test that only makes sense where the CRM has these."""

    def mark(test: F) -> F:
        setattr(test, _NEEDS, abilities)
        return test

    return mark


class Part:
    """Some promises; the class that takes part gives the fixture `org`."""

    @pytest.fixture
    def org(self) -> Org:
        """A fresh and empty CRM."""
        raise NotImplementedError("give the test class a fixture `org` that returns your Org")

    @pytest.fixture(autouse=True)
    def _only_what_the_crm_has(self, request: pytest.FixtureRequest, org: Org) -> None:
        for ability in getattr(request.function, _NEEDS, ()):
            if ability in org.lacks:
                pytest.skip(f"{NOT_SHOWN}{ability}: {org.lacks[ability]}")

    @pytest.fixture
    def connector(self, org: Org) -> Connector:
        """A connector to it, opened through its entry point."""
        return connect(org.settings())

    @pytest.fixture
    def writable(self, org: Org) -> Connector:
        """A connector to an org whose accounts have the KPI field."""
        connector = connect(org.settings())
        writer(connector).create(org.account_object, [kpi_field(org)], dry_run=False)
        return connector
