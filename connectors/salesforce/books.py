"""What an org says of its days and money, for people who write a first configuration.

Pages: Object Reference, "Organization", "CurrencyType".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from connectors.base import Books
from connectors.errors import MisconfiguredConnection, PermissionMissing, RequestRefused
from connectors.salesforce.client import SalesforceClient

_CLOSED: Final = (MisconfiguredConnection, PermissionMissing, RequestRefused)
"""An org need not show it, and one with a single currency has no CurrencyType."""
_MONTHS: Final = range(1, 13)


def books(client: SalesforceClient) -> Books:
    """Name, zone, currencies and fiscal year, as far as the connected user sees them."""
    org = _first(client, "SELECT Name, TimeZoneSidKey, FiscalYearStartMonth FROM Organization")
    month = org.get("FiscalYearStartMonth")
    currencies = _currencies(client)
    own = next((code for code, is_own in currencies.items() if is_own), None)
    return Books(
        name=_text(org.get("Name")),
        timezone=_text(org.get("TimeZoneSidKey")),
        currency=own,
        more_currencies=tuple(code for code in currencies if code != own),
        gives_rates=bool(currencies),
        fiscal_year_starts=month if type(month) is int and month in _MONTHS else None,
    )


def _first(client: SalesforceClient, soql: str) -> Mapping[str, Any]:
    try:
        rows = client.query(f"{soql} LIMIT 1", deleted_too=False).records
    except _CLOSED:
        return {}
    return rows[0] if rows else {}


def _currencies(client: SalesforceClient) -> dict[str, bool]:
    """Code -> whether it is the corporate one; empty in an org with a single currency."""
    try:
        rows = client.query_all(
            "SELECT IsoCode, IsCorporate FROM CurrencyType WHERE IsActive = true",
            deleted_too=False,
        )
    except _CLOSED:
        return {}
    return {str(row.get("IsoCode")): row.get("IsCorporate") is True for row in rows}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
