"""What a portal says of its days and money, for people who write a first configuration.

https://developers.hubspot.com/docs/api-reference/latest/account/account-information/guide
"""

from __future__ import annotations

from connectors.base import Books
from connectors.errors import PermissionMissing, RequestRefused
from connectors.hubspot.client import HubSpotClient
from connectors.hubspot.paths import EXCHANGE_RATES


def books(client: HubSpotClient) -> Books:
    """Zone and currencies, as far as the token sees them; a portal does not tell its name."""
    try:
        account = client.account
    except (PermissionMissing, RequestRefused):
        return Books()
    return Books(
        timezone=account.timezone,
        currency=account.currency,
        more_currencies=tuple(code for code in account.more_currencies if code != account.currency),
        gives_rates=bool(account.more_currencies) and _gives_rates(client),
    )


def _gives_rates(client: HubSpotClient) -> bool:
    try:
        client.resource(EXCHANGE_RATES, [("limit", "1")])
    except (PermissionMissing, RequestRefused):
        return False
    return True
