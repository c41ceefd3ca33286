"""Webhooks: an earlier trigger for pulls, never a source of values and never the only trigger.

A delivery is a list of up to 100 events, signed; it may come late, twice, or in any order, so all
that is taken from it is which streams are worth pulling now.
https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation
https://developers.hubspot.com/docs/api-reference/webhooks-webhooks-v3/guide
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

import orjson

from connectors.base import Stream

SIGNATURE: Final = "x-hubspot-signature-v3"
TIMESTAMP: Final = "x-hubspot-request-timestamp"

OLDEST: Final = timedelta(minutes=5)
"""HubSpot's own bound; what is older may be a delivery that somebody recorded and sends again."""
LARGEST_BODY: Final = 1_048_576
"""Bytes; a hundred events take less than a tenth of it."""

BAD_REQUEST: Final = 400
UNAUTHORIZED: Final = 401
TOO_LARGE: Final = 413

_DECODED: Final = MappingProxyType(
    {
        "%3A": ":", "%2F": "/", "%3F": "?", "%40": "@", "%21": "!", "%24": "$", "%27": "'",
        "%28": "(", "%29": ")", "%2A": "*", "%2C": ",", "%3B": ";",
    }
)  # fmt: skip
"""The only characters that HubSpot decodes in the address before it signs."""
_ENCODED: Final = re.compile("|".join(_DECODED), re.IGNORECASE)

_KINDS: Final = MappingProxyType(
    {
        "contact": "contacts",
        "company": "companies",
        "deal": "deals",
        "ticket": "tickets",
        "product": "products",
        "line_item": "line_items",
        "0-1": "contacts",
        "0-2": "companies",
        "0-3": "deals",
        "0-5": "tickets",
        "0-7": "products",
        "0-8": "line_items",
        "0-19": "feedback_submissions",
        "0-69": "subscriptions",
        "0-123": "orders",
    }
)
"""Kind of an event, or HubSpot's number of an object -> the object."""
_CUSTOM: Final = re.compile(r"2-\d+")
_STANDARD: Final = frozenset(_KINDS.values())


class DeliveryRefused(Exception):
    """A request that is no delivery of HubSpot's for this app.

    Attributes:
        status: The HTTP status to answer with.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, status)
        self.message = message
        self.status = status

    def __str__(self) -> str:
        """What is wrong with it."""
        return self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The parts of an HTTP request that HubSpot signs."""

    method: str
    uri: str
    """As the sender addressed it: with scheme, host and query, also behind a proxy."""
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def streams_of(
    delivery: Delivery,
    *,
    secret: str,
    now: datetime,
    streams: Sequence[Stream],
    portal_id: str | None = None,
    own_properties: frozenset[str] = frozenset(),
) -> frozenset[str]:
    """Which streams a delivery says have news.

    Args:
        delivery: What came in.
        secret: The client secret of the app.
        now: The instant at which it came in.
        streams: What the connection reads.
        portal_id: The connection's portal; events of another one are passed over.
        own_properties: Properties that kpisync itself writes: their changes are no news.

    Raises:
        DeliveryRefused: it is not signed by HubSpot for this app, too old, too large or no list
            of events.
    """
    verify(delivery, secret=secret, now=now)
    found: set[str] = set()
    for event in _events(delivery.body):
        is_elsewhere = portal_id is not None and str(event.get("portalId", portal_id)) != portal_id
        if is_elsewhere or event.get("propertyName") in own_properties:
            continue
        for changed in _objects_of(event):
            found.update(one.name for one in streams if _is_read_from(one, changed))
    return frozenset(found)


def verify(delivery: Delivery, *, secret: str, now: datetime) -> None:
    """See that a delivery comes from HubSpot, was meant for this address, and is fresh.

    Raises:
        DeliveryRefused: it does not, was not, or is not.
    """
    if len(delivery.body) > LARGEST_BODY:
        raise DeliveryRefused(
            f"The delivery has more than {LARGEST_BODY:,} bytes; HubSpot's have far less.",
            TOO_LARGE,
        )
    if not secret:
        raise DeliveryRefused("No client secret is configured: nothing can be verified.", 500)
    headers = {name.lower(): value for name, value in delivery.headers.items()}
    signature, timestamp = headers.get(SIGNATURE, ""), headers.get(TIMESTAMP, "")
    if not signature or not timestamp:
        raise DeliveryRefused("The delivery is not signed (version 3).", UNAUTHORIZED)
    if not _is_fresh(timestamp, now):
        raise DeliveryRefused(
            "The delivery's timestamp is more than five minutes from now; check this machine's"
            " clock if it is HubSpot's.",
            UNAUTHORIZED,
        )
    # Both are tried: a proxy in between may have decoded the address already.
    uris = {delivery.uri, _ENCODED.sub(lambda one: _DECODED[one[0].upper()], delivery.uri)}
    expected = [_signature(delivery, uri, timestamp, secret) for uri in sorted(uris)]
    given = signature.encode("utf-8", "replace")
    # Summed, not "any": how long it takes tells nothing of what was right.
    if not sum(hmac.compare_digest(one, given) for one in expected):
        raise DeliveryRefused(
            "The delivery's signature is not that of this app's client secret for this address.",
            UNAUTHORIZED,
        )


def _signature(delivery: Delivery, uri: str, timestamp: str, secret: str) -> bytes:
    signed = b"".join(
        (delivery.method.upper().encode(), uri.encode(), delivery.body, timestamp.encode())
    )
    return base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest())


def _is_fresh(timestamp: str, now: datetime) -> bool:
    if not re.fullmatch(r"[0-9]{1,15}", timestamp):
        return False
    age_seconds = now.timestamp() - int(timestamp) / 1000
    return abs(age_seconds) <= OLDEST.total_seconds()


def _events(body: bytes) -> Iterator[Mapping[str, object]]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = None
    listed = [content] if isinstance(content, dict) else content
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise DeliveryRefused("The delivery is no list of events.", BAD_REQUEST)
    yield from listed


def _objects_of(event: Mapping[str, object]) -> set[str]:
    """The objects that an event is about: two where a link between records has changed."""
    kind = str(event.get("subscriptionType", "")).partition(".")[0]
    between = str(event.get("associationType", "")).lower().partition("_to_")
    named = [
        kind,
        str(event.get("objectTypeId", "")),
        str(event.get("fromObjectTypeId", "")),
        str(event.get("toObjectTypeId", "")),
        between[0],
        between[2],
    ]
    return {_KINDS.get(one, one) for one in named if one in _KINDS or _CUSTOM.fullmatch(one)}


def _is_read_from(stream: Stream, changed: str) -> bool:
    native = _KINDS.get(stream.object, stream.object)
    if native == changed:
        return True
    # An event names a custom object by its number alone, the configuration often by its name.
    is_named = re.fullmatch(r"(p\d*_)?[a-z][a-z0-9_]*", native) is not None
    return bool(_CUSTOM.fullmatch(changed)) and is_named and native not in _BUILT_IN


_BUILT_IN: Final = _STANDARD | {"owners", "pipelines", "pipelines/deals", "campaigns", "currencies"}
