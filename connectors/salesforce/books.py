"""What an org says of its days and money, for people who write a first configuration.

Pages: Object Reference, "Organization", "CurrencyType"; SOAP API Developer Guide,
"getUserInfo()": only there an org with a single currency says which it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from xml.sax.saxutils import escape

from simple_salesforce.api import Salesforce

from connectors.base import Books
from connectors.errors import MisconfiguredConnection, PermissionMissing, RequestRefused
from connectors.salesforce.client import SalesforceClient

_CLOSED: Final = (MisconfiguredConnection, PermissionMissing, RequestRefused)
"""An org need not show it, and one with a single currency has no CurrencyType."""
_MONTHS: Final = range(1, 13)
_USER_INFO: Final = (
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
    ' xmlns:urn="urn:partner.soap.sforce.com"><soapenv:Header><urn:SessionHeader>'
    "<urn:sessionId>{token}</urn:sessionId></urn:SessionHeader></soapenv:Header>"
    "<soapenv:Body><urn:getUserInfo/></soapenv:Body></soapenv:Envelope>"
)
_CURRENCY: Final = re.compile(r"<(?:\w+:)?orgDefaultCurrencyIsoCode>([A-Z]{3})</")


def books(client: SalesforceClient) -> Books:
    """Name, zone, currencies and fiscal year, as far as the connected user sees them."""
    org = _first(client, "SELECT Name, TimeZoneSidKey, FiscalYearStartMonth FROM Organization")
    month = org.get("FiscalYearStartMonth")
    currencies = _currencies(client)
    own = next((code for code, is_own in currencies.items() if is_own), None)
    if not currencies:
        own = client.read(_only_currency)
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


def _only_currency(library: Salesforce) -> str | None:
    """The currency of an org that has one; None where SOAP is closed to the user."""
    answer = library.session.post(
        f"https://{library.sf_instance}/services/Soap/u/{library.sf_version}",
        data=_USER_INFO.format(token=escape(library.session_id)),
        headers={"Content-Type": "text/xml; charset=UTF-8", "SOAPAction": '""'},
    )
    told = _CURRENCY.search(answer.text) if answer.status_code == HTTPStatus.OK else None
    return told.group(1) if told else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
