"""Webhooks: what happened in the portal, sent in signed batches ("Webhooks API" guide).

Up to 100 events a batch. They come at least once, in any order, and late: a batch that is not
answered with 2xx within five seconds is sent again. `X-HubSpot-Signature-v3` is the base64 of
HMAC-SHA256 over method, address, raw body and timestamp ("Validating requests").
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias
from urllib.parse import urlsplit

Event: TypeAlias = dict[str, object]

LARGEST_BATCH = 100
ANSWER_SECONDS = 5.0
MOST_ATTEMPTS = 10
FIRST_EVENT = 3_000_000_001
APP_ID = 54321


@dataclass(slots=True)
class Webhooks:
    """Where to send events, and those that wait to be sent."""

    url: str = ""
    """Empty: nobody has subscribed, nothing is kept."""
    secret: str = ""
    kinds: frozenset[str] = frozenset()
    """Subscription types such as `deal.propertyChange`; empty: all."""
    waiting: list[Event] = field(default_factory=list)
    given_up: int = 0
    """Events that nobody took after ten attempts."""
    _last_event: int = FIRST_EVENT

    def subscribe(self, url: str, secret: str, kinds: Sequence[str]) -> None:
        """Keep what happens from now on for this address; an empty one ends it."""
        self.url, self.secret, self.kinds = url, secret, frozenset(kinds)
        self.waiting.clear()

    def keep(
        self, kind: str, occurred_at: int, portal_id: int, details: Mapping[str, object]
    ) -> None:
        """Remember one thing that happened, where somebody has subscribed to it."""
        if not self.url or (self.kinds and kind not in self.kinds):
            return
        self._last_event += 1
        self.waiting.append(
            {
                "eventId": self._last_event,
                "subscriptionId": 1 + sum(map(ord, kind)),
                "portalId": portal_id,
                "appId": APP_ID,
                "occurredAt": occurred_at,
                "subscriptionType": kind,
                "attemptNumber": 0,
                **details,
            }
        )

    def take(self, random: Random, *, shuffle: bool, hold: int) -> list[list[Event]]:
        """The batches to send now; the last `hold` events stay for later."""
        ready = self.waiting[: max(len(self.waiting) - hold, 0)]
        self.waiting = self.waiting[len(ready) :]
        events = list(ready)
        if shuffle:
            random.shuffle(events)
        return [events[i : i + LARGEST_BATCH] for i in range(0, len(events), LARGEST_BATCH)]

    def put_back(self, batch: Sequence[Event]) -> None:
        """Nobody took these: they are sent again, up to ten times."""
        for event in batch:
            attempts = int(str(event["attemptNumber"])) + 1
            if attempts < MOST_ATTEMPTS:
                self.waiting.append({**event, "attemptNumber": attempts})
            else:
                self.given_up += 1


def send(url: str, secret: str, batch: Sequence[Event], *, age_seconds: float) -> int:
    """Post one batch and return the status of the answer; 0: there was none.

    Args:
        url: Where to.
        secret: The app's secret, for the signature.
        batch: The events.
        age_seconds: How long ago the timestamp says that it was sent.
    """
    body = json.dumps(list(batch), separators=(",", ":")).encode()
    stamp = str(int((time.time() - age_seconds) * 1000))
    headers = {
        "Content-Type": "application/json",
        "X-HubSpot-Signature-v3": signature(secret, "POST", url, body, stamp),
        "X-HubSpot-Request-Timestamp": stamp,
    }
    address = urlsplit(url)
    connection = http.client.HTTPConnection(
        address.hostname or "", address.port, timeout=ANSWER_SECONDS
    )
    target = f"{address.path or '/'}{'?' + address.query if address.query else ''}"
    try:
        connection.request("POST", target, body, headers)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
    return response.status


def signature(secret: str, method: str, url: str, body: bytes, stamp: str) -> str:
    """The third version of HubSpot's signature."""
    signed = method.encode() + url.encode() + body + stamp.encode()
    return base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
