"""Where HubSpot's endpoints are: every path is made here, from the configured API version.

HubSpot is leaving ``/crm/v3/...`` and ``/crm/v4/...`` for paths that carry a date
(``/crm/objects/2026-09/deals``). The client library only knows the old ones, so what it builds
is rewritten on its way out; bodies are the same in both.
https://developers.hubspot.com/docs/developer-tooling/platform/versioning
"""

from __future__ import annotations

import re
from typing import Final

LEGACY: Final = "v3"
"""The version of paths that carry no date (associations are v4 there)."""

ACCOUNT_DETAILS: Final = "/account-info/v3/details"
DAILY_USAGE: Final = "/account-info/v3/api-usage/daily/private-apps"
SCHEMAS: Final = "/crm/v3/schemas"
CAMPAIGNS: Final = "/marketing/v3/campaigns"
EXCHANGE_RATES: Final = "/settings/v3/currencies/exchange-rates"
EMAILS: Final = "/marketing/v3/emails"
EMAIL_HISTOGRAM: Final = "/marketing/v3/emails/statistics/histogram"
STATIC_TOKEN_INFO: Final = "/oauth/v2/private-apps/get/access-token-info"  # noqa: S105 - an address
"""Undated in every version. https://developers.hubspot.com/docs/apps/legacy-apps/private-apps"""

_LEGACY_NAMES: Final = frozenset({LEGACY, "v4", "v3/v4"})
_DATE: Final = re.compile(r"20\d\d-(0[1-9]|1[0-2])")

_UNDATED: Final = frozenset({STATIC_TOKEN_INFO})

_ONE_RECORDS_LINKS: Final = re.compile(r"^/crm/v4/objects/[^/]+/[^/]+/associations/")

_DATED: Final = (
    (re.compile(r"^/crm/v3/objects(?=/)"), "/crm/objects/{date}"),
    (re.compile(r"^/crm/v4/associations(?=/)"), "/crm/associations/{date}"),
    (re.compile(r"^/crm/v3/(properties|pipelines|owners)(?=/|$)"), r"/crm/\1/{date}"),
    (
        re.compile(r"^/crm(?:-object-schemas)?/v3/schemas(?=/|$)"),
        "/crm-object-schemas/{date}/schemas",
    ),
    (re.compile(r"^/marketing/v3/(campaigns|emails)(?=/|$)"), r"/marketing/\1/{date}"),
    (re.compile(r"^/account-info/v3(?=/)"), "/account-info/{date}"),
    (re.compile(r"^/settings/v3/currencies(?=/)"), "/settings/currencies/{date}"),
    (re.compile(r"^/oauth/v1/token$"), "/oauth/{date}/token"),
)


def is_version(text: str) -> bool:
    """Whether `text` names a version of the API: ``v3``, ``v4`` or a date such as ``2026-09``."""
    return text in _LEGACY_NAMES or _DATE.fullmatch(text) is not None


def versioned(path: str, version: str) -> str:
    """The path under which `version` serves what the client library knows as `path`.

    Raises:
        ValueError: the path has no known twin in that version.
    """
    if version in _LEGACY_NAMES or path in _UNDATED:
        return path.rstrip("/")
    if _ONE_RECORDS_LINKS.match(path):
        raise ValueError(
            "the links of one record cannot be asked for under dated paths: read them by batch"
        )
    for pattern, replacement in _DATED:
        if pattern.match(path):
            return pattern.sub(replacement.format(date=version), path).rstrip("/")
    raise ValueError(f"no dated form of the path {path} is known")
