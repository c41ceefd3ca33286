"""Connection types come from entry points and are loaded when they are used."""

from __future__ import annotations

import subprocess
import sys
from zoneinfo import ZoneInfo

import pytest

from connectors.base import ConnectionSettings, Connector, WriteTarget
from connectors.errors import MisconfiguredConnection
from connectors.registry import connect, known_types
from store.canonical import Company


def settings_of(crm: str) -> ConnectionSettings:
    return ConnectionSettings(
        name="mine",
        type=crm,
        auth={},
        company=Company(ZoneInfo("UTC"), "EUR"),
        streams={},
    )


def test_both_crms_are_known() -> None:
    assert {"salesforce", "hubspot"} <= set(known_types())


def test_salesforce_is_opened_without_a_call() -> None:
    connector: Connector = connect(settings_of("salesforce"))

    assert isinstance(connector, WriteTarget)
    assert connector.capabilities.push_batch == 200
    assert connector.calls.made == 0


def test_an_unknown_type_names_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(MisconfiguredConnection) as caught:
        connect(settings_of("salesfroce"))

    assert "hubspot, salesforce" in str(caught.value)
    assert 'Did you mean "salesforce"?' in str(caught.value)


def test_the_registry_loads_no_client_of_any_crm() -> None:
    look = (
        "import sys, connectors.registry as r; r.known_types();"
        "print([m for m in ('simple_salesforce', 'hubspot') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
