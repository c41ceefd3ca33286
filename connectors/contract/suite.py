"""The contract suite: a new connector is done when it passes.

A package takes part by an `Org` for its CRM and a class in its tests::

    class TestExample(ConnectorContract):
        @pytest.fixture
        def org(self) -> Iterator[Org]:
            with tiny_crm() as crm:
                yield TinyOrg(crm)
"""

from __future__ import annotations

from connectors.contract.extras import Extras
from connectors.contract.increments import Increments
from connectors.contract.looking import Looking
from connectors.contract.reading import Reading
from connectors.contract.records import Records
from connectors.contract.troubles import Troubles
from connectors.contract.writing import Writing


class ConnectorContract(Reading, Increments, Troubles, Records, Writing, Looking, Extras):
    """Every promise of ``connectors.base``."""
