"""Why Salesforce refuses a login, in words, with what a person has to do about it.

Pages: Salesforce Help, "OAuth 2.0 Authorization Errors"; SOAP API Developer Guide, "login()".
The descriptions are Salesforce's own; they are found by parts of them, because they vary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from connectors.errors import AuthenticationFailed, ConnectorError, RateLimited
from connectors.salesforce.faults import Refusal

_TOLERATED_SECONDS: Final = 90
"""A clock that differs by less does not spoil an assertion that lives for three minutes."""
_LOGIN_RATE_SECONDS: Final = 900.0


@dataclass(frozen=True, slots=True)
class _Cause:
    marks: tuple[str, ...]
    """Parts of Salesforce's code or description, in lower case; one of them is enough."""
    words: str


_APP: Final = "the app (Setup > External Client App Manager)"

# An ended certificate alone rarely refuses a login: Salesforce goes on trusting its key.
_SIGNATURE: Final = (
    "The signature is not accepted: auth.private_key does not belong to the app's certificate."
    " Compare the two (openssl pkey -pubout and openssl x509 -pubkey show the same text), or make"
    " a new pair and upload its certificate to the app."
)
_ENDED: Final = (
    "The app's certificate has ended. Make a new key and certificate, upload the certificate to"
    f" {_APP}, and set auth.private_key to the new key."
)
_LATE: Final = "The assertion came too late; check this machine's clock (time synchronisation)."

_CAUSES: Final = (
    _Cause(
        ("invalid_login",),
        "User name, password or security token are wrong, or the user is locked out. Check"
        " auth.username, auth.password, auth.security_token, and that auth.domain is test or the"
        " sandbox's My Domain for a sandbox.",
    ),
    _Cause(
        ("hasn't approved this consumer", "not admin approved", "invalid_app_access"),
        "The user is not authorised for the app beforehand. In the policies of "
        f"{_APP} set Permitted Users to admin-approved users, and assign the app to the user by a"
        " permission set or profile.",
    ),
    _Cause(
        ("audience",),
        "The org is of another kind than auth.domain says. Give a sandbox its own My Domain"
        " (acme--uat.sandbox.my) or test; for production acme.my or login.",
    ),
    _Cause(
        ("not supported on this domain",),
        "This host does not serve the flow: set auth.domain to your org's My Domain"
        " (Setup > My Domain), such as acme.my, or acme--uat.sandbox.my for a sandbox.",
    ),
    _Cause(
        ("no client credentials user",),
        f"No user stands behind {_APP}: enable the client credentials flow in its policies, and"
        " choose a user to run as.",
    ),
    _Cause(
        ("ip restricted", "restricted_domain", "restricted ip"),
        "The user may not log in from this machine's address. Add the address to the login IP"
        " ranges of the user's profile, or relax the IP restrictions in the policies of the app.",
    ),
    _Cause(
        ("login_during_restricted_time", "not allowed to log in at this time", "login hours"),
        "The user may not log in at this hour. Widen the login hours of the user's profile.",
    ),
    _Cause(
        ("inactive user", "inactive_user", "user is inactive"),
        "The user is deactivated. Activate it (Setup > Users), or connect another user.",
    ),
    _Cause(
        ("user is locked", "password_lockout"),
        "The user is locked after failed logins. Unlock it (Setup > Users), and correct the"
        " credentials before the next attempt.",
    ),
    _Cause(
        ("inactive org", "org_locked", "inactive_org"),
        "The org is locked or inactive. Talk to its administrator.",
    ),
    _Cause(
        ("invalid_client_id", "client identifier invalid", "app_not_found"),
        "Salesforce knows no app of this consumer key. Check auth.client_id and auth.domain; a new"
        " app works some minutes after it was made.",
    ),
    _Cause(
        ("invalid client credentials", "invalid_client"),
        "The consumer secret is not that of the app. Check auth.client_id and auth.client_secret"
        " with Setup > External Client App Manager.",
    ),
    _Cause(
        ("expired certificate", "certificate expired", "certificate has expired"),
        _ENDED,
    ),
    _Cause(
        ("invalid assertion", "invalid signature", "certificate"),
        _SIGNATURE,
    ),
    _Cause(
        ("user identifier", "invalid user", "invalid_user"),
        "Salesforce knows no user of the name auth.username in this org. In a sandbox user names"
        " carry the sandbox's name at their end.",
    ),
    _Cause(
        ("unsupported_grant_type", "grant type not supported", "flow is not enabled"),
        f"The flow is switched off: enable it in the settings and policies of {_APP}.",
    ),
    _Cause(
        ("login() is disabled", "unsupported_api_version"),
        "The org does not allow SOAP login() any more. Use auth.flow: client_credentials or jwt"
        " (docs/salesforce.md).",
    ),
    _Cause(
        ("must_use_security_token",),
        "From this address the login needs the user's security token: set auth.security_token.",
    ),
    _Cause(
        ("api_disabled", "api_currently_disabled"),
        "The org or the user may not use the API. Give the user the permission API Enabled; the"
        " org's edition must include the API.",
    ),
)

_USUAL: Final[Mapping[str, str]] = {
    "client_credentials": "Check auth.client_id and auth.client_secret, and that the app allows the"
    " client credentials flow with a user to run as.",
    "jwt": "Check auth.client_id, auth.username and auth.private_key, and that the user is"
    " authorised for the app beforehand.",
    "password": "Check auth.username, auth.password and auth.security_token.",
}

_ANY_FLOW: Final = "Compare the credentials in auth with the app in Setup."


class LoginRefused(AuthenticationFailed):
    """A refused login, with what a person has to do about it."""

    def __init__(self, connection: str, told: str, remedy: str) -> None:
        super().__init__(connection, f"{told} {remedy}")
        self.args = (connection, told, remedy)
        self.told = told
        self.remedy = remedy


def explain(
    connection: str, flow: str, refusal: Refusal, headers: Mapping[str, str]
) -> ConnectorError:
    """The error for a login that Salesforce refuses."""
    said = f"{refusal.code} {refusal.message}".lower()
    told = f"Salesforce refuses the login: {refusal.text}."
    if "rate exceeded" in said or "rate_exceeded" in said:
        return RateLimited(connection, f"{told} Too many logins.", _LOGIN_RATE_SECONDS)
    words = next(
        (cause.words for cause in _CAUSES if any(mark in said for mark in cause.marks)), ""
    )
    if flow == "jwt" and (clock := _clock_words(said, clock_skew(headers), words)):
        words = clock
    return LoginRefused(connection, told, words or _USUAL.get(flow, _ANY_FLOW))


def clock_skew(headers: Mapping[str, str]) -> float:
    """Seconds by which this machine's clock is ahead of the server's; 0 where nobody says."""
    try:
        told = parsedate_to_datetime(headers["Date"])
    except (KeyError, ValueError):
        return 0.0
    if told.tzinfo is None:
        # RFC 5322 writes -0000 where a zone is not told; an HTTP date is always UTC.
        told = told.replace(tzinfo=UTC)
    return (datetime.now(UTC) - told).total_seconds()


def _clock_words(said: str, skew: float, other_words: str) -> str:
    """What the clocks have to do with it; nothing where Salesforce names another reason."""
    is_late = "expired authorization code" in said or "assertion expired" in said
    if abs(skew) <= _TOLERATED_SECONDS:
        return _LATE if is_late else ""
    if not is_late and other_words not in {"", _SIGNATURE}:
        return ""
    direction = "ahead of" if skew > 0 else "behind"
    return (
        f"This machine's clock is {abs(skew):,.0f} seconds {direction} Salesforce's, and"
        " a JWT login allows no more than three minutes. Set the clock (time synchronisation)."
    )
